"""The starters in C++: onnxruntime's C++ API, or llama.cpp for GGUF; built by CMake.

Their files are in the folder `cpp` next to this module.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.core.artifact import Artifact
from edgeq.pipeline.starters.kinds import DTYPES, Kind, dtypes_of, kind_of, source, unpacked

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
_GGUF_BUILD = """\
Install nlohmann-json (Debian: `nlohmann-json3-dev`), CMake and a C++17 compiler. Then:

    git clone https://github.com/ggml-org/llama.cpp
    cmake -B build -DLLAMA=llama.cpp
    cmake --build build
    build/selftest
    build/main "It was"

The tokenizer is in the model's file, and llama.cpp reads it."""


@dataclass(frozen=True)
class _Program:
    """The files of one kind of model, and how they are built."""

    model: str
    main: str
    shared: tuple[str, ...]
    build: str
    cmake: str = "onnxruntime.cmake"


_OF_TEXT = ("session.hpp", "text.hpp", "tokenizer.hpp")
_ENCODER = _Program(
    "encoder.hpp",
    "encoder_main.cpp",
    _OF_TEXT,
    _TEXT_BUILD.format(
        example='"how do I reset my password" "steps to change a login" "rain tomorrow"'
    ),
)
_CLASSIFIER = _Program(
    "classifier.hpp",
    "classifier_main.cpp",
    _OF_TEXT,
    _TEXT_BUILD.format(example='"it works well" "it broke on the first day"'),
)
_DECODER = _Program(
    "decoder.hpp",
    "language_main.cpp",
    ("session.hpp", "tokenizer.hpp"),
    _TEXT_BUILD.format(example='"It was"'),
)
_TENSOR = _Program("tensor.hpp", "tensor_main.cpp", ("session.hpp",), _TENSOR_BUILD)
_GGUF = _Program("gguf.hpp", "language_main.cpp", (), _GGUF_BUILD, "gguf.cmake")
_PROGRAMS: dict[Kind, _Program] = {
    "encoder": _ENCODER,
    "classifier": _CLASSIFIER,
    "arrays": _TENSOR,
    "decoder": _DECODER,
    "gguf": _GGUF,
}


def runs(artifact: Artifact) -> bool:
    """Whether this starter can run the artifact."""
    kind = kind_of(artifact)
    return kind is not None and (kind != "arrays" or dtypes_of(artifact) <= DTYPES)


def files(artifact: Artifact, name: str, arrays: bytes | None) -> dict[str, bytes]:
    """Files of the program, by name. arrays: the self-test's `.npz`, for a model of arrays."""
    kind = kind_of(artifact)
    assert kind is not None  # the caller asks first
    program = _PROGRAMS[kind]
    shared = ("answer.hpp", "selftest.cpp", *program.shared)
    written = {
        **{file: source("cpp", file) for file in shared},
        "CMakeLists.txt": source("cpp", program.cmake),
        "model.hpp": source("cpp", program.model),
        "main.cpp": source("cpp", program.main),
        "README.md": _README.format(name=name, build=program.build).encode(),
    }
    return written if arrays is None else {**written, **unpacked(arrays)}
