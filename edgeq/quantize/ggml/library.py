"""llama.cpp's own quantizer through ctypes: the reference rounding of GGUF types.

Inputs that it does not check itself are checked here, since it would abort the process or write
garbage: rows of whole blocks, finite values, and importance for types that require it.
"""

from __future__ import annotations

import ctypes
import functools
import threading

import numpy as np
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.quantize.ggml.llama_api import library
from edgeq.quantize.ggml.types import GgmlType

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_pointer, _long = ctypes.c_void_p, ctypes.c_int64
_NO_QUANTIZER = ("Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64")


_loading = threading.Lock()


def _functions() -> ctypes.CDLL:
    """The library; the first thread loads it, exclusively."""
    with _loading:
        return _declared()


@functools.cache
def _declared() -> ctypes.CDLL:
    lib = library().lib
    lib.ggml_quantize_chunk.argtypes = [
        *(ctypes.c_int, _pointer, _pointer, _long, _long, _long, _pointer)
    ]
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_requires_imatrix.argtypes = [ctypes.c_int]
    lib.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    lib.ggml_validate_row_data.argtypes = [ctypes.c_int, _pointer, ctypes.c_size_t]
    lib.ggml_validate_row_data.restype = ctypes.c_bool
    for widen in (lib.ggml_cpu_fp16_to_fp32, lib.ggml_cpu_bf16_to_fp32):
        widen.argtypes, widen.restype = [_pointer, _pointer, _long], None
    return lib


def requires_importance(type: GgmlType) -> bool:
    """Whether a type is too coarse to be rounded without importance."""
    return bool(_functions().ggml_quantize_requires_imatrix(type.id))


def quantize_rows(type: GgmlType, rows: Floats, importance: Floats | None = None) -> Bytes:
    """Quantize rows to the file's layout: uint8 `(rows, bytes per row)`.

    rows: float32 `(rows, columns)`. importance: float32 `(columns,)`, the mean square of each
    input. Releases the interpreter's lock while it works. Raises InvalidInput for rows that are not
    whole blocks, for values that are not finite or too large for the type, for a type that requires
    importance without one, and for one that is not for weights.
    """
    count, columns = rows.shape
    rows = np.ascontiguousarray(rows, np.float32)
    weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
    _require(type, rows, weights)
    result = np.empty((count, columns // type.block * type.block_bytes), np.uint8)
    if not rows.size:
        return result
    lib = _functions()
    lib.ggml_quantize_chunk(
        type.id,
        rows.ctypes.data,
        result.ctypes.data,
        0,
        count,
        columns,
        None if weights is None else weights.ctypes.data,
    )
    if type.name != "F32" and not lib.ggml_validate_row_data(
        type.id, result.ctypes.data, result.nbytes
    ):
        what = f"values up to {np.abs(rows).max():.3g} are beyond its range"
        raise InvalidInput(Problem(type.name, what, "keep it in float: a rule with use: BF16"))
    return result


def _require(type: GgmlType, rows: Floats, importance: Floats | None) -> None:
    columns = rows.shape[1]
    if type.name in _NO_QUANTIZER:
        raise InvalidInput(Problem(type.name, "is not a type for weights", "choose another"))
    if columns % type.block:
        what = f"rows of {columns} do not divide into blocks of {type.block}"
        raise InvalidInput(Problem(type.name, what, "choose a type with smaller blocks"))
    if importance is None:
        if requires_importance(type):
            what = "cannot be rounded without an importance matrix"
            remedy = "add calibration data, or choose a type with more bits"
            raise InvalidInput(Problem(type.name, what, remedy))
    elif importance.shape != (columns,) or not np.isfinite(importance).all():
        what = f"importance {importance.shape} does not fit rows of {columns}, or is not finite"
        raise InvalidInput(Problem(type.name, what, "make an importance matrix for this model"))
    if not np.isfinite(rows).all():
        what = "some weights are NaN or infinite"
        raise InvalidInput(Problem(type.name, what, "repair the model, or convert it again"))


def widen(stored: NDArray[np.uint16], type: GgmlType) -> Floats:
    """Exact float32 values of F16 or BF16 bits; by the library, since numpy takes thirty times as
    long.

    stored: contiguous uint16, any shape. Raises ValueError for another type.
    """
    wide = np.empty(stored.shape, np.float32)
    if type.name not in ("F16", "BF16"):
        raise ValueError(f"{type.name} cannot be widened")
    lib = _functions()
    convert = lib.ggml_cpu_fp16_to_fp32 if type.name == "F16" else lib.ggml_cpu_bf16_to_fp32
    convert(stored.ctypes.data, wide.ctypes.data, stored.size)
    return wide
