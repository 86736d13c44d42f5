"""What workers measure, carried by content: a worker asks for the files that it has not."""

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
"""What is sent at once; a worker that measures meanwhile is held up no longer than for that."""
_hashes = Hashes()


@dataclass(frozen=True)
class Parcel:
    """A directory, or a single file, at `path` on the machine that asks.

    files: the SHA-256 of every file by its name below `path`; of a single file, by its own name.
    """

    path: Path
    files: Mapping[str, str]
    single: bool

    def source(self, name: str) -> Path:
        """Where a file lies on the machine that asks."""
        return self.path if self.single else self.path / name


def parcel_of(path: Path) -> Parcel:
    """The file or directory at `path` as it is now. Raises InvalidInput if it cannot be read."""
    path = path.absolute()
    found = {path.name: path} if path.is_file() else files_below(path, "")
    files = {name.lstrip("/"): _hashes.of(file) for name, file in found.items()}
    return Parcel(path, files, path.is_file())


class Lacking(Exception):
    """Files are not on this machine; `digests` are their SHA-256."""

    def __init__(self, digests: Iterable[str]) -> None:
        self.digests = tuple(digests)
        super().__init__(f"{len(self.digests)} files are not here")


@contextlib.contextmanager
def laid_out(parcels: Iterable[Parcel]) -> Iterator[dict[Path, Path]]:
    """Where parcels lie on this machine, by their `path`, until the end of the `with` block.

    That is `path` itself where this machine sees the same files there, else a directory of links to
    what was received. Raises Lacking with all that has to be received first.
    """
    there: dict[Path, Path] = {}
    away = []
    for parcel in parcels:
        if _is_here(parcel):
            there[parcel.path] = parcel.path
        else:
            away.append(parcel)
    wanted = {digest for parcel in away for digest in parcel.files.values()}
    lacking = sorted(digest for digest in wanted if not _is_whole(digest))
    if lacking:
        raise Lacking(lacking)
    if not away:
        yield there
        return
    room = _room()
    try:
        for index, parcel in enumerate(away):
            there[parcel.path] = _lay(parcel, room / str(index))
        yield there
    finally:
        shutil.rmtree(room, ignore_errors=True)
        _drop_unused(wanted)


def receive(digest: str, sender: str, offset: int, piece: bytes, last: bool) -> None:
    """Take the next `piece` of the file with SHA-256 `digest`; whole, it is there for `laid_out`.

    `sender` tells apart who sends the same file at the same time. Raises OSError if it cannot be
    written, ValueError if it is not the file that was announced.
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
                raise ValueError("it was changed while it was sent")
            flush_file(part)
            part.replace(place)
    except (OSError, ValueError):
        part.unlink(missing_ok=True)
        raise


def _is_whole(digest: str) -> bool:
    """Whether a file was received, and no power cut has spoilt it since."""
    try:
        return _hashes.of(_received(digest)) == digest
    except InvalidInput:
        return False


def _is_here(parcel: Parcel) -> bool:
    try:
        pairs = parcel.files.items()
        return all(_hashes.of(parcel.source(name)) == digest for name, digest in pairs)
    except InvalidInput:
        return False


def _lay(parcel: Parcel, folder: Path) -> Path:
    """Links to the files of a parcel in `folder`; they stay should what was received be dropped."""
    for name, digest in parcel.files.items():
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
    (name, *_) = parcel.files
    return folder / name if parcel.single else folder


def _carried() -> Path:
    return runtime_cache.private_directory() / "carried"


def _received(digest: str) -> Path:
    return _carried() / digest


def _room() -> Path:
    """A new directory of this process, beside those of others; of ended ones they are removed."""
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
    """Remove what was longest not used, never `used`, until the rest is within its `KEEP`."""
    with contextlib.suppress(OSError):  # another worker may be removing the same
        files = [file for file in _carried().iterdir() if file.is_file()]
        room = runtime_cache.KEEP - sum(_received(digest).stat().st_size for digest in used)
        for file in sorted(files, key=lambda each: each.stat().st_mtime, reverse=True):
            if file.name not in used:
                room -= file.stat().st_size
                if room < 0:
                    file.unlink()
