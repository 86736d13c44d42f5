from __future__ import annotations

import hashlib
import os
import shutil
import struct
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

import edgeq
from edgeq.core.artifact import (
    DATA_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    FileName,
    FileRecord,
    seal,
    unseal,
)
from edgeq.core.errors import InvalidInput
from edgeq.formats.bundle import BUNDLE_FILE, VERDICTS_FILE, extract, read_bundle, read_verdicts
from edgeq.pipeline.bundle.write import write_bundle
from tests.support import samples
from tests.support.properties import examples

FILE_NAME: TypeAdapter[str] = TypeAdapter(FileName)
VERDICT = {"device": "here", "status": "pass", "lines": [{"budget": "size", "margin": 0.25}]}


def bundled(artifact: Path, out: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "recipe_text": "edgeq: 1\n",
        "verdicts": [VERDICT],
        "licence": "Apache-2.0",
        "licence_text": "Apache License",
        "unchecked": False,
    }
    return write_bundle(artifact, out, **{**settings, **changes})


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.sentence_artifact(tmp_path_factory.mktemp("made") / "artifact")


@pytest.fixture(scope="module")
def bundle(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundled(artifact, tmp_path_factory.mktemp("bundles") / "sample.zip")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "changed.zip"


def forge(path: Path, entries: list[tuple[str, bytes]]) -> Path:
    """A zip with a right digest at its end, as someone who knows the format could write it."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
        archive.comment = b"edgeq-sha256:" + b"0" * 64
    content = path.read_bytes()[:-77]
    path.write_bytes(content + b"edgeq-sha256:" + hashlib.sha256(content).hexdigest().encode())
    return path


def entries(bundle: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(bundle) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def data_ranges(bundle: Path) -> dict[str, range]:
    """Where the content of each entry lies, read from the local headers."""
    content = bundle.read_bytes()
    ranges = {}
    with zipfile.ZipFile(bundle) as archive:
        for info in archive.infolist():
            name, extra = struct.unpack_from("<HH", content, info.header_offset + 26)
            begin = info.header_offset + 30 + name + extra
            ranges[info.filename] = range(begin, begin + info.file_size)
    return ranges


def test_equal_contents_give_equal_bytes(artifact: Path, bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(artifact, copy, copy_function=shutil.copyfile)
    for path in copy.iterdir():
        os.utime(path, (0, 0))
        path.chmod(0o600)
    assert bundled(copy, tmp_path / "other.zip").read_bytes() == bundle.read_bytes()


def test_it_holds_the_record_first_then_the_files_and_nothing_else(
    bundle: Path, artifact: Path
) -> None:
    with zipfile.ZipFile(bundle) as archive:
        names = [BUNDLE_FILE, MODEL_FILE, DATA_FILE, TOKENIZER_FILE, VERDICTS_FILE]
        assert archive.namelist() == names
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.testzip() is None
    ranges = data_ranges(bundle)
    for name in (MODEL_FILE, DATA_FILE):
        assert ranges[name].start % 4096 == 0
        assert (
            bundle.read_bytes()[ranges[name].start : ranges[name].stop]
            == (artifact / name).read_bytes()
        )


def test_the_record_tells_what_is_inside(bundle: Path, artifact: Path, tmp_path: Path) -> None:
    record = read_bundle(bundle)
    assert record.checked
    assert read_verdicts(bundle, record) == (VERDICT,)
    assert record.licence == "Apache-2.0"
    assert record.recipe == "edgeq: 1\n"
    assert record.artifact.dimension == samples.DIMENSION
    assert set(record.files) == {MODEL_FILE, DATA_FILE, TOKENIZER_FILE}
    unchecked = bundled(artifact, tmp_path / "a.zip", verdicts=[], unchecked=True)
    assert not read_bundle(unchecked).checked
    assert read_verdicts(unchecked, read_bundle(unchecked)) == ()


@examples(150)
@given(data=st.data())
def test_any_changed_byte_is_refused_by_name(bundle: Path, scratch: Path, data: Any) -> None:
    content = bytearray(bundle.read_bytes())
    ranges = data_ranges(bundle)
    place = data.draw(
        st.integers(0, len(content) - 1)
        | st.sampled_from(list(ranges)).flatmap(
            lambda name: st.integers(ranges[name].start, ranges[name].stop - 1)
        )
    )
    content[place] ^= data.draw(st.integers(1, 255))
    scratch.write_bytes(content)
    inside = [name for name, area in ranges.items() if place in area]
    with pytest.raises(InvalidInput) as error:
        read_bundle(scratch)
    assert scratch.name in str(error.value)
    if inside:
        assert inside[0] in str(error.value)
        # A damaged record cannot be asked which files are whole.
        blamed = {problem.where.rpartition("/")[2] for problem in error.value.problems}
        assert blamed == {inside[0]} or inside[0] == BUNDLE_FILE


def test_every_byte_after_the_files_counts(bundle: Path, scratch: Path) -> None:
    original = bundle.read_bytes()
    for place in range(data_ranges(bundle)[TOKENIZER_FILE].stop, len(original)):
        content = bytearray(original)
        content[place] ^= 1
        scratch.write_bytes(content)
        with pytest.raises(InvalidInput, match=scratch.name):
            read_bundle(scratch)


@examples(50)
@given(data=st.data())
def test_a_part_of_a_bundle_is_refused(bundle: Path, scratch: Path, data: Any) -> None:
    content = bundle.read_bytes()
    scratch.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(InvalidInput, match=scratch.name):
        read_bundle(scratch)


@examples(50)
@given(more=st.binary(min_size=1, max_size=200))
def test_bytes_before_or_after_a_bundle_are_refused(
    bundle: Path, scratch: Path, more: bytes
) -> None:
    for content in (bundle.read_bytes() + more, more + bundle.read_bytes()):
        scratch.write_bytes(content)
        with pytest.raises(InvalidInput, match=scratch.name):
            read_bundle(scratch)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_the_record_does_not_name_is_refused(bundle: Path, tmp_path: Path) -> None:
    for name in ("extra.txt", "../escape", "/absolute", "folder/", MODEL_FILE):
        path = forge(tmp_path / "forged.zip", [*entries(bundle), (name, b"x")])
        with pytest.raises(InvalidInput, match="not a file its record names"):
            edgeq.load(path)


def test_a_missing_entry_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = forge(tmp_path / "forged.zip", entries(bundle)[:-1])
    with pytest.raises(InvalidInput, match=rf"{VERDICTS_FILE}: is missing"):
        edgeq.load(path)


OUTSIDE = [
    *(
        "../model.onnx",
        "a/../../b",
        "a/..",
        "/etc/passwd",
        "a\\b",
        "..\\b",
        ".hidden",
        "c:x",
        "c:/x",
    ),
    *("a//b", "a/", "a/./b", "a/.hidden", "a\n", "a\0b"),
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_record_that_names_a_place_outside_is_refused(
    bundle: Path, tmp_path: Path, name: str
) -> None:
    (_, record), *files = entries(bundle)
    forged = unseal(record, "bundle")
    for holder in (forged, forged["artifact"]):
        holder["files"][name] = holder["files"].pop(TOKENIZER_FILE)
    renamed = [(name if entry == TOKENIZER_FILE else entry, content) for entry, content in files]
    path = forge(tmp_path / "forged.zip", [(BUNDLE_FILE, seal(forged)), *renamed])
    with pytest.raises(InvalidInput, match="not a record that this version"):
        edgeq.load(path)
    assert [path.name for path in tmp_path.iterdir()] == ["forged.zip"]


@given(
    st.lists(
        st.sampled_from(["..", ".", "", "a", "b.c", "c:", "\\", "~", "a\\b", "\0"]), max_size=5
    )
    | st.lists(st.text(max_size=4), max_size=4)
)
def test_no_name_leads_outside(scratch: Path, parts: list[str]) -> None:
    """A name is refused before anything is read, or lies below the directory on any system."""
    name = "/".join(parts)
    try:
        FILE_NAME.validate_python(name)
    except ValueError:
        nothing = FileRecord(bytes=0, sha256="")
        with pytest.raises(InvalidInput, match="may lead outside"):
            extract(scratch.with_name("none.zip"), {name: nothing}, scratch.parent)
        return
    for system in (PurePosixPath, PureWindowsPath):
        path = system(name)
        assert not path.is_absolute() and not path.drive and ".." not in path.parts
        assert path.parts == tuple(name.split("/"))


def test_a_file_with_other_content_of_equal_size_is_refused_when_extracted(
    bundle: Path, tmp_path: Path
) -> None:
    forged = [
        (name, bytes(len(content)) if name == DATA_FILE else content)
        for name, content in entries(bundle)
    ]
    path = forge(tmp_path / "forged.zip", forged)
    with pytest.raises(InvalidInput, match=DATA_FILE):
        extract(path, read_bundle(path).files, tmp_path)


def test_it_loads_zipped_and_unzipped_alike(bundle: Path, artifact: Path, tmp_path: Path) -> None:
    texts = ["a cat sat on the mat", "", "un red birds"]
    expected = edgeq.load(artifact).embed(texts)
    assert (edgeq.load(bundle).embed(texts) == expected).all()
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(tmp_path / "open")
    assert (edgeq.load(tmp_path / "open").embed(texts) == expected).all()
    for name in (BUNDLE_FILE, MODEL_FILE, DATA_FILE, TOKENIZER_FILE):
        path = tmp_path / "open" / name
        original = path.read_bytes()
        path.write_bytes(original[:-2] + bytes([original[-2] ^ 1]) + original[-1:])
        with pytest.raises(InvalidInput, match=name):
            edgeq.load(tmp_path / "open")
        path.write_bytes(original)


def test_what_was_not_checked_is_refused_unless_it_is_marked(
    artifact: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="allow-unchecked"):
        bundled(artifact, tmp_path / "a.zip", verdicts=[])
    assert list(tmp_path.iterdir()) == []


def test_a_changed_artifact_is_not_bundled(artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifact, copy)
    with (copy / DATA_FILE).open("r+b") as file:
        file.write(b"\xff")
    with pytest.raises(InvalidInput, match=DATA_FILE):
        bundled(copy, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_a_place_that_cannot_be_written_is_said(artifact: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "none" / "a.zip", tmp_path):
        with pytest.raises(InvalidInput, match="directory"):
            bundled(artifact, out)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_whole(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.zip"
    out.write_bytes(b"older")
    bundled(artifact, out)
    assert read_bundle(out).checked
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
