"""Loads the libraries that passes load, on a CPU with hidden instruction sets.

Prints JSON: `heard`, the features that numpy detected by asking the CPU itself; `here`, this
device.
"""

from __future__ import annotations

import contextlib
import importlib
import json

from edgeq.devices import detect


def main() -> None:
    """Load every installed runtime, then print the results."""
    for name in ("measure.worker", "formats.onnx.decoder", "formats.onnx.model"):
        importlib.import_module(f"edgeq.{name}")
    with contextlib.suppress(Exception):  # without llama.cpp none will be loaded
        importlib.import_module("edgeq.quantize.ggml.llama_api").library()
    features = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__
    heard = [name for name in features if features[name]]
    print(json.dumps({"heard": heard, "here": detect.detect().model_dump_json()}))


if __name__ == "__main__":
    main()
