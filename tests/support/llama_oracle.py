"""llama.cpp's own quantizer, for an interpreter that has llama-cpp-python and need not have edgeq.

    python tests/llama_oracle.py < jobs.json

Standard input is a list of jobs: `source` and `destination` (GGUF files), `file_type` (the number),
and optionally `threads`, `importance` (an .npz file, float32 arrays by tensor name) and `overrides`
(metadata to add: text or whole numbers). Prints for each the seconds, those of all threads together
(`cpu`), and what was said on failure.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from typing import Any

import llama_cpp
import numpy as np

_ERROR, _INTEGER, _TEXT = 4, 0, 3  # ggml_log_level, llama_model_kv_override_type
_said: list[str] = []


def _log(level: int, text: bytes, _user_data: Any) -> None:
    if level == _ERROR:
        _said.append(text.decode("utf-8", "replace").strip())


_LOG = llama_cpp.llama_log_callback(_log)


def quantize(job: dict[str, Any]) -> dict[str, Any]:
    """One job; `seconds` and `cpu` of the call alone, `failure` empty where there was none."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = job.get("threads", 0)
    params.ftype = job["file_type"]
    kept = []
    if job.get("importance"):
        held = {name: np.ascontiguousarray(x) for name, x in np.load(job["importance"]).items()}
        entries = (llama_cpp.llama_model_imatrix_data * (len(held) + 1))()
        for entry, (name, values) in zip(entries, held.items(), strict=False):
            entry.name = name.encode()
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            entry.size = values.size
        params.imatrix = entries
        kept += [held, entries]
    if job.get("overrides"):
        added = (llama_cpp.llama_model_kv_override * (len(job["overrides"]) + 1))()
        for override, (key, value) in zip(added, job["overrides"].items(), strict=False):
            override.key = key.encode()
            if isinstance(value, str):
                override.tag = _TEXT
                override.value.val_str = value.encode()
            else:
                override.tag = _INTEGER
                override.value.val_i64 = value
        params.kv_overrides = added
        kept.append(added)
    _said.clear()
    start, cpu = time.perf_counter(), time.process_time()
    failed = llama_cpp.llama_model_quantize(
        job["source"].encode(), job["destination"].encode(), ctypes.byref(params)
    )
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu": cpu,
        "failure": " ".join(_said) or "no reason" if failed else "",
    }


def main() -> None:
    """Do the jobs."""
    llama_cpp.llama_log_set(_LOG, None)
    llama_cpp.llama_backend_init()
    print(json.dumps([quantize(job) for job in json.load(sys.stdin)]))


if __name__ == "__main__":
    main()
