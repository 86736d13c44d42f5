"""Models in several GGUF files, as llama.cpp reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")

from safetensors.numpy import load_file

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import Header, read_header
from edgeq.formats.gguf.parts import read_whole
from edgeq.formats.gguf.requantize import quantize_file
from edgeq.formats.gguf.source.directory import unpacked
from edgeq.formats.gguf.values import MetaValue
from edgeq.formats.gguf.writer import write_gguf
from edgeq.formats.language import LanguageModel
from tests.support.gguf_artifacts import WREN, write_file


def write_part(whole: Header, names: list[str], path: Path, number: int, count: int) -> Path:
    facts = {"split.no": number, "split.count": count, "split.tensors.count": len(whole.tensors)}
    kinds = ("uint16", "uint16", "int32")
    metadata = {} if number else dict(whole.metadata)
    for (key, value), kind in zip(facts.items(), kinds, strict=True):
        metadata[key] = MetaValue(kind, value)
    entries = {name: whole.tensors[name] for name in names}
    specs = [(name, entry.shape, entry.type) for name, entry in entries.items()]
    content = whole.path.read_bytes()

    def chunks(name: str):  # type: ignore[no-untyped-def]
        entry = entries[name]
        return iter([np.frombuffer(content, np.uint8, entry.nbytes, entry.offset)])

    write_gguf(path, metadata, specs, chunks)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_file(WREN, tmp_path_factory.mktemp("whole") / "wren.gguf", "F16")


@pytest.fixture
def first(whole: Path, tmp_path: Path) -> Path:
    header = read_header(whole)
    names = list(header.tensors)
    for number in range(3):
        path = tmp_path / f"wren-{number + 1:05d}-of-00003.gguf"
        write_part(header, names[number::3], path, number, 3)
    return tmp_path / "wren-00001-of-00003.gguf"


def test_the_first_part_stands_for_the_model(whole: Path, first: Path, tmp_path: Path) -> None:
    """llama.cpp opens the parts itself; what edgeq makes of them is what the whole file gives."""
    parts, one = (edgeq.load(path, threads=1) for path in (first, whole))
    assert isinstance(parts, LanguageModel) and isinstance(one, LanguageModel)
    np.testing.assert_array_equal(parts.logits([5, 6, 7]), one.logits([5, 6, 7]))
    for source in (first, whole):
        quantize_file(source, tmp_path / f"{source.stem}-q.gguf", "Q4_0", threads=1)
    made = [tmp_path / f"{source.stem}-q.gguf" for source in (first, whole)]
    assert made[0].read_bytes() == made[1].read_bytes()
    weights, same = (
        load_file(unpacked(source, "recipe") / "model.safetensors") for source in (first, whole)
    )
    assert weights.keys() == same.keys()
    assert all(np.array_equal(weights[name], same[name]) for name in same)


def test_parts_that_are_not_a_model_are_refused(whole: Path, first: Path) -> None:
    second = first.with_name("wren-00002-of-00003.gguf")
    with pytest.raises(InvalidInput, match="part 2 of 3") as refused:
        edgeq.load(second)
    assert refused.value.problems[0].remedy == f"name the first: {first.name}"
    renamed = first.with_name("other.gguf")
    renamed.write_bytes(first.read_bytes())
    with pytest.raises(InvalidInput, match="not named like one"):
        read_whole(renamed)
    content = second.read_bytes()
    second.write_bytes(first.with_name("wren-00003-of-00003.gguf").read_bytes())
    with pytest.raises(InvalidInput, match="is not part 2"):
        read_whole(first)
    names = list(read_header(whole).tensors)
    write_part(read_header(whole), names[1:30:3], second, 1, 3)
    with pytest.raises(InvalidInput, match="and promises"):
        read_whole(first)
    second.unlink()
    with pytest.raises(InvalidInput, match="does not exist"):
        read_whole(first)
    second.write_bytes(content)
    assert len(read_whole(first).paths) == 3
