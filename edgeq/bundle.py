"""Bundles: one `.zip` an app ships, the same to the byte whenever and wherever it is written.

Layout: `bundle.json` first, then the files by name, all stored (not deflated: a compressor's
version would change the bytes), the model's files at multiples of 4096 so that they can be mapped.
The archive's comment is `edgeq-sha256:` and the SHA-256 of every byte before the comment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import model_validator

from edgeq.artifact import (
    Artifact,
    FileName,
    FileRecord,
    Frozen,
    parse_record,
    read_artifact,
    seal,
    unseal,
    verify_files,
)
from edgeq.errors import InvalidInput, Problem

BUNDLE_FILE = "bundle.json"
_ALIGNMENT = 4096
_PADDING_ID = 0xD935  # the extra field that zipalign uses for padding
_LOCAL_HEADER = 30  # bytes before the name, .ZIP File Format Specification 4.3.7
_LARGEST = 2**31 - 1  # larger files need ZIP64, and no app store takes them
_EPOCH = (1980, 1, 1, 0, 0, 0)
_COMMENT = b"edgeq-sha256:"
_COMMENT_BYTES = len(_COMMENT) + 64
_CHUNK = 1 << 20
_FETCH_AGAIN = "build or fetch it again; a bundle that changed is never loaded"


class Bundle(Frozen):
    """What a bundle holds and what is known about it: `bundle.json`.

    `checked` says that every verdict in it was asked for and passed; a bundle written with
    `--allow-unchecked` carries false.
    """

    edgeq: Literal[1] = 1
    kind: Literal["bundle"] = "bundle"
    checked: bool
    artifact: Artifact
    files: dict[FileName, FileRecord]
    licence: str | None
    licence_text: str | None
    recipe: str
    verdicts: tuple[dict[str, Any], ...]

    @model_validator(mode="after")
    def _files_are_the_artifacts(self) -> Bundle:
        if self.files != self.artifact.files or BUNDLE_FILE in self.files:
            raise ValueError("files differ from those of the artifact")
        return self


def write_bundle(
    artifact_dir: Path,
    out: Path,
    *,
    recipe_text: str,
    verdicts: list[dict[str, Any]],
    licence: str | None,
    licence_text: str | None,
    unchecked: bool,
) -> Path:
    """Write the artifact in `artifact_dir` to the bundle `out` and return `out`.

    Equal arguments give equal bytes. `verdicts` are JSON values; `licence` is an SPDX identifier.
    Raises InvalidInput if a file of the artifact changed, if `out` has no directory to lie in, or
    if there is no verdict and `unchecked` is not set.
    """
    if not verdicts and not unchecked:
        remedy = "run `edgeq check` first, or pass --allow-unchecked"
        raise InvalidInput(Problem(str(artifact_dir), "was not checked", remedy))
    if not out.parent.is_dir() or out.is_dir():
        what = "is a directory" if out.is_dir() else f"{out.parent} is not a directory"
        raise InvalidInput(Problem(str(out), what, "name a .zip file in a directory that exists"))
    artifact = read_artifact(artifact_dir)
    for name, record in artifact.files.items():
        if record.bytes > _LARGEST:
            what = f"has {record.bytes} bytes; a bundle's files have at most {_LARGEST}"
            remedy = "choose a variant with fewer bits"
            raise InvalidInput(Problem(str(artifact_dir / name), what, remedy))
    bundle = Bundle(
        checked=not unchecked,
        artifact=artifact,
        files=artifact.files,
        licence=licence,
        licence_text=licence_text,
        recipe=recipe_text,
        verdicts=tuple(verdicts),
    )
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        _write(partial, seal(bundle.model_dump(mode="json")), artifact_dir, artifact.files)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def read_bundle(path: Path) -> Bundle:
    """Verify every byte of the bundle `path` and return its record.

    Raises InvalidInput naming the file that changed, or the archive itself if no file did.
    """
    if not _is_untouched(path):
        raise InvalidInput(_culprits(path))
    with _opened(path) as archive:
        bundle = _record(archive, path)
        _require_entries(archive, bundle, path)
    return bundle


def read_bundle_directory(directory: Path) -> Bundle:
    """Verify an unzipped bundle and return its record; InvalidInput names what changed."""
    path = directory / BUNDLE_FILE
    bundle = parse_record(Bundle, unseal(path.read_bytes(), str(path)), str(path))
    verify_files(directory, bundle.files)
    return bundle


def read_member(path: Path, name: str, record: FileRecord) -> bytes:
    """The content of one file of the bundle `path`, compared with its record."""
    with _opened(path) as archive:
        content = archive.read(name)
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise InvalidInput(_changed(path, name))
    return content


def extract(path: Path, records: Mapping[str, FileRecord], directory: Path) -> None:
    """Copy files of the bundle `path` to `directory` in pieces, comparing them on the way."""
    with _opened(path) as archive:
        for name, record in records.items():
            with archive.open(name) as source, (directory / name).open("wb") as target:
                digest = _copy(source, target)
            if digest != record.sha256:
                raise InvalidInput(_changed(path, name))


def _write(path: Path, record: bytes, directory: Path, files: Mapping[str, FileRecord]) -> None:
    with path.open("wb+") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
            archive.comment = _COMMENT + b"0" * 64
            archive.writestr(_entry(BUNDLE_FILE), record)
            for name in sorted(files):
                info = _entry(name)
                info.file_size = files[name].bytes
                info.extra = _padding(file.tell() + _LOCAL_HEADER + len(name.encode()))
                with (directory / name).open("rb") as source, archive.open(info, "w") as target:
                    digest = _copy(source, target)
                # The padding belongs to the local header only, not to the directory at the end.
                info.extra = b""
                if digest != files[name].sha256:
                    problem = Problem(str(directory / name), "changed meanwhile", "try again")
                    raise InvalidInput(problem)
        end = file.seek(-64, os.SEEK_END)
        file.write(_digest(file, end - len(_COMMENT)).encode())
        file.flush()
        os.fsync(file.fileno())


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
    """SHA-256 of the first `size` bytes; leaves `file` where it stood."""
    place = file.tell()
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (piece := file.read(min(size, _CHUNK))):
        digest.update(piece)
        size -= len(piece)
    file.seek(place)
    return digest.hexdigest()


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := source.read(_CHUNK):
        digest.update(piece)
        target.write(piece)
    return digest.hexdigest()


def _is_untouched(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size < _COMMENT_BYTES:
                return False
            file.seek(size - _COMMENT_BYTES)
            return file.read() == _COMMENT + _digest(file, size - _COMMENT_BYTES).encode()
    except OSError as error:
        raise InvalidInput(Problem(str(path), f"cannot be read: {error.strerror}")) from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever goes wrong while reading it is InvalidInput for `path`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InvalidInput:
        raise
    # zipfile lets struct, codec and arithmetic errors of a damaged archive through.
    except Exception as error:
        what = f"is not a bundle that can be read: {error}"
        raise InvalidInput(Problem(str(path), what, _FETCH_AGAIN)) from error


def _record(archive: zipfile.ZipFile, path: Path) -> Bundle:
    where = f"{path}/{BUNDLE_FILE}"
    return parse_record(Bundle, unseal(archive.read(BUNDLE_FILE), where), where)


def _require_entries(archive: zipfile.ZipFile, bundle: Bundle, path: Path) -> None:
    """Refuse an archive that holds more, less or other entries than its record names."""
    expected = {name: record.bytes for name, record in bundle.files.items()}
    problems = []
    for info in archive.infolist():
        if info.filename == BUNDLE_FILE:
            expected.setdefault(BUNDLE_FILE, info.file_size)
        if expected.pop(info.filename, None) != info.file_size:
            what = "is not a file its record names"
            problems.append(Problem(f"{path}/{info.filename}", what, _FETCH_AGAIN))
    problems += [Problem(f"{path}/{name}", "is missing", _FETCH_AGAIN) for name in expected]
    if problems:
        raise InvalidInput(problems)


def _culprits(path: Path) -> list[Problem]:
    """Which files of a changed bundle differ from their record, or that its structure does."""
    try:
        with _opened(path) as archive:
            bundle = _record(archive, path)
    except InvalidInput as error:
        return list(error.problems)
    problems = []
    for name, record in bundle.files.items():
        try:
            with _opened(path) as archive, archive.open(name) as file:
                same = _digest_of(file) == record.sha256
        except InvalidInput:
            same = False
        if not same:
            problems.append(_changed(path, name))
    what = "the archive around its files was changed (headers, padding, comment or length)"
    return problems or [Problem(str(path), what, _FETCH_AGAIN)]


def _digest_of(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while piece := file.read(_CHUNK):
        digest.update(piece)
    return digest.hexdigest()


def _changed(path: Path, name: str) -> Problem:
    return Problem(
        f"{path}/{name}", "was changed: its SHA-256 is not the recorded one", _FETCH_AGAIN
    )
