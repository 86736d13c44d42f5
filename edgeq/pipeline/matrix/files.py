"""Files for workers, transferred by content: a worker asks for the files that it lacks."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput
from edgeq.core.files import flush_file
from edgeq.formats import runtime_cache
from edgeq.places.file_manifest import Hashes, files_below

PIECE_BYTES = 4 << 20
"""Bytes per transfer; a worker that is measuring is delayed no longer than one takes."""
_hashes = Hashes()


@dataclass(frozen=True)
class FileManifest:
    """A directory, or a single file, at `path` on the requesting machine.

    files: the SHA-256 of every file by its name below `path`; for a single file, by its own name.
    """

    path: Path
    files: Mapping[str, str]
    single: bool

    def source(self, name: str) -> Path:
        """The path of a file on the requesting machine."""
        return self.path if self.single else self.path / name


def manifest_of(path: Path) -> FileManifest:
    """The manifest of the file or directory at `path`. Raises InvalidInput if it cannot be read."""
    path = path.absolute()
    found = {path.name: path} if path.is_file() else files_below(path, "")
    files = {name.lstrip("/"): _hashes.of(file) for name, file in found.items()}
    return FileManifest(path, files, path.is_file())


class Lacking(Exception):
    """Files are not on this machine; `digests` are their SHA-256."""

    def __init__(self, digests: Iterable[str]) -> None:
        self.digests = tuple(digests)
        super().__init__(f"{len(self.digests)} files are not here")


@contextlib.contextmanager
def laid_out(manifests: Iterable[FileManifest]) -> Iterator[dict[Path, Path]]:
    """Map each manifest's `path` to its place on this machine, until the end of the `with` block.

    That is `path` itself if this machine sees the same files there, else a directory of links to
    received files. Raises Lacking with every missing file first.
    """
    there: dict[Path, Path] = {}
    away = []
    for manifest in manifests:
        if _is_here(manifest):
            there[manifest.path] = manifest.path
        else:
            away.append(manifest)
    wanted = {digest for manifest in away for digest in manifest.files.values()}
    lacking = sorted(digest for digest in wanted if not _is_whole(digest))
    if lacking:
        raise Lacking(lacking)
    if not away:
        yield there
        return
    room = _room()
    try:
        for index, manifest in enumerate(away):
            there[manifest.path] = _lay(manifest, room / str(index))
        yield there
    finally:
        shutil.rmtree(room, ignore_errors=True)
        _drop_unused(wanted)


def receive(digest: str, sender: str, offset: int, piece: bytes, last: bool) -> None:
    """Take the next `piece` of the file with SHA-256 `digest`; once complete, `laid_out` finds it.

    `sender` distinguishes simultaneous senders of the same file. Raises OSError if it cannot be
    written, ValueError if it is not the announced file.
    """
    place = _received(digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{digest}.{sender}.part")
    try:
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(piece)
        if last:
            if canonical.sha256_of_file(part) != digest:
                raise ValueError("it changed during the transfer")
            flush_file(part)
            part.replace(place)
    except (OSError, ValueError):
        part.unlink(missing_ok=True)
        raise


def _is_whole(digest: str) -> bool:
    """Whether a file was received, and has not been damaged since, as by a power cut."""
    try:
        return _hashes.of(_received(digest)) == digest
    except InvalidInput:
        return False


def _is_here(manifest: FileManifest) -> bool:
    try:
        pairs = manifest.files.items()
        return all(_hashes.of(manifest.source(name)) == digest for name, digest in pairs)
    except InvalidInput:
        return False


def _lay(manifest: FileManifest, folder: Path) -> Path:
    """Link the files of a manifest in `folder`; links survive if the received files are dropped."""
    for name, digest in manifest.files.items():
        received, place = _received(digest), folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.utime(received)
            try:
                os.link(received, place)
            except PermissionError:  # a file system without links
                shutil.copyfile(received, place)
        except FileNotFoundError:  # another worker has just dropped it
            raise Lacking([digest]) from None
    (name, *_) = manifest.files
    return folder / name if manifest.single else folder


def _carried() -> Path:
    return runtime_cache.private_directory() / "carried"


def _received(digest: str) -> Path:
    return _carried() / digest


def _room() -> Path:
    """A new directory of this process; directories of ended processes are removed."""
    rooms = _carried() / "rooms"
    rooms.mkdir(parents=True, exist_ok=True)
    for room in rooms.iterdir():
        process, _, machine = room.name.split("-", 2)
        if machine == platform.node() and not psutil.pid_exists(int(process)):
            shutil.rmtree(room, ignore_errors=True)
    room = rooms / f"{os.getpid()}-{secrets.token_hex(4)}-{platform.node()}"
    room.mkdir()
    return room


def _drop_unused(used: set[str]) -> None:
    """Remove the least recently used, never `used`, until the rest is within its `KEEP`."""
    with contextlib.suppress(OSError):  # another worker may be removing the same
        files = [file for file in _carried().iterdir() if file.is_file()]
        room = runtime_cache.KEEP - sum(_received(digest).stat().st_size for digest in used)
        for file in sorted(files, key=lambda each: each.stat().st_mtime, reverse=True):
            if file.name not in used:
                room -= file.stat().st_size
                if room < 0:
                    file.unlink()
