"""The starter in C++: onnxruntime's C++ API, tokenizers-cpp for texts, built by CMake.

Its files are in the folder `cpp` next to this module.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from importlib import resources

import numpy as np

from edgeq.core.artifact import Artifact
from edgeq.core.tasks import task_of

INPUTS_FOLDER = "inputs"
_DTYPES = {
    *("float16", "float32", "float64", "bool"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
_SHARED = ("CMakeLists.txt", "session.hpp", "selftest.cpp")
_KINDS = {
    "encoder": ("encoder.hpp", "encoder_main.cpp", ("text.hpp", "tokenizer.hpp")),
    "classifier": ("classifier.hpp", "classifier_main.cpp", ("text.hpp", "tokenizer.hpp")),
    "tensor": ("tensor.hpp", "tensor_main.cpp", ()),
}
_README = """\
# {name} in C++

Unpack a [release of ONNX Runtime](https://github.com/microsoft/onnxruntime/releases) for your
system, 1.23 or later, e.g. `onnxruntime-linux-x64-1.31.1.tgz`; install nlohmann-json (Debian:
`nlohmann-json3-dev`), CMake and a C++17 compiler. Then:

{build}

`bundle/` is the bundle, unpacked; its README says what the model takes and gives. `model.hpp` is
yours to change: after a change, run the self-test.
"""
_TEXT_BUILD = """\
    git clone --recursive https://github.com/mlc-ai/tokenizers-cpp
    cmake -B build -DONNXRUNTIME=/path/to/onnxruntime-linux-x64-1.31.1 -DTOKENIZERS=tokenizers-cpp
    cmake --build build
    build/selftest
    build/main {example}

tokenizers-cpp wraps Hugging Face's tokenizers, the library that the check used; it needs a Rust
toolchain. Without `-DTOKENIZERS=…`, the self-test runs on its token ids, and the program takes no
text."""
_TENSOR_BUILD = """\
    cmake -B build -DONNXRUNTIME=/path/to/onnxruntime-linux-x64-1.31.1
    cmake --build build
    build/selftest
    build/main

`inputs/` has the arrays of the self-test, as the C++ program reads them."""
_EXAMPLES = {
    "encoder": '"how do I reset my password" "steps to change a login" "rain tomorrow"',
    "classifier": '"it works well" "it broke on the first day"',
}


def runs(artifact: Artifact) -> bool:
    """Whether this starter can run the artifact."""
    return _kind(artifact) is not None


def files(artifact: Artifact, name: str, arrays: bytes | None) -> dict[str, bytes]:
    """Files of the program, by name. arrays: the self-test's `.npz`, for a model of arrays."""
    kind = _kind(artifact)
    assert kind is not None  # the caller asks first
    model, main, more = _KINDS[kind]
    build = _TEXT_BUILD.format(example=_EXAMPLES[kind]) if more else _TENSOR_BUILD
    written = {
        **{
            file: _source(file) for file in ("CMakeLists.txt", "session.hpp", "selftest.cpp", *more)
        },
        "model.hpp": _source(model),
        "main.cpp": _source(main),
        "README.md": _README.format(name=name, build=build).encode(),
    }
    return written if arrays is None else {**written, **_inputs(arrays)}


def _kind(artifact: Artifact) -> str | None:
    task = task_of(artifact.task)
    if task.embeds:
        return "encoder"
    if artifact.image is not None:
        return None
    if artifact.classes is not None:
        return "classifier"
    values = (*artifact.inputs, *artifact.outputs)
    takes_arrays = artifact.text is None and not task.generates
    return "tensor" if takes_arrays and {value.dtype for value in values} <= _DTYPES else None


def _source(name: str) -> bytes:
    return (resources.files("edgeq.pipeline.starters") / "cpp" / name).read_bytes()


def _inputs(arrays: bytes) -> dict[str, bytes]:
    """The arrays as bare bytes, and a table of them: nothing that C++ has to unpack."""
    written: dict[str, bytes] = {}
    table: Mapping[str, object]
    with np.load(io.BytesIO(arrays)) as values:
        for number, name in enumerate(values.files):
            written[f"{INPUTS_FOLDER}/{number}.bin"] = np.ascontiguousarray(values[name]).tobytes()
        table = {
            name: {
                "file": f"{number}.bin",
                "dtype": values[name].dtype.name,
                "shape": values[name].shape,
            }
            for number, name in enumerate(values.files)
        }
    written[f"{INPUTS_FOLDER}/inputs.json"] = json.dumps(table, indent=2).encode() + b"\n"
    return written
