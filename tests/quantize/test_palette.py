"""Palettes: tables of values that lose little, and less where it counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.formats.apple.constants import pack_indices
from edgeq.quantize.codes import load_codes, save_codes
from edgeq.quantize.methods.kmeans import cluster
from edgeq.quantize.number_formats.palettes import (
    PALETTE4,
    PALETTE4_G16,
    PALETTE6,
    PALETTES,
    Palette,
)
from tests.support.properties import examples

palettes = st.sampled_from(PALETTES)


def weights(seed: int, rows: int, columns: int) -> np.ndarray:
    """Mostly small values and some large ones, as in a trained layer."""
    return np.random.default_rng(seed).standard_t(4, (rows, columns)).astype(np.float32) / 20


@examples(30)
@given(st.integers(0, 99), st.integers(1, 40), st.integers(1, 60), palettes)
def test_every_value_has_the_nearest_of_its_table(
    seed: int, rows: int, columns: int, number_format: Palette
) -> None:
    weight = weights(seed, rows, columns)
    found = cluster(weight, number_format)
    assert found.codes.shape == weight.shape
    assert found.scales.shape == (number_format.groups(rows), 1 << number_format.bits)
    assert (np.diff(found.scales) >= 0).all()
    assert np.array_equal(found.scales.astype(np.float16), found.scales)
    for row in range(rows):
        table = found.scales[row // number_format.rows if number_format.rows else 0]
        nearest = np.abs(weight[row][:, None] - table).min(1)
        missed = np.abs(weight[row] - found.dequantize()[row])
        assert np.allclose(missed, nearest, rtol=1e-5, atol=1e-7)


@given(st.integers(0, 99), st.sampled_from([PALETTE4, PALETTE6]))
@examples(20)
def test_a_table_loses_less_than_evenly_spaced_values(seed: int, number_format: Palette) -> None:
    weight = weights(seed, 32, 64)
    even = np.linspace(weight.min(), weight.max(), 1 << number_format.bits)
    plain = even[np.abs(weight[..., None] - even).argmin(-1)]
    assert (
        np.square(weight - cluster(weight, number_format).dequantize()).sum()
        < np.square(weight - plain).sum()
    )


@given(st.integers(0, 99))
@examples(20)
def test_columns_that_count_lose_less(seed: int) -> None:
    weight = weights(seed, 32, 64)
    weight[:, :4] *= 3
    importance = np.ones(64, np.float32)
    importance[:4] = 1000
    plain, weighed = cluster(weight, PALETTE4), cluster(weight, PALETTE4, importance)

    def error(codes: np.ndarray) -> float:
        return float((np.square(weight - codes) * importance).sum())

    assert error(weighed.dequantize()) < error(plain.dequantize())


@pytest.mark.parametrize("count", [1, 2, 16])
def test_few_different_values_are_kept_exactly(count: int) -> None:
    values = np.linspace(-1, 1, count).astype(np.float16).astype(np.float32)
    weight = np.random.default_rng(0).choice(values, (8, 32)).astype(np.float32)
    assert np.array_equal(cluster(weight, PALETTE4).dequantize(), weight)


@given(st.integers(0, 99), st.integers(1, 90), st.sampled_from([4, 6]))
def test_packed_indices_take_their_bits_and_come_back(seed: int, count: int, bits: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, count).astype(np.int8)
    packed = pack_indices(codes, bits)
    assert len(packed) == -(-count * bits // 8)
    spread = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    assert np.array_equal(spread @ (1 << np.arange(bits)), codes)


def test_bytes_are_those_of_indices_and_tables() -> None:
    found = cluster(weights(0, 48, 64), PALETTE4_G16)
    assert found.nbytes == 48 * 64 // 2 + 3 * 16 * 2
    assert PALETTE6.nbytes(3, 3) == 7 + 64 * 2  # 54 bits


def test_palettes_are_saved_with_other_codes(tmp_path: Path) -> None:
    found = cluster(weights(0, 20, 30), PALETTE6)
    save_codes(tmp_path / "codes.npz", {"a": found})
    again = load_codes(tmp_path / "codes.npz")["a"]
    assert again.number_format is PALETTE6 and again.method == "kmeans"
    assert np.array_equal(again.dequantize(), found.dequantize())
