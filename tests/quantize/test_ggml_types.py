"""Number formats against the C library that defines them."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.quantize.ggml.types import TYPES, GgmlType, by_id, fallback, nbytes

TYPE = st.sampled_from(list(TYPES.values()))


def test_types_are_those_of_the_c_library() -> None:
    pytest.importorskip("xllamacpp", reason="no llama.cpp is installed")
    from edgeq.quantize.ggml.llama_api import library

    lib = library().lib
    lib.ggml_type_name.restype = ctypes.c_char_p
    lib.ggml_blck_size.restype = ctypes.c_int64
    lib.ggml_type_size.restype = ctypes.c_size_t
    ids = [type.id for type in TYPES.values()]
    assert sorted(ids) == [id for id in range(max(ids) + 1) if lib.ggml_blck_size(id)]
    for type in TYPES.values():
        assert lib.ggml_type_name(type.id).decode().upper() == type.name
        assert lib.ggml_blck_size(type.id) == type.block
        assert lib.ggml_type_size(type.id) == type.block_bytes


def test_types_agree_with_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")
    for kind in gguf.GGMLQuantizationType:
        sizes = gguf.GGML_QUANT_SIZES[kind]
        if kind.name != "Q8_1":  # the package counts its two scales as float32, ggml as float16
            assert (TYPES[kind.name].id, TYPES[kind.name].block) == (int(kind), sizes[0])
            assert TYPES[kind.name].block_bytes == sizes[1]


@given(TYPE)
def test_ids_name_one_type(type: GgmlType) -> None:
    assert by_id(type.id) is type


def test_withdrawn_and_future_ids_are_unknown() -> None:
    assert [by_id(id) for id in (4, 5, 31, 36, 99, -1)] == [None] * 6


@given(TYPE, st.integers(1, 40), st.integers(1, 2000))
def test_fallback_fits_and_changes_nothing_that_fits(
    type: GgmlType, rows: int, columns: int
) -> None:
    chosen = fallback(type, columns)
    assert columns % chosen.block == 0
    assert (chosen is type) == (columns % type.block == 0)
    assert nbytes(chosen, (rows, columns)) == rows * nbytes(chosen, (columns,))


@pytest.mark.parametrize(
    ("wanted", "columns", "chosen"),
    [
        *[("Q4_K", 576, "Q5_0"), ("Q5_K", 576, "Q5_1"), ("Q6_K", 576, "Q8_0")],
        *[("Q2_K", 288, "Q4_0"), ("IQ3_S", 288, "IQ4_NL"), ("IQ4_XS", 32, "IQ4_NL")],
        *[("Q4_K", 100, "F16"), ("Q4_0", 100, "F16"), ("BF16", 100, "BF16")],
    ],
)
def test_fallbacks_of_llama_cpp(wanted: str, columns: int, chosen: str) -> None:
    assert fallback(TYPES[wanted], columns).name == chosen


def test_importing_types_loads_nothing_heavy() -> None:
    code = (
        "import sys, edgeq.quantize.ggml.types; assert not {'gguf', 'xllamacpp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
