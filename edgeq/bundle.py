"""Bundles: one `.zip` an app ships, the same to the byte whenever and wherever it is written.

Layout: `bundle.json` first, then the files by name, see `edgeq.bundle_zip`. Beside the artifact's
own files a bundle of a Core ML package holds a Swift file that loads it, see `edgeq.bundle_apple`.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

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
from edgeq.bundle_zip import (
    FETCH_AGAIN,
    LARGEST,
    Content,
    copy,
    is_untouched,
    opened,
    write_archive,
)
from edgeq.errors import InvalidInput, Problem
from edgeq.files import replacing
from edgeq.stores import LimitLine

BUNDLE_FILE = "bundle.json"
_NAME: TypeAdapter[str] = TypeAdapter(FileName)


class Bundle(Frozen):
    """What a bundle holds and what is known about it: `bundle.json`."""

    edgeq: Literal[1] = Field(default=1, description="The version of this record.")
    kind: Literal["bundle"] = Field(default="bundle", description="What this record is.")
    checked: bool = Field(
        description="Whether every verdict in it was asked for and passed; false after "
        "--allow-unchecked."
    )
    artifact: Artifact = Field(description="The record of the artifact, whole.")
    files: dict[FileName, FileRecord] = Field(description="The artifact's own files.")
    extras: dict[FileName, FileRecord] = Field(
        default_factory=dict, description="What an app's developer gets beside them."
    )
    licence: str | None = Field(description="Of the weights (SPDX), if it is known.")
    licence_text: str | None = Field(description="Its text, where the model came with one.")
    recipe: str = Field(description="The text of the recipe it was made from.")
    verdicts: tuple[dict[str, Any], ...] = Field(description="The verdicts that it passed.")
    limits: tuple[LimitLine, ...] = Field(
        default=(), description="Its size and memory against those of stores and device."
    )

    @model_validator(mode="after")
    def _files_are_the_artifacts(self) -> Bundle:
        if self.files != self.artifact.files or BUNDLE_FILE in self.contents:
            raise ValueError("files differ from those of the artifact")
        if self.files.keys() & self.extras.keys():
            raise ValueError("an extra has the name of one of the artifact's files")
        return self

    @property
    def contents(self) -> dict[str, FileRecord]:
        """Every file beside `bundle.json`."""
        return {**self.files, **self.extras}


def write_bundle(
    artifact_dir: Path,
    out: Path,
    *,
    recipe_text: str,
    verdicts: list[dict[str, Any]],
    licence: str | None,
    licence_text: str | None,
    unchecked: bool,
    limits: Sequence[LimitLine] = (),
) -> Path:
    """Write the artifact in `artifact_dir` to the bundle `out` and return `out`.

    Equal arguments give equal bytes. `verdicts` are JSON values; `licence` is an SPDX identifier;
    `limits` are those of `edgeq.stores.sized`. Raises InvalidInput if a file of the artifact
    changed, if `out` has no directory to lie in, or if there is no verdict and `unchecked` is not
    set.
    """
    if not verdicts and not unchecked:
        remedy = "run `edgeq check` first, or pass --allow-unchecked"
        raise InvalidInput(Problem(str(artifact_dir), "was not checked", remedy))
    if not out.parent.is_dir() or out.is_dir():
        what = "is a directory" if out.is_dir() else f"{out.parent} is not a directory"
        raise InvalidInput(Problem(str(out), what, "name a .zip file in a directory that exists"))
    artifact = read_artifact(artifact_dir)
    _require_sizes(artifact_dir, artifact)
    extras = _extras(artifact_dir, artifact)
    bundle = Bundle(
        checked=not unchecked,
        artifact=artifact,
        files=artifact.files,
        extras={name: _record_of(content) for name, content in extras.items()},
        licence=licence,
        licence_text=licence_text,
        recipe=recipe_text,
        verdicts=tuple(verdicts),
        limits=tuple(limits),
    )
    contents: dict[str, Content] = {name: artifact_dir / name for name in artifact.files}
    contents.update(extras)
    first = (BUNDLE_FILE, seal(bundle.model_dump(mode="json")))
    with replacing(out) as partial:
        write_archive(partial, first, contents, bundle.contents)
    return out


def _require_sizes(directory: Path, artifact: Artifact) -> None:
    for name, record in artifact.files.items():
        if record.bytes > LARGEST:
            what = f"has {record.bytes} bytes; a bundle's files have at most {LARGEST}"
            remedy = "choose a variant with fewer bits"
            raise InvalidInput(Problem(str(directory / name), what, remedy))


def _extras(directory: Path, artifact: Artifact) -> dict[str, bytes]:
    """What an app's developer needs beside the artifact's own files, by name."""
    if artifact.format != "coreml":
        return {}
    from edgeq.bundle_apple import SWIFT_FILE, swift_file

    return {SWIFT_FILE: swift_file(directory, artifact).encode()}


def _record_of(content: bytes) -> FileRecord:
    return FileRecord(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def read_bundle(path: Path) -> Bundle:
    """Verify every byte of the bundle `path` and return its record.

    Raises InvalidInput naming the file that changed, or the archive itself if no file did.
    """
    if not is_untouched(path):
        raise InvalidInput(_culprits(path))
    with opened(path) as archive:
        bundle = _record(archive, path)
        _require_entries(archive, bundle, path)
    return bundle


def read_bundle_directory(directory: Path) -> Bundle:
    """Verify an unzipped bundle and return its record; InvalidInput names what changed."""
    path = directory / BUNDLE_FILE
    bundle = parse_record(Bundle, unseal(path.read_bytes(), str(path)), str(path))
    verify_files(directory, bundle.contents)
    return bundle


def read_member(path: Path, name: str, record: FileRecord) -> bytes:
    """The content of one file of the bundle `path`, compared with its record."""
    with opened(path) as archive:
        content = archive.read(name)
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise InvalidInput(_changed(path, name))
    return content


def extract(path: Path, records: Mapping[str, FileRecord], directory: Path) -> None:
    """Copy files of the bundle `path` to `directory` in pieces, comparing them on the way.

    Directories that the names ask for are made. Raises InvalidInput for a file that changed, and
    for a name that could lead outside of `directory`.
    """
    for name in records:
        try:
            _NAME.validate_python(name)
        except ValidationError:
            what = "is a name that may lead outside of the directory"
            raise InvalidInput(Problem(f"{path}/{name}", what, FETCH_AGAIN)) from None
    with opened(path) as archive:
        for name, record in records.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, (directory / name).open("wb") as target:
                digest = copy(source, target)
            if digest != record.sha256:
                raise InvalidInput(_changed(path, name))


def _record(archive: zipfile.ZipFile, path: Path) -> Bundle:
    where = f"{path}/{BUNDLE_FILE}"
    return parse_record(Bundle, unseal(archive.read(BUNDLE_FILE), where), where)


def _require_entries(archive: zipfile.ZipFile, bundle: Bundle, path: Path) -> None:
    """Refuse an archive that holds more, less or other entries than its record names."""
    expected = {name: record.bytes for name, record in bundle.contents.items()}
    problems = []
    for info in archive.infolist():
        if info.filename == BUNDLE_FILE:
            expected.setdefault(BUNDLE_FILE, info.file_size)
        if expected.pop(info.filename, None) != info.file_size:
            what = "is not a file its record names"
            problems.append(Problem(f"{path}/{info.filename}", what, FETCH_AGAIN))
    problems += [Problem(f"{path}/{name}", "is missing", FETCH_AGAIN) for name in expected]
    if problems:
        raise InvalidInput(problems)


def _culprits(path: Path) -> list[Problem]:
    """Which files of a changed bundle differ from their record, or that its structure does."""
    try:
        with opened(path) as archive:
            bundle = _record(archive, path)
    except InvalidInput as error:
        return list(error.problems)
    problems = []
    for name, record in bundle.contents.items():
        try:
            with opened(path) as archive, archive.open(name) as file:
                same = copy(file, None) == record.sha256
        except InvalidInput:
            same = False
        if not same:
            problems.append(_changed(path, name))
    what = "the archive around its files was changed (headers, padding, comment or length)"
    return problems or [Problem(str(path), what, FETCH_AGAIN)]


def _changed(path: Path, name: str) -> Problem:
    return Problem(
        f"{path}/{name}", "was changed: its SHA-256 is not the recorded one", FETCH_AGAIN
    )
