"""The quick rounding to fp16 is numpy's, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.formats.coreml.executor.half import rounded
from edgeq.formats.coreml.executor.types import Array


def as_numpy_rounds(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def test_every_fp16_number_and_the_ground_around_each_half_way() -> None:
    held = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
    held = np.sort(held[np.isfinite(held)])
    between = (held[:-1] + held[1:]) / 2  # exact in float32
    around = [np.nextafter(between, np.float32(np.inf)), np.nextafter(between, np.float32(-np.inf))]
    values = np.concatenate([held, between, *around]).astype(np.float32)
    assert rounded(values).tobytes() == as_numpy_rounds(values).tobytes()


@given(st.lists(st.floats(width=32), min_size=1))
def test_any_float32(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    with np.errstate(over="ignore"):
        assert np.array_equal(rounded(values), as_numpy_rounds(values), equal_nan=True)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((0, 3), np.float32),
        np.float32(1.0001).reshape(()),
        np.linspace(0, 1, 60, dtype=np.float32).reshape(3, 4, 5)[:, ::2, ::-1].swapaxes(0, 2),
        np.array([1 + 2.0**-11 + 2.0**-40]),  # float64: rounding it twice would give 1
    ],
)
def test_shapes_and_types_that_are_not_plain(values: Array) -> None:
    result = rounded(values)
    assert result.dtype == np.float32 and result.shape == values.shape
    assert np.array_equal(result, as_numpy_rounds(values))
