"""Our own codes as blocks of Q4_0 and Q8_0: the same numbers, bit for bit, in other places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeq.gguf.types import TYPES, GgmlType
from edgeq.quantize.grids import QuantizedTensor

STORED_AS: dict[str, GgmlType] = {"int4-b32": TYPES["Q4_0"], "int8-b32": TYPES["Q8_0"]}
"""The type that holds a grid's codes and scales as they are."""

_BLOCK = 32


def pack_codes(tensor: QuantizedTensor) -> NDArray[np.uint8]:
    """uint8 `(rows, bytes of a row)`, as ggml-common.h lays out `block_q4_0` and `block_q8_0`.

    A block is a float16 scale and 32 codes. Of Q4_0 the codes are stored plus 8, the first half of
    the block in the low, the second in the high four bits. Raises ValueError for other grids, and
    for rows that are no whole blocks.
    """
    rows, columns = tensor.codes.shape
    if tensor.grid.name not in STORED_AS or columns % _BLOCK:
        raise ValueError(f"{tensor.grid.name} codes of {columns} columns are no GGUF blocks")
    scales = np.ascontiguousarray(tensor.scales.astype("<f2")).view(np.uint8)
    codes = tensor.codes.reshape(rows, columns // _BLOCK, _BLOCK)
    if tensor.grid.name == "int8-b32":
        packed = codes.view(np.uint8)
    else:
        lifted = (codes + np.int8(8)).view(np.uint8)
        half = _BLOCK // 2
        packed = lifted[..., :half] | (lifted[..., half:] << np.uint8(4))
    blocks = np.concatenate([scales.reshape(rows, -1, 2), packed], axis=2)
    result: NDArray[np.uint8] = blocks.reshape(rows, -1)
    return result
