"""Bundles and artifacts as a stranger who knows the format could make them: all are refused."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

import edgeq
from edgeq.core.artifact import (
    ARTIFACT_FILE,
    DATA_FILE,
    MODEL_FILE,
    read_record,
    record_files,
    seal,
    unseal,
    write_artifact,
)
from edgeq.core.errors import InvalidInput
from edgeq.formats.bundle import BUNDLE_FILE, read_bundle
from edgeq.models.external_data import external_files
from tests.support import samples
from tests.support.bundles import unchecked_bundle
from tests.support.hostile_bundles import (
    ENTRIES,
    HIDING,
    LOCATIONS,
    NAMES,
    forged,
    sealed,
    with_tensor_elsewhere,
)

MIB = 1 << 20


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.tensor_artifact(tmp_path_factory.mktemp("made") / "artifact", width=64)


@pytest.fixture(scope="module")
def bundle(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundled(artifact, tmp_path_factory.mktemp("bundles") / "sample.zip")


@pytest.fixture
def copy(artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifact, tmp_path / "copy"))


def bundled(artifact: Path, out: Path) -> Path:
    return unchecked_bundle(artifact, out)


@pytest.mark.parametrize("change", ENTRIES)
def test_entries_that_no_bundle_has_are_refused(
    change: Callable[[zipfile.ZipInfo], None], bundle: Path, tmp_path: Path
) -> None:
    plain = forged(bundle, tmp_path / "plain.zip", lambda _: None)
    assert read_bundle(plain).artifact  # the forgery itself is not what is refused
    with pytest.raises(InvalidInput, match=r"bad\.zip"):
        edgeq.load(forged(bundle, tmp_path / "bad.zip", change))


def test_a_bomb_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(BUNDLE_FILE, bytes(64 * MIB))
    begun = time.process_time()
    with pytest.raises(InvalidInput, match="compressed"):
        edgeq.load(sealed(path))
    assert time.process_time() - begun < 5  # inflating and reading it would take far longer


def test_a_directory_of_many_entries_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 60 * MIB, 0, 77)
    path.write_bytes(b"PK\1\2" * (15 * MIB) + end)
    with pytest.raises(InvalidInput, match="claims 65535 entries"):
        edgeq.load(sealed(path))


def test_overlapping_entries_are_refused(bundle: Path, tmp_path: Path) -> None:
    content = bytearray(bundle.read_bytes())
    first = content.index(b"PK\1\2")
    second = content.index(b"PK\1\2", first + 4)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(InvalidInput, match="does not start where"):
        edgeq.load(sealed(tmp_path / "bad.zip"))


@pytest.mark.parametrize("name", NAMES)
def test_names_that_mean_something_else_elsewhere_are_refused(name: str, copy: Path) -> None:
    record = unseal((copy / ARTIFACT_FILE).read_bytes(), "")
    record["files"][name] = {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    (copy / ARTIFACT_FILE).write_bytes(seal(record))
    with pytest.raises(InvalidInput, match="files"):
        edgeq.load(copy)


def add_file(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"x")


def add_folder(folder: Path) -> None:
    (folder / "more").mkdir()


def put_link(folder: Path) -> None:
    target = folder.parent / "outside"
    (folder / DATA_FILE).rename(target)
    (folder / DATA_FILE).symlink_to(target)


def put_pipe(folder: Path) -> None:
    (folder / ARTIFACT_FILE).unlink()
    os.mkfifo(folder / ARTIFACT_FILE)


@pytest.mark.skipif(sys.platform == "win32", reason="has neither links for everybody nor pipes")
@pytest.mark.parametrize("change", [add_file, add_folder, put_link, put_pipe])
def test_a_directory_holds_the_recorded_files_and_nothing_else(
    change: Callable[[Path], None], copy: Path
) -> None:
    assert edgeq.load(copy).artifact
    change(copy)
    with pytest.raises(InvalidInput):
        edgeq.load(copy)


@pytest.mark.parametrize("hide", HIDING)
def test_external_data_outside_the_record_is_found_wherever_a_tensor_can_lie(
    hide: Callable[[onnx.ModelProto, TensorProto], None], artifact: Path, copy: Path
) -> None:
    for location in LOCATIONS:
        changed = Path(shutil.copytree(artifact, copy, dirs_exist_ok=True))
        content = with_tensor_elsewhere(changed, hide, location)
        assert external_files(content) == {DATA_FILE, location}
        for path in (changed, bundled(changed, changed.parent / "b.zip")):
            with pytest.raises(InvalidInput, match="stores a tensor in"):
                edgeq.load(path)


def test_the_last_of_two_locations_counts_as_onnx_reads_them() -> None:
    entry = helper.make_tensor("w", TensorProto.FLOAT, [0], [])
    entry.external_data.add(key="location", value="inside")
    content = onnx.ModelProto(graph=onnx.GraphProto(initializer=[entry])).SerializeToString()
    again = content + content.replace(b"inside", b"behind")  # protobuf merges the two graphs
    parsed: Any = onnx.ModelProto.FromString(again)
    read = {e.value for t in parsed.graph.initializer for e in t.external_data}
    assert external_files(again) == read == {"inside", "behind"}


@pytest.mark.parametrize("content", [b"", b"\0", b"\x3a\xff", b"\x3b" * 9, b"\x3a\x02\x0b\x0b"])
def test_what_is_no_model_is_refused(content: bytes, copy: Path) -> None:
    (copy / MODEL_FILE).write_bytes(content)
    files = record_files(copy, [MODEL_FILE, DATA_FILE])
    write_artifact(copy, read_record(copy).model_copy(update={"files": files}))
    with pytest.raises(InvalidInput, match=MODEL_FILE):
        edgeq.load(copy)
