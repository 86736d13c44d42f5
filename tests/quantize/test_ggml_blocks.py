"""What llama.cpp's library rounded is taken apart and put together without a bit's difference."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from edgeq.quantize.ggml.blocks import STORED_AS, pack_codes, unpack_codes
from edgeq.quantize.ggml.types import TYPES, GgmlType
from edgeq.quantize.number_formats.integers import INT4_B32, INT8

gguf = pytest.importorskip("gguf")
library = pytest.importorskip("edgeq.quantize.ggml.library")

KINDS = ("normal", "heavy tails", "tiny", "one sided", "with zeros")


def weights(kind: str, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((24, 512)).astype(np.float32)
    match kind:
        case "heavy tails":
            values = values**3
        case "tiny":
            values *= np.float32(1e-7)
        case "one sided":
            values = np.abs(values) + np.float32(0.3)
        case "with zeros":
            values[:, ::2] = 0
            values[::3] = 0
    return values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("type", STORED_AS.values(), ids=lambda type: type.name)
def test_codes_of_the_library_survive(type: GgmlType, kind: str) -> None:
    rows = weights(kind, 1)
    importance = np.abs(weights("normal", 2)[0])
    for weight in (None, importance):
        packed = library.quantize_rows(type, rows, weight)
        tensor = unpack_codes(packed, type, "nearest")
        assert tensor.codes.min() >= tensor.number_format.lowest
        assert tensor.codes.max() <= tensor.number_format.highest
        assert np.array_equal(pack_codes(tensor), packed)
        assert tensor.nbytes == packed.nbytes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("type", STORED_AS.values(), ids=lambda type: type.name)
def test_values_are_those_of_both_dequantizers(type: GgmlType, kind: str) -> None:
    packed = library.quantize_rows(type, weights(kind, 3))
    found = unpack_codes(packed, type, "nearest").dequantize()
    known = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[type.name])
    assert np.array_equal(found, known)
    assert np.array_equal(found, by_library(packed, type, found.shape))


def by_library(packed: np.ndarray, type: GgmlType, shape: tuple[int, ...]) -> np.ndarray:
    from edgeq.quantize.ggml.llama_api import library as loaded

    name = f"dequantize_row_{type.name.lower().replace('_k', '_K')}"
    dequantize = getattr(loaded().lib, name)
    dequantize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    dequantize.restype = None
    values = np.empty(shape, np.float32)
    packed = np.ascontiguousarray(packed)
    dequantize(packed.ctypes.data, values.ctypes.data, values.size)
    return values


@pytest.mark.parametrize("type", STORED_AS.values(), ids=lambda type: type.name)
def test_any_bytes_survive(type: GgmlType) -> None:
    """Also those the library's own rounding never makes."""
    packed = np.random.default_rng(4).integers(0, 256, (8, type.block_bytes * 2), np.uint8)
    assert np.array_equal(pack_codes(unpack_codes(packed, type, "nearest")), packed)


def test_what_is_no_gguf_block_is_refused() -> None:
    from edgeq.quantize.methods.nearest import NEAREST

    with pytest.raises(ValueError, match="int8 codes"):
        pack_codes(NEAREST.round(weights("normal", 5), None, INT8))
    with pytest.raises(ValueError, match="40 columns"):
        pack_codes(NEAREST.round(weights("normal", 5)[:, :40], None, INT4_B32))
    with pytest.raises(ValueError, match="IQ4_XS"):
        unpack_codes(np.zeros((1, 136), np.uint8), TYPES["IQ4_XS"], "nearest")
