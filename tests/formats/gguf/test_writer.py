"""What is written is what a reader finds, and nothing is left where writing fails."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.formats.gguf.header import read_header
from edgeq.formats.gguf.values import KINDS, MetaValue
from edgeq.formats.gguf.writer import header_bytes, write_gguf
from edgeq.quantize.ggml.types import TYPES, GgmlType, nbytes

NUMBERS = {kind: st.integers(np.iinfo(code.numpy).min, np.iinfo(code.numpy).max)
           for kind, code in KINDS.items() if code.numpy[:1] in ("u", "i")}  # fmt: skip
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    **NUMBERS,
    "bool": st.booleans(),
    "float32": st.floats(width=32, allow_nan=False),
    "float64": st.floats(allow_nan=False),
    "string": st.text(max_size=20),
}
NAMES = st.text("abcdefghij._é", min_size=1, max_size=20)
SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)


@st.composite
def values(draw: st.DrawFn) -> MetaValue:
    kind = draw(st.sampled_from(list(SCALARS)))
    if draw(st.booleans()):
        return MetaValue(kind, draw(SCALARS[kind]))
    return MetaValue("array", draw(st.lists(SCALARS[kind], max_size=5)), kind)


@st.composite
def tensors(draw: st.DrawFn) -> list[tuple[str, tuple[int, ...], GgmlType]]:
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    types = [draw(st.sampled_from(list(TYPES.values()))) for _ in names]
    return [(n, (*draw(SHAPES), t.block), t) for n, t in zip(names, types, strict=True)]


@given(
    st.dictionaries(NAMES, values(), max_size=5),
    tensors(),
    st.sampled_from([None, 8, 32, 64, 256]),
    st.integers(1, 50),
)
@settings(deadline=None)
def test_what_is_written_is_read(
    metadata: dict[str, MetaValue],
    specs: list[tuple[str, tuple[int, ...], GgmlType]],
    alignment: int | None,
    piece: int,
) -> None:
    if alignment is not None:
        metadata = {**metadata, "general.alignment": MetaValue("uint32", alignment)}
    rng = np.random.default_rng(0)
    data = {name: rng.bytes(nbytes(type, shape)) for name, shape, type in specs}

    def chunks(name: str) -> Iterator[bytes]:
        for start in range(0, len(data[name]), piece):
            yield data[name][start : start + piece]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.gguf")
        write_gguf(path, metadata, specs, chunks)
        header, content = read_header(path), path.read_bytes()
        assert [item.name for item in Path(folder).iterdir()] == ["a.gguf"]
    assert list(header.metadata) == list(metadata)
    for key, wanted in metadata.items():
        found = header.metadata[key]
        assert (found.kind, found.element) == (wanted.kind, wanted.element)
        plain = header.get(key)
        assert (list(plain) if wanted.kind == "array" else plain) == wanted.value
    assert [(x.name, x.shape, x.type) for x in header.tensors.values()] == specs
    for name, entry in header.tensors.items():
        assert content[entry.offset : entry.offset + entry.nbytes] == data[name]
    assert header.alignment == (alignment or 32)
    assert content.startswith(header_bytes(metadata, specs))


@pytest.mark.parametrize("values", [[0, 2**63 + 1], np.array([0, 2**63 + 1], np.uint64)])
def test_large_integers_keep_their_last_bit(values: Any) -> None:
    written = header_bytes({"a": MetaValue("array", values, "uint64")}, [])
    assert written.endswith(bytes(8) + (2**63 + 1).to_bytes(8, "little"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1.5], "uint64"), ([-1], "uint8"), ([256], "uint8"), (np.array([1.0]), "int32")],
)
def test_numbers_of_another_kind_are_not_cast(values: Any, kind: str) -> None:
    with pytest.raises((struct.error, TypeError)):
        header_bytes({"a": MetaValue("array", values, kind)}, [])


def test_the_gguf_package_reads_it(tmp_path: Path) -> None:
    package = pytest.importorskip("gguf", reason="the gguf package is not installed")
    matrix = np.arange(64, dtype=np.float32).reshape(2, 32)
    metadata = {
        "general.architecture": MetaValue("string", "llama"),
        "tokenizer.ggml.tokens": MetaValue("array", ["a", "▁é", "\udce2"], "string"),
        "x.numbers": MetaValue("array", [1, -2, 3], "int32"),
        "x.yes": MetaValue("bool", True),
    }
    specs = [("m.weight", (2, 32), TYPES["F32"]), ("n.weight", (32,), TYPES["F16"])]
    held = {"m.weight": matrix, "n.weight": matrix[1].astype(np.float16)}
    write_gguf(tmp_path / "a.gguf", metadata, specs, lambda name: [held[name]])
    reader = package.GGUFReader(tmp_path / "a.gguf")
    field = reader.fields["tokenizer.ggml.tokens"]
    tokens = [bytes(field.parts[index]) for index in field.data]
    assert tokens == [b"a", "▁é".encode(), b"\xe2"]
    assert reader.fields["x.numbers"].contents() == [1, -2, 3]
    assert reader.fields["x.yes"].contents() is True
    assert [tensor.name for tensor in reader.tensors] == list(held)
    for tensor in reader.tensors:
        assert np.array_equal(tensor.data, held[tensor.name])


@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_number_of_bytes_leaves_the_old_file(change: int, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"before")
    specs = [("a", (8,), TYPES["F32"])]
    with pytest.raises(ValueError, match=r"a has \d+ bytes"):
        write_gguf(path, {}, specs, lambda name: [bytes(32 + change)])
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one name"):
        write_gguf(
            tmp_path / "a.gguf", {}, [("a", (1,), TYPES["F32"])] * 2, lambda name: [bytes(4)]
        )
    assert not list(tmp_path.iterdir())
