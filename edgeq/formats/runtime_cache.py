"""Files that runners make once and keep on this machine: in `EDGEQ_CACHE`, or the user's cache."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import platformdirs

from edgeq.core.artifact import FileRecord, verify_directory
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import others_can_write
from edgeq.core.store import MANIFEST, Store
from edgeq.formats.package import Package

KEEP = 2 * 1024**3
"""Bytes of a kind that are kept; the longest unused go first."""
_LAYOUT = "1"  # of the cached files: increase it when their format changes


def cache_directory() -> Path:
    """The cache's location: `EDGEQ_CACHE`, or the user's cache directory.

    Give every emulated CPU a separate cache: /proc/cpuinfo shows the host's instruction sets.
    """
    chosen = os.environ.get("EDGEQ_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("edgeq")


def store() -> Store:
    """The store of cached files; builds have their own.

    Its files are loaded as if they were the bundle they were made from. Raises InvalidInput if
    another user could have written them.
    """
    return Store(private_directory(), version=_LAYOUT, private=True)


def private_directory() -> Path:
    """`cache_directory`, for this user alone; InvalidInput if others own it or can write."""
    directory = cache_directory()
    with contextlib.suppress(OSError):  # reported by whoever writes there
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fault = others_can_write(directory)
    except OSError:
        return directory
    if fault:
        what = f"{fault}, who could change the files loaded from there"
        remedy = f"rm -r {directory}, or name another directory with EDGEQ_CACHE"
        raise InvalidInput(Problem(str(directory), what, remedy))
    return directory


def mark_used(kept: Path) -> None:
    """Record that `kept` was used now."""
    with contextlib.suppress(OSError):  # a read-only cache of another user works too
        os.utime(kept / MANIFEST)


def drop_unused(kept: Path) -> None:
    """Remove the least recently used neighbours of `kept`, never itself, until all are within
    `KEEP`.
    """
    with contextlib.suppress(OSError):  # another process may be removing the same
        others = [path for path in kept.parent.iterdir() if path.is_dir() and path != kept]
        room = KEEP - _size(kept)
        for other in sorted(others, key=_last_used, reverse=True):
            room -= _size(other)
            if room < 0:
                shutil.rmtree(other, ignore_errors=True)


def model_file(package: Package) -> Path:
    """The file, or directory, that the runtime opens; see `unpacked`."""
    return unpacked(package, package.model_files) / package.model_name


def unpacked(package: Package, names: Iterable[str]) -> Path:
    """The directory with these files; archives are unpacked once and cached.

    Cached files are compared with the archive's record, byte by byte, and unpacked again if they
    differ. Raises InvalidInput or Missing if they cannot be written.
    """
    if not package.zipped:
        return package.path
    records = {file: package.artifact.files[file] for file in names}
    key = {file: record.sha256 for file, record in records.items()}
    place = store().place("unpacked", key)
    if place.exists() and not _holds(place, records):
        shutil.rmtree(place)
    made = store().stage(
        "unpacked",
        key,
        lambda directory: package.extract(records, directory),
        describe=package.artifact.name,
        verify=False,
    )
    mark_used(made)
    drop_unused(made)
    return made


def _holds(directory: Path, records: Mapping[str, FileRecord]) -> bool:
    try:
        verify_directory(directory, records, {MANIFEST})
    except InvalidInput:
        return False
    return True


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _last_used(directory: Path) -> float:
    manifest = directory / MANIFEST
    return (manifest if manifest.exists() else directory).stat().st_mtime
