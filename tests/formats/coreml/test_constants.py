"""Compressed constants against their definitions, written out one element at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.formats.coreml.executor.constants import (
    affine_dequantize,
    blockwise_shift_scale,
    cast,
    lut_to_dense,
    lut_to_sparse,
    sparse_blockwise_shift_scale,
    sparse_to_dense,
)
from edgeq.formats.coreml.executor.types import Array

SIDES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3)
"""Along each axis: how many blocks, and how long one is."""


@given(SIDES, st.booleans(), st.integers(0, 2**32 - 1))
def test_blockwise_is_its_formula(sides: list[tuple[int, int]], shifted: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.integers(-8, 8, [count * block for count, block in sides]).astype(np.int8)
    scale = rng.normal(size=[count for count, _ in sides]).astype(np.float16)
    offset = rng.integers(-8, 8, scale.shape).astype(np.int8) if shifted else None
    result = blockwise_shift_scale(data, scale, offset)
    assert result.shape == data.shape
    for place in itertools.product(*(range(n) for n in data.shape)):
        block = tuple(i // size for i, (_, size) in zip(place, sides, strict=True))
        shift = 0 if offset is None else float(offset[block])
        # At most 4 + 11 bits: the product is exact in float32.
        assert result[place] == float(scale[block]) * (float(data[place]) - shift)


def test_scales_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        blockwise_shift_scale(np.zeros((4, 6), np.int8), np.ones((4, 4), np.float16))


@given(SIDES, st.integers(1, 4), st.integers(1, 3), st.data())
def test_a_palette_is_its_definition(
    sides: list[tuple[int, int]], bits: int, vector: int, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(0, len(sides) - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    indices = rng.integers(0, 1 << bits, [c * b for c, b in sides]).astype(np.uint8)
    lut = rng.normal(size=[c for c, _ in sides] + [1 << bits, vector]).astype(np.float16)
    result = lut_to_dense(indices, lut, np.array(axis, np.int32))
    for place in itertools.product(*(range(n) for n in result.shape)):
        element = place[axis] % vector
        index = tuple(i // vector if a == axis else i for a, i in enumerate(place))
        table = tuple(i // size for i, (_, size) in zip(index, sides, strict=True))
        assert result[place] == lut[(*table, indices[index], element)]


def test_palettes_of_ios_16_hold_packed_indices() -> None:
    # The documentation's example: 2 bits, five indices in two bytes, the first in the lowest bits.
    indices = np.array([0b01101100, 0b11], np.uint8)
    lut = np.array([10, 11, 12, 13], np.float32)
    result = lut_to_dense(indices, lut, shape=np.array([5], np.uint32))
    assert result.tolist() == [10, 13, 12, 11, 13]


def test_affine_along_an_axis_and_of_a_scalar() -> None:
    data = np.array([[0, 10, 255], [1, 2, 3]], np.uint8)
    by_row = affine_dequantize(
        data, np.array([0, 1], np.uint8), np.array([0.5, 2], np.float32), np.array(0, np.int32)
    )
    assert by_row.tolist() == [[0, 5, 127.5], [0, 2, 4]]
    whole = affine_dequantize(
        data, np.array(1, np.uint8), np.array(2, np.float32), np.array(0, np.int32)
    )
    assert whole.tolist() == [[-2, 18, 508], [0, 2, 4]]


MASK = np.array([[1, 0, 1], [0, 0, 1]], np.uint8)


def test_sparse_tensors_fill_in_row_major_order() -> None:
    values = np.array([7, 8, 9], np.float16)
    dense: Array = np.array([[7, 0, 8], [0, 0, 9]])
    np.testing.assert_array_equal(sparse_to_dense(values, MASK), dense)
    packed = np.packbits(MASK.reshape(-1), bitorder="little")
    old = sparse_to_dense(values, packed, np.array([2, 3], np.uint32))
    np.testing.assert_array_equal(old, dense)


def test_sparse_codes_keep_their_mask() -> None:
    scale = np.array([[2.0], [10.0]], np.float32)
    mask, values = sparse_blockwise_shift_scale(MASK, np.array([1, 2, 3], np.int8), scale)
    assert mask is MASK
    assert values.tolist() == [2, 4, 30]
    lut = np.array([5.0, 6.0], np.float16).reshape(1, 1, 2, 1)
    mask, values = lut_to_sparse(MASK, np.array([1, 0, 1], np.uint8), lut)
    assert values.tolist() == [6, 5, 6]
    pairs = np.array([[1, 2], [3, 4]], np.float16).reshape(1, 1, 2, 2)
    mask, values = lut_to_sparse(MASK, np.array([1, 0, 1], np.uint8), pairs, np.array(0, np.int32))
    assert mask.tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1]]
    assert values.tolist() == [3, 1, 4, 2, 3, 4]


def test_a_cast_constant_widens() -> None:
    assert cast(np.array([0.1], np.float16), "fp32").dtype == np.float32
