"""What is carried to a worker that sees other files: by content, and only what is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.core import canonical
from edgeq.formats import runtime_cache
from edgeq.pipeline.matrix.files import FileManifest, Lacking, laid_out, manifest_of, receive


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "carried"


@pytest.fixture
def away(tmp_path: Path) -> tuple[list[FileManifest], dict[str, bytes]]:
    """A directory and a file that are not here any more, and the bytes of each by SHA-256."""
    folder, single = tmp_path / "artifact", tmp_path / "data.tsv"
    contents = {"artifact.json": b"{}", "deep/weights": bytes(range(256)) * 64, "twin": b"{}"}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    single.write_bytes(b"a\tb\n")
    found = [manifest_of(folder), manifest_of(single)]
    pieces = {
        digest: manifest.source(name).read_bytes()
        for manifest in found
        for name, digest in manifest.files.items()
    }
    shutil.rmtree(folder)
    single.unlink()
    return found, pieces


def test_what_a_machine_sees_at_the_same_path_is_used_there(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "file").write_text("content")
    manifest = manifest_of(tmp_path / "file")
    with laid_out([manifest]) as there:
        assert there == {tmp_path / "file": tmp_path / "file"}
    assert not cache.exists()
    (tmp_path / "file").write_text("another")  # the same path, another file
    with pytest.raises(Lacking), laid_out([manifest]):
        pass


def test_only_what_is_lacking_is_asked_for_and_the_rest_is_laid_out(
    away: tuple[list[FileManifest], dict[str, bytes]], cache: Path
) -> None:
    parcels_, pieces = away
    first, *others = sorted(pieces)
    with pytest.raises(Lacking) as lacking, laid_out(parcels_):
        pass
    assert set(lacking.value.digests) == set(pieces)
    receive(first, "me", 0, pieces[first], True)
    with pytest.raises(Lacking) as lacking, laid_out(parcels_):
        pass
    assert lacking.value.digests == tuple(others)
    for digest in others:  # in two pieces, as what is large comes
        half = len(pieces[digest]) // 2
        receive(digest, "me", 0, pieces[digest][:half], False)
        receive(digest, "me", half, pieces[digest][half:], True)
    spoilt = cache / first
    spoilt.write_bytes(bytes(len(pieces[first])))  # what a power cut can leave
    with pytest.raises(Lacking) as lacking, laid_out(parcels_):
        pass
    assert lacking.value.digests == (first,)
    receive(first, "me", 0, pieces[first], True)
    with laid_out(parcels_) as there:
        for manifest in parcels_:
            place = there[manifest.path]
            assert place != manifest.path
            assert place.name == manifest.path.name or not manifest.single
            for name, digest in manifest.files.items():
                file = place if manifest.single else place / name
                assert canonical.sha256_of_file(file) == digest
    assert list((cache / "rooms").iterdir()) == []
    assert {file.name for file in cache.iterdir() if file.is_file()} == set(pieces)


def test_what_is_not_what_was_announced_is_not_kept(
    away: tuple[list[FileManifest], dict[str, bytes]], cache: Path
) -> None:
    _, pieces = away
    (digest, *_) = pieces
    with pytest.raises(ValueError, match="changed"):
        receive(digest, "me", 0, b"something else", True)
    assert list(cache.iterdir()) == []


def test_rooms_of_ended_processes_go_and_those_of_others_stay(
    away: tuple[list[FileManifest], dict[str, bytes]], cache: Path
) -> None:
    parcels_, pieces = away
    for digest, content in pieces.items():
        receive(digest, "me", 0, content, True)
    node = os.uname().nodename
    stale = cache / "rooms" / f"{2**22 + 1}-00-{node}"  # above the largest process id of Linux
    elsewhere = cache / "rooms" / f"{2**22 + 1}-00-another-{node}"
    stale.mkdir(parents=True)
    elsewhere.mkdir()
    with laid_out(parcels_):
        assert not stale.exists()
        assert elsewhere.exists()


def test_what_was_longest_not_used_goes_first(
    away: tuple[list[FileManifest], dict[str, bytes]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcels_, pieces = away
    for digest, content in pieces.items():
        receive(digest, "me", 0, content, True)
    for age, name in enumerate(("young", "old")):
        (cache / name).write_bytes(bytes(1000))
        os.utime(cache / name, (1e9 - age, 1e9 - age))
    used = sum(map(len, pieces.values()))
    monkeypatch.setattr(runtime_cache, "KEEP", used + 1500)
    with laid_out(parcels_):
        pass
    left = {file.name for file in cache.iterdir() if file.is_file()}
    assert left == {*pieces, "young"}
    assert used + 1500 == runtime_cache.KEEP
