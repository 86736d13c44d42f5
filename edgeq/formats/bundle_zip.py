"""The archive of a bundle: a `.zip` with identical bytes wherever it is written.

All entries are stored (not deflated: a compressor's version would change the bytes), at multiples
of 4096 so that they can be mapped. The archive's comment is `edgeq-sha256:` and the SHA-256 of
every byte before the comment.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from edgeq.core.artifact import FileRecord
from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.bundle_entries import COMMENT, COMMENT_BYTES

LARGEST = 2**31 - 1
"""Bytes of the largest file; larger ones need ZIP64, and no app store accepts them."""
_ALIGNMENT = 4096
_PADDING_ID = 0xD935  # the extra field that zipalign uses for padding
_LOCAL_HEADER = 30  # bytes before the name, .ZIP File Format Specification 4.3.7
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1 << 20

Content = Path | bytes
"""A file's content, or its path."""


def write_archive(
    path: Path,
    first: tuple[str, bytes],
    contents: Mapping[str, Content],
    records: Mapping[str, FileRecord],
) -> None:
    """Write `first`, a name and its content, then `contents` by name.

    Raises InvalidInput if a file's content differs from its record.
    """
    with path.open("wb+") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
            archive.comment = COMMENT + b"0" * 64
            archive.writestr(_entry(first[0]), first[1])
            for name in sorted(contents):
                info = _entry(name)
                info.file_size = records[name].bytes
                info.extra = _padding(file.tell() + _LOCAL_HEADER + len(name.encode()))
                with _content(contents[name]) as source, archive.open(info, "w") as target:
                    digest = copy(source, target, info.file_size)
                # The padding belongs to the local header only, not to the directory at the end.
                info.extra = b""
                if digest != records[name].sha256:
                    raise InvalidInput(
                        Problem(str(contents[name]), "changed meanwhile", "try again")
                    )
        end = file.seek(-64, os.SEEK_END)
        file.write(_digest(file, end - len(COMMENT)).encode())


def is_untouched(path: Path) -> bool:
    """Whether the digest at the end of the archive `path` matches the bytes before it."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < COMMENT_BYTES:
                return False
            file.seek(size - COMMENT_BYTES)
            return file.read() == COMMENT + _digest(file, size - COMMENT_BYTES).encode()
    except OSError as error:
        remedy = "name a bundle that `edgeq bundle` wrote"
        what = f"cannot be read: {error.strerror}"
        raise InvalidInput(Problem(str(path), what, remedy)) from None


def copy(source: IO[bytes], target: IO[bytes] | None, size: int) -> str:
    """SHA-256 of the next `size` bytes of `source`, copied to `target` if given."""
    digest = hashlib.sha256()
    while size > 0 and (piece := source.read(min(size, _CHUNK))):
        digest.update(piece)
        size -= len(piece)
        if target is not None:
            target.write(piece)
    return digest.hexdigest()


def _content(content: Content) -> IO[bytes]:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # Unix, wherever it is written
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def _padding(offset: int) -> bytes:
    """An extra field after which the next byte, now at `offset`, is a multiple of 4096."""
    size = -(offset + 6) % _ALIGNMENT
    return b"".join(
        number.to_bytes(2, "little") for number in (_PADDING_ID, size + 2, _ALIGNMENT)
    ) + bytes(size)


def _digest(file: IO[bytes], size: int) -> str:
    """SHA-256 of the first `size` bytes; leaves the position of `file` unchanged."""
    place = file.tell()
    file.seek(0)
    digest = copy(file, None, size)
    file.seek(place)
    return digest
