"""A number format's codes and scales mean what its docstring says, for any weight."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edgeq.quantize.methods import Statistics
from edgeq.quantize.methods.importance import IMPORTANCE
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.number_formats.integers import INT4_B32, INT8, INTEGERS, IntegerFormat

ALL_FORMATS = pytest.mark.parametrize("number_format", INTEGERS, ids=lambda each: each.name)
weights = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=70),
    elements=st.floats(-100, 100, width=32),
)


@ALL_FORMATS
@given(weight=weights)
def test_codes_stay_in_range_and_error_stays_below_the_scale(
    number_format: IntegerFormat, weight: np.ndarray
) -> None:
    tensor = NEAREST.round(weight, None, number_format)
    assert tensor.codes.min() >= number_format.lowest
    assert tensor.codes.max() <= number_format.highest
    inside = (tensor.codes > number_format.lowest) & (tensor.codes < number_format.highest)
    scales = np.abs(number_format.spread(tensor.scales, weight.shape[1]))
    error = np.abs(tensor.dequantize() - weight)
    assert (error[inside] <= 0.5001 * scales[inside] + 1e-6).all()


@ALL_FORMATS
@given(weight=weights)
def test_scales_are_what_the_file_format_can_hold(
    number_format: IntegerFormat, weight: np.ndarray
) -> None:
    scales = NEAREST.round(weight, None, number_format).scales
    assert scales.shape == (weight.shape[0], number_format.groups(weight.shape[1]))
    assert (scales != 0).all()
    assert np.array_equal(scales.astype(number_format.scale_dtype).astype(np.float32), scales)


@ALL_FORMATS
def test_what_is_on_the_number_format_already_is_kept(number_format: IntegerFormat) -> None:
    generator = np.random.default_rng(1)
    codes = generator.integers(number_format.lowest, number_format.highest + 1, (8, 64)).astype(
        np.int8
    )
    codes[:, 0::32] = (
        number_format.highest
    )  # every block reaches its end, so its scale can be found
    codes[:, 1::32] = number_format.lowest
    weight = number_format.decode(codes, np.full((8, number_format.groups(64)), 0.25, np.float32))
    assert np.allclose(NEAREST.round(weight, None, number_format).dequantize(), weight, atol=1e-6)


@pytest.mark.parametrize(("bits", "stored"), [(1, 0), (9, 0), (4, 3), (4, 9)])
def test_bits_that_nothing_stores_are_refused(bits: int, stored: int) -> None:
    with pytest.raises(ValueError, match=f"odd: {bits} bits do not fit into {stored or bits}"):
        IntegerFormat("odd", bits=bits, group_size=32, stored_bits=stored)


@pytest.mark.parametrize(("bits", "stored", "kept"), [(2, 0, 2), (3, 4, 4), (8, 0, 8), (8, 8, 8)])
def test_codes_are_stored_in_their_own_bits_by_default(bits: int, stored: int, kept: int) -> None:
    made = IntegerFormat("good", bits=bits, group_size=32, stored_bits=stored)
    assert (made.bits, made.stored_bits) == (bits, kept)


def test_bytes_count_codes_and_scales() -> None:
    assert INT4_B32.nbytes(10, 64) == 10 * (64 // 2 + 2 * 2)
    assert INT4_B32.nbytes(10, 33) == 10 * (64 // 2 + 2 * 2)  # a short block is stored whole
    assert INT8.nbytes(10, 64) == 10 * (64 + 2)


def test_searched_scales_beat_the_scale_of_the_largest_weight() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 256)).astype(np.float32)
    plain = np.abs(INT4_B32.split(weight)).max(-1) / INT4_B32.highest
    plain_error = np.square(INT4_B32.decode(INT4_B32.encode(weight, plain), plain) - weight).sum()
    searched = NEAREST.round(weight, None, INT4_B32).dequantize()
    assert np.square(searched - weight).sum() < plain_error


def test_importance_moves_error_to_where_it_matters_less() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    importance = np.ones(32, np.float32)
    importance[:4] = 1000
    plain = np.square(NEAREST.round(weight, None, INT4_B32).dequantize() - weight)[:, :4].sum()
    aware = IMPORTANCE.round(weight, Statistics(importance), INT4_B32).dequantize()
    assert np.square(aware - weight)[:, :4].sum() < plain
