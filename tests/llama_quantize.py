"""llama.cpp's own quantizer, as a command: the oracle that our files are compared with.

Runs in an interpreter that has llama-cpp-python, which is the package with the whole C interface:

    python llama_quantize.py JOBS.json

A job is {"source", "destination", "file_type", "importance": null or an .npz of float32 by name}.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import llama_cpp
import numpy as np


def quantize(job: dict[str, Any]) -> None:
    """Do one job; SystemExit where llama.cpp refuses."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = job["file_type"]
    params.nthread = job.get("threads", 2)
    if job["importance"]:
        held = dict(np.load(job["importance"]))
        kind = llama_cpp.llama_model_imatrix_data
        entries = (kind * (len(held) + 1))()
        for entry, (name, values) in zip(entries, held.items(), strict=False):
            entry.name, entry.size = name.encode(), values.size
            entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        params.imatrix = ctypes.cast(entries, ctypes.POINTER(kind))
    paths = (job["source"].encode(), job["destination"].encode())
    if llama_cpp.llama_model_quantize(*paths, ctypes.byref(params)):
        sys.exit(f"llama.cpp refused {job}")


if __name__ == "__main__":
    with open(sys.argv[1]) as file:  # noqa: PTH123 - any Python may run this
        for each in json.load(file):
            quantize(each)
