"""The starters in C++: onnxruntime's C++ API, or llama.cpp for GGUF; built by CMake.

Their files are in the folder `cpp` next to this module.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from importlib import resources

import numpy as np

from edgeq.core.artifact import GGUF_FILE, MODEL_FILE, Artifact
from edgeq.core.tasks import task_of

INPUTS_FOLDER = "inputs"
_DTYPES = {
    *("float16", "float32", "float64", "bool"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
_README = """\
# {name} in C++

{build}

`bundle/` is the bundle, unpacked; its README says what the model takes and gives. `model.hpp` is
yours to change: after a change, run the self-test.
"""
_ONNXRUNTIME = """\
Unpack a [release of ONNX Runtime](https://github.com/microsoft/onnxruntime/releases) for your
system, 1.23 or later, e.g. `onnxruntime-linux-x64-1.31.1.tgz`; install nlohmann-json (Debian:
`nlohmann-json3-dev`), CMake and a C++17 compiler. Then:
"""
_TEXT_BUILD = (
    _ONNXRUNTIME
    + """
    git clone --recursive https://github.com/mlc-ai/tokenizers-cpp
    cmake -B build -DONNXRUNTIME=/path/to/onnxruntime-linux-x64-1.31.1 -DTOKENIZERS=tokenizers-cpp
    cmake --build build
    build/selftest
    build/main {example}

tokenizers-cpp wraps Hugging Face's tokenizers, the library that the check used; it needs a Rust
toolchain. Without `-DTOKENIZERS=…`, the self-test runs on its token ids, and the program takes no
text."""
)
_TENSOR_BUILD = (
    _ONNXRUNTIME
    + """
    cmake -B build -DONNXRUNTIME=/path/to/onnxruntime-linux-x64-1.31.1
    cmake --build build
    build/selftest
    build/main

`inputs/` has the arrays of the self-test, as the C++ program reads them."""
)
_LANGUAGE_BUILD = """\
Install nlohmann-json (Debian: `nlohmann-json3-dev`), CMake and a C++17 compiler. Then:

    git clone https://github.com/ggml-org/llama.cpp
    cmake -B build -DLLAMA=llama.cpp
    cmake --build build
    build/selftest
    build/main "It was"

The tokenizer is in the model's file, and llama.cpp reads it."""


@dataclass(frozen=True)
class _Kind:
    """The files of one kind of model, and how they are built."""

    model: str
    main: str
    shared: tuple[str, ...]
    build: str
    cmake: str = "onnxruntime.cmake"


_OF_TEXT = ("session.hpp", "text.hpp", "tokenizer.hpp")
_ENCODER = _Kind(
    "encoder.hpp",
    "encoder_main.cpp",
    _OF_TEXT,
    _TEXT_BUILD.format(
        example='"how do I reset my password" "steps to change a login" "rain tomorrow"'
    ),
)
_CLASSIFIER = _Kind(
    "classifier.hpp",
    "classifier_main.cpp",
    _OF_TEXT,
    _TEXT_BUILD.format(example='"it works well" "it broke on the first day"'),
)
_TENSOR = _Kind("tensor.hpp", "tensor_main.cpp", ("session.hpp",), _TENSOR_BUILD)
_LANGUAGE = _Kind("language.hpp", "language_main.cpp", (), _LANGUAGE_BUILD, "language.cmake")


def runs(artifact: Artifact) -> bool:
    """Whether this starter can run the artifact."""
    return _kind(artifact) is not None


def files(artifact: Artifact, name: str, arrays: bytes | None) -> dict[str, bytes]:
    """Files of the program, by name. arrays: the self-test's `.npz`, for a model of arrays."""
    kind = _kind(artifact)
    assert kind is not None  # the caller asks first
    written = {
        **{file: _source(file) for file in ("answer.hpp", "selftest.cpp", *kind.shared)},
        "CMakeLists.txt": _source(kind.cmake),
        "model.hpp": _source(kind.model),
        "main.cpp": _source(kind.main),
        "README.md": _README.format(name=name, build=kind.build).encode(),
    }
    return written if arrays is None else {**written, **_inputs(arrays)}


def _kind(artifact: Artifact) -> _Kind | None:
    task = task_of(artifact.task)
    if task.generates:
        return _LANGUAGE if GGUF_FILE in artifact.files else None
    if MODEL_FILE not in artifact.files or artifact.image is not None:
        return None
    if task.embeds:
        return _ENCODER
    if task.classifies:
        return _CLASSIFIER
    values = (*artifact.inputs, *artifact.outputs)
    takes_arrays = artifact.text is None and {value.dtype for value in values} <= _DTYPES
    return _TENSOR if takes_arrays else None


def _source(name: str) -> bytes:
    return (resources.files("edgeq.pipeline.starters") / "cpp" / name).read_bytes()


def _inputs(arrays: bytes) -> dict[str, bytes]:
    """The arrays as bare bytes, and a table of them: nothing that C++ has to unpack."""
    written: dict[str, bytes] = {}
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
