"""llama.cpp's own quantizer through ctypes: the rounding that GGUF types are defined by.

What it does not check itself is checked here: rows of whole blocks, and importance where a type
cannot do without.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import InvalidInput, Problem
from edgeq.gguf.llama_api import library
from edgeq.gguf.types import GgmlType

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_pointer, _long = ctypes.c_void_p, ctypes.c_int64


@functools.cache
def _functions() -> ctypes.CDLL:
    lib = library().lib
    lib.ggml_quantize_chunk.argtypes = [
        *(ctypes.c_int, _pointer, _pointer, _long, _long, _long, _pointer)
    ]
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_requires_imatrix.argtypes = [ctypes.c_int]
    lib.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    return lib


def requires_importance(type: GgmlType) -> bool:
    """Whether a type is too coarse to be rounded without knowing which inputs matter."""
    return bool(_functions().ggml_quantize_requires_imatrix(type.id))


def quantize_rows(type: GgmlType, rows: Floats, importance: Floats | None) -> Bytes:
    """Rows as the file has them: uint8 `(rows, bytes of a row)`.

    rows: float32 `(rows, columns)`. importance: float32 `(columns,)`, the mean square of each
    input. Releases the interpreter's lock while it works. Raises InvalidInput for rows that are no
    whole blocks, and for a type that needs importance and has none.
    """
    count, columns = rows.shape
    if columns % type.block:
        what = f"rows of {columns} do not divide into blocks of {type.block}"
        raise InvalidInput(Problem(type.name, what, "choose a type with smaller blocks"))
    if importance is None and requires_importance(type):
        what = "cannot be rounded without an importance matrix"
        raise InvalidInput(Problem(type.name, what, "add data.calibration to the recipe"))
    rows = np.ascontiguousarray(rows, np.float32)
    if type.name == "F32":
        return rows.view(np.uint8).reshape(count, -1)
    weights = None
    if importance is not None:
        weights = np.ascontiguousarray(importance, np.float32)
        if weights.shape != (columns,):
            raise ValueError(f"importance {weights.shape} for rows of {columns}")
    result = np.empty((count, columns // type.block * type.block_bytes), np.uint8)
    written = _functions().ggml_quantize_chunk(
        type.id,
        rows.ctypes.data,
        result.ctypes.data,
        0,
        count,
        columns,
        None if weights is None else weights.ctypes.data,
    )
    if written != result.nbytes:
        raise ValueError(f"llama.cpp wrote {written} bytes of {type.name}, not {result.nbytes}")
    return result
