"""The cache is private, and what it holds of a bundle is compared with that bundle."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

import edgeq
from edgeq.core.artifact import DATA_FILE, seal, unseal
from edgeq.core.errors import InvalidInput
from edgeq.core.store import MANIFEST
from edgeq.formats import runtime_cache
from edgeq.formats.package import open_package
from tests.support import samples
from tests.support.bundles import unchecked_bundle

posix = pytest.mark.skipif(sys.platform == "win32", reason="has no permission bits")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def forge(directory: Path, name: str, content: bytes) -> None:
    """Change a file that a stage made, and its manifest, as someone who can write there would."""
    (directory / name).write_bytes(content)
    manifest = unseal((directory / MANIFEST).read_bytes(), "")
    record = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"][name] = record
    (directory / MANIFEST).write_bytes(seal(manifest))


def test_an_unpacked_copy_is_compared_with_its_bundle(tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=64)
    bundle = unchecked_bundle(artifact, tmp_path / "b.zip")
    original = (artifact / DATA_FILE).read_bytes()
    folder = runtime_cache.model_file(open_package(bundle)).parent
    forge(folder, DATA_FILE, bytes(len(original)))
    assert runtime_cache.store().find("unpacked", key_of(folder))  # the cache itself is content
    again = runtime_cache.model_file(open_package(bundle)).parent
    assert (again / DATA_FILE).read_bytes() == original
    (again / "more").write_bytes(b"x")
    assert not (runtime_cache.model_file(open_package(bundle)).parent / "more").exists()


def key_of(folder: Path) -> dict[str, str]:
    key: dict[str, str] = unseal((folder / MANIFEST).read_bytes(), "")["key"]
    return key


@posix
def test_the_cache_is_made_for_its_user_alone(cache: Path) -> None:
    before = os.umask(0)
    try:
        runtime_cache.store()
    finally:
        os.umask(before)
    assert cache.stat().st_mode & 0o777 == 0o700


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_cache_that_others_can_write_is_not_used(mode: int, cache: Path, tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact")
    cache.mkdir()
    cache.chmod(mode)
    with pytest.raises(InvalidInput, match="written by other users"):
        runtime_cache.store()
    with pytest.warns(RuntimeWarning, match="written by other users"):
        assert not edgeq.load(artifact).prepared
    assert not list(cache.iterdir())


@posix
def test_a_cache_of_another_user_is_not_used(cache: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    cache.mkdir(mode=0o700)
    os.chown(cache, 12345, 12345)
    with pytest.raises(InvalidInput, match="another user"):
        runtime_cache.store()


@posix
@pytest.mark.parametrize("opened", ["", "stage", "place", "file"])
def test_what_others_can_write_is_unpacked_again(tmp_path: Path, cache: Path, opened: str) -> None:
    before = os.umask(0o002)  # as on systems where each user has a group
    try:
        store = runtime_cache.store()
        cache.chmod(0o755)
        place = store.stage("unpacked", {}, lambda to: (to / "weights").touch())
        assert place.stat().st_mode & 0o077 == 0
        if opened:
            place.chmod(0o755)
            {"stage": place.parent, "place": place, "file": place / "weights"}[opened].chmod(0o777)
        else:
            (place / "weights").chmod(0o666)  # nobody else reaches it
        assert (runtime_cache.store().find("unpacked", {}) is None) == bool(opened)
        made = runtime_cache.store().stage("unpacked", {}, lambda to: (to / "weights").touch())
        assert runtime_cache.store().find("unpacked", {}) == made
        assert made.stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)
