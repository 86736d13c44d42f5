"""Importance matrices: written and read in llama.cpp's format, divided as llama.cpp divides."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import read_header
from edgeq.formats.gguf.imatrix import Importance, read_imatrix, write_imatrix
from tests.support.gguf_files import array, gguf, pair, string, tensor, write

NAME = "blk.0.ffn_down.weight"


def _sums(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32) * np.float32(1000)


@given(
    st.dictionaries(st.text("abc.0", min_size=1, max_size=9), st.integers(1, 40), max_size=5),
    st.integers(0, 2**24),
    st.lists(st.text(max_size=9), max_size=3),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_what_is_written_is_read(
    columns: dict[str, int], count: int, datasets: list[str], chunks: int
) -> None:
    sums = {name: _sums(number) for name, number in columns.items()}
    matrix = Importance(sums, dict.fromkeys(sums, count), tuple(datasets), chunks, 512)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "imatrix.gguf")
        write_imatrix(path, matrix)
        found = read_imatrix(path)
    assert found.path == path
    assert (found.datasets, found.chunks, found.chunk_tokens) == (tuple(datasets), chunks, 512)
    assert found.counts == matrix.counts and set(found.sums) == set(sums)
    for name, values in sums.items():
        assert found.sums[name].dtype == np.float32 and np.array_equal(found.sums[name], values)


def test_each_expert_has_a_count(tmp_path: Path) -> None:
    sums, counts = _sums(3, 8), np.array([5, 0, 7])
    write_imatrix(tmp_path / "a.gguf", Importance({NAME: sums}, {NAME: counts}))
    found = read_imatrix(tmp_path / "a.gguf")
    assert np.array_equal(found.sums[NAME], sums) and np.array_equal(found.counts[NAME], counts)
    weights = found.weights(NAME)
    assert weights is not None and weights.dtype == np.float32
    assert np.array_equal(weights[0], sums[0] / np.float32(5))
    assert np.array_equal(weights[1], np.ones(8, np.float32))
    assert np.array_equal(weights[2], sums[2] / np.float32(7))


def test_the_file_is_laid_out_as_llama_cpp_s(tmp_path: Path) -> None:
    sums = {"b.weight": _sums(4), "a.weight": _sums(2, 3)}
    counts: dict[str, int | np.ndarray] = {"b.weight": 9, "a.weight": np.array([1, 2])}
    write_imatrix(tmp_path / "a.gguf", Importance(sums, counts, ("text.txt",), 4, 512))
    number = struct.Struct("<I").pack
    pairs = [
        pair("general.type", 8, string("imatrix")),
        pair("imatrix.datasets", 9, array(8, 1, string("text.txt"))),
        pair("imatrix.chunk_count", 4, number(4)),
        pair("imatrix.chunk_size", 4, number(512)),
    ]
    tensors = [  # by name; columns first, and a last axis of length 1 is left out
        tensor("a.weight.in_sum2", (3, 2), 0, 0),
        tensor("a.weight.counts", (1, 2), 0, 32),
        tensor("b.weight.in_sum2", (4,), 0, 64),
        tensor("b.weight.counts", (1,), 0, 96),
    ]
    values = [sums["a.weight"], np.array([1, 2], "<f4"), sums["b.weight"], np.array([9], "<f4")]
    data = b"".join(part.tobytes().ljust(32, b"\0") for part in values)
    assert (tmp_path / "a.gguf").read_bytes() == gguf(pairs, tensors, data)


def test_the_gguf_package_reads_it(tmp_path: Path) -> None:
    package = pytest.importorskip("gguf", reason="the gguf package is not installed")
    matrix = Importance({NAME: _sums(6)}, {NAME: 12}, ("a.txt", "b.txt"), 3, 4)
    write_imatrix(tmp_path / "a.gguf", matrix)
    reader = package.GGUFReader(tmp_path / "a.gguf")
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.datasets"].contents() == ["a.txt", "b.txt"]
    held = {tensor.name: tensor.data for tensor in reader.tensors}
    assert np.array_equal(held[f"{NAME}.in_sum2"], matrix.sums[NAME])
    assert held[f"{NAME}.counts"] == [12]


@given(st.floats(0, 2.0**100, width=32), st.integers(1, 2**24))
def test_the_mean_is_rounded_once_to_float32(total: float, count: int) -> None:
    matrix = Importance({NAME: np.array([total], np.float32)}, {NAME: count})
    weights = matrix.weights(NAME)
    (rounded,) = struct.unpack("<f", struct.pack("<f", total / count))
    assert weights is not None and weights[0] == rounded


def test_weights_of_what_was_never_seen() -> None:
    matrix = Importance({NAME: np.zeros(3, np.float32)}, {NAME: 0})
    weights = matrix.weights(NAME)
    assert weights is not None and weights.tolist() == [1, 1, 1]
    assert matrix.weights("output.weight") is None


def test_what_a_quantized_file_says_of_the_matrix() -> None:
    matrix = Importance({NAME: _sums(2)}, {NAME: 1}, ("é" * 70, "b"), 5, 6, Path("/x/y/i.gguf"))
    plain = {key: (value.kind, value.value) for key, value in matrix.metadata().items()}
    assert plain == {
        "quantize.imatrix.file": ("string", "i.gguf"),
        "quantize.imatrix.dataset": ("string", "é" * 63),
        "quantize.imatrix.entries_count": ("uint32", 1),
        "quantize.imatrix.chunks_count": ("uint32", 5),
    }
    assert list(Importance({}, {}).metadata()) == ["quantize.imatrix.entries_count"]


def _floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values).ljust(32, b"\0")


KIND = pair("general.type", 8, string("imatrix"))
SUMS, COUNTS = tensor("a.in_sum2", (4,), 0, 0), tensor("a.counts", (1,), 0, 32)
WRONG = {
    "another kind of file": (gguf(), "not an importance matrix"),
    "sums without counts": (gguf([KIND], [SUMS], bytes(32)), "has no a.counts"),
    "counts that do not fit": (
        gguf([KIND], [SUMS, tensor("a.counts", (3,), 0, 32)], bytes(64)),
        "4 values for 3 counts",
    ),
    "values that are not finite": (
        gguf([KIND], [SUMS, COUNTS], _floats(1, float("inf"), 1, 1) + _floats(1)),
        "a.in_sum2 contains values",
    ),
    "negative values": (
        gguf([KIND], [SUMS, COUNTS], _floats(1, -1, 1, 1) + _floats(1)),
        "a.in_sum2 contains values",
    ),
    "counts that are no number": (
        gguf([KIND], [SUMS, COUNTS], _floats(1, 1, 1, 1) + _floats(float("nan"))),
        "a.counts contains values",
    ),
    "half precision": (
        gguf([KIND], [tensor("a.in_sum2", (4,), 1, 0), COUNTS], bytes(64)),
        "is F16, not F32",
    ),
    "chunks that are no number": (
        gguf([KIND, pair("imatrix.chunk_count", 8, string("many"))]),
        "imatrix.chunk_count is 'many'",
    ),
    "cut off": (gguf([KIND], [SUMS, COUNTS], bytes(32)), "would end at byte"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_matrices_are_refused(case: str, tmp_path: Path) -> None:
    content, told = WRONG[case]
    with pytest.raises(InvalidInput) as caught:
        read_imatrix(write(tmp_path / "a.gguf", content))
    assert told in str(caught.value) and str(tmp_path) in str(caught.value)


def test_datasets_of_another_kind_are_not_believed(tmp_path: Path) -> None:
    content = gguf([KIND, pair("imatrix.datasets", 9, array(0, 2, b"\1\2"))])
    assert read_imatrix(write(tmp_path / "a.gguf", content)).datasets == ()
    assert read_header(tmp_path / "a.gguf").get("imatrix.datasets") == [1, 2]
