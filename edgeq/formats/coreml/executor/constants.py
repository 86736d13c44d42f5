"""Compressed constants: the values of MIL's `constexpr_*` operators.

Each function computes in float32 from unpacked codes; the executor rounds the result once to the
type that the program declares. Definitions: the operator documentation of coremltools for iOS 16
and iOS 18, whose versions of `constexpr_lut_to_dense` and `constexpr_sparse_to_dense` share a name;
they differ in whether a `shape` is given.
"""

from __future__ import annotations

import numpy as np

from edgeq.formats.coreml.executor.blob import unpacked
from edgeq.formats.coreml.executor.operators.registry import Outputs, operator
from edgeq.formats.coreml.executor.types import BY_NAME, Array

PREFIX = "constexpr_"


@operator("constexpr_blockwise_shift_scale")
def blockwise_shift_scale(data: Array, scale: Array, offset: Array | None = None) -> Array:
    """`(data − offset) · scale`, one scale for each block.

    All have the same rank; a block is `data.shape[axis] / scale.shape[axis]` long on each axis.
    """
    _check_blocks(data.shape, scale.shape)
    # (rows, columns) as (row blocks, rows of a block, column blocks, columns of a block):
    blocks = [n for size, s in zip(data.shape, scale.shape, strict=True) for n in (s, size // s)]
    each = [n for s in scale.shape for n in (s, 1)]
    result = data.astype(np.float32).reshape(blocks)
    if offset is not None:
        result -= offset.astype(np.float32).reshape(each)
    result *= scale.astype(np.float32).reshape(each)
    return result.reshape(data.shape)


@operator("constexpr_affine_dequantize")
def affine_dequantize(quantized_data: Array, zero_point: Array, scale: Array, axis: Array) -> Array:
    """iOS 16: `(data − zero_point) · scale`, both scalars or one value for each index of `axis`."""
    shape = [1] * quantized_data.ndim
    shape[int(axis)] = -1
    zero, step = (
        v.astype(np.float32).reshape(shape if v.ndim else ()) for v in (zero_point, scale)
    )
    result: Array = (quantized_data.astype(np.float32) - zero) * step
    return result


@operator("constexpr_cast")
def cast(source_val: Array, output_dtype: str) -> Array:
    """A constant stored in fp16 and used in fp32."""
    return source_val.astype(BY_NAME[output_dtype].storage)


@operator("constexpr_lut_to_dense")
def lut_to_dense(
    indices: Array, lut: Array, vector_axis: Array | None = None, shape: Array | None = None
) -> Array:
    """Each index replaced by its entry of the look-up table (palette).

    With `shape` (iOS 16): `indices` are bytes holding packed indices, `lut` is one-dimensional.
    Without: `lut` is (tables along each axis of `indices`…, entries, vector length); a table covers
    a block of indices, and a vector's elements follow each other along `vector_axis`.
    """
    if shape is not None:
        bits = lut.size.bit_length() - 1
        count = int(np.prod(shape, dtype=np.int64))
        flat: Array = lut[unpacked(indices, BY_NAME[f"uint{bits}"], count)]
        return flat.reshape(shape)
    tables, (entries, vector) = lut.shape[:-2], lut.shape[-2:]
    _check_blocks(indices.shape, tables)
    place = np.zeros((1,) * indices.ndim, np.int64)
    for axis, (size, count) in enumerate(zip(indices.shape, tables, strict=True)):
        table = np.arange(size) // (size // count)
        place = place * count + table.reshape([-1 if a == axis else 1 for a in range(indices.ndim)])
    values: Array = lut.reshape(-1, vector)[place * entries + indices]
    if vector == 1:
        return values[..., 0]
    if vector_axis is None:
        raise ValueError("a table of vectors comes without vector_axis")
    axis = int(vector_axis) % indices.ndim
    longer = [n * vector if a == axis else n for a, n in enumerate(indices.shape)]
    return np.moveaxis(values, -1, axis + 1).reshape(longer)


@operator("constexpr_sparse_to_dense")
def sparse_to_dense(nonzero_data: Array, mask: Array, shape: Array | None = None) -> Array:
    """Values where the mask has a 1, zero elsewhere, in row-major order.

    With `shape` (iOS 16) the mask comes as bytes of packed bits, without it as a tensor of bits.
    """
    if shape is not None:
        mask = unpacked(mask, BY_NAME["uint1"], int(np.prod(shape, dtype=np.int64))).reshape(shape)
    dense = np.zeros(mask.shape, nonzero_data.dtype)
    dense[mask != 0] = nonzero_data
    return dense


@operator("constexpr_lut_to_sparse")
def lut_to_sparse(
    indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Array | None = None
) -> Outputs:
    """A palette over a sparse tensor: the mask of the result and its values, one-dimensional."""
    dense = lut_to_dense(sparse_to_dense(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1 and vector_axis is not None:
        mask = np.repeat(mask, lut.shape[-1], axis=int(vector_axis))
    return mask, dense[mask != 0]


@operator("constexpr_sparse_blockwise_shift_scale")
def sparse_blockwise_shift_scale(
    data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> Outputs:
    """Scales over a sparse tensor: the mask and the values, one-dimensional."""
    dense = blockwise_shift_scale(sparse_to_dense(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


def _check_blocks(shape: tuple[int, ...], counts: tuple[int, ...]) -> None:
    if len(shape) != len(counts) or any(not c or n % c for n, c in zip(shape, counts, strict=True)):
        raise ValueError(f"{counts} blocks do not divide a tensor of shape {shape}")
