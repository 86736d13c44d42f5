"""llama.cpp's structures in C, as `edgeq.quantize.ggml.llama_abi` declares them for ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

from edgeq.quantize.ggml.llama_abi import (
    BATCH_BYTES,
    BUILDS,
    DEFAULTS,
    MODEL_BYTES,
    MODEL_DEFAULTS,
    Batch,
    ModelParams,
)

BUILD = BUILDS["xllamacpp"]
"""The wheel that carries the library for both of a device's CPUs."""
_KINDS: Mapping[Any, str] = {
    ctypes.c_int32: "int32_t",
    ctypes.c_uint32: "uint32_t",
    ctypes.c_float: "float",
    ctypes.c_bool: "bool",
    ctypes.c_size_t: "size_t",
}  # anything else is a pointer


def llama_header() -> str:
    """The header `llama_abi.hpp`, for the runner's source."""
    parts = [
        "#pragma once\n#include <cstddef>\n#include <cstdint>\nnamespace llama_abi {",
        f'constexpr char kRuntime[] = "llama.cpp of {BUILD.distribution} {BUILD.version}";',
        _structure("ModelParams", ModelParams, MODEL_BYTES),
        _structure("ContextParams", BUILD.context_params, BUILD.context_bytes),
        _structure("Batch", Batch, BATCH_BYTES),
        _check("ModelParams", MODEL_DEFAULTS),
        _check("ContextParams", DEFAULTS),
        "}  // namespace llama_abi\n",
    ]
    return "\n".join(parts)


def _structure(name: str, kind: type[ctypes.Structure], size: int) -> str:
    fields: Any = kind._fields_
    lines = "".join(f"  {_KINDS.get(type, 'void*')} {field};\n" for field, type in fields)
    return f'struct {name} {{\n{lines}}};\nstatic_assert(sizeof({name}) == {size}, "{name}");'


def _check(name: str, defaults: Mapping[str, Any]) -> str:
    """A function that returns the field with another default than the known one; null if none."""
    tests = "".join(
        f'  if (given.{field} != {str(value).lower()}) return "{field}";\n'
        for field, value in defaults.items()
    )
    return f"inline const char* unknown(const {name}& given) {{\n{tests}  return nullptr;\n}}"
