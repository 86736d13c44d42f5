"""Bundles: the `.zip` that an app ships, identical bytes whenever and wherever it is written.

Layout: `bundle.json` first, then the files by name, see `edgeq.formats.bundle_zip`. A Core ML
package is accompanied by a Swift file that loads it, see `edgeq.formats.coreml.swift`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from edgeq.core.artifact import (
    LARGEST_RECORD,
    Artifact,
    FileName,
    FileRecord,
    Files,
    Frozen,
    distinct,
    parse_record,
    record_bytes,
    unseal,
    verify_directory,
)
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import How
from edgeq.formats.bundle_entries import FETCH_AGAIN, Entry, read_entries
from edgeq.formats.bundle_zip import (
    copy,
    is_untouched,
)

BUNDLE_FILE = "bundle.json"
VERDICTS_FILE = "verdicts.json"
_NAME: TypeAdapter[str] = TypeAdapter(FileName)


class LimitLine(Frozen):
    """An artifact's size or memory compared with one limit. Only the text is rounded."""

    limit: str = Field(
        description="A store's limit, e.g. 'app-store.app', or 'app-memory.' with the entitlement.",
        examples=["app-store.cellular"],
    )
    device: str = Field(description="Id of the device.")
    bytes: int = Field(description="Bytes that the artifact adds or needs.")
    limit_bytes: int = Field(description="The limit in bytes.")
    within: bool = Field(description="Whether it stays below the limit if it is alone in its app.")
    how: How = Field(description="How `bytes` are known: a file's size is measured.")
    text: str = Field(description="The line for a reader.")
    url: str | None = Field(default=None, description="Source of the limit.")


class Bundle(Frozen):
    """The contents of a bundle and the facts about it: `bundle.json`."""

    edgeq: Literal[1] = Field(default=1, description="The version of this record.")
    kind: Literal["bundle"] = Field(default="bundle", description="What this record is.")
    checked: bool = Field(
        description="Whether it was checked and every verdict passed; false after "
        "--allow-unchecked."
    )
    artifact: Artifact = Field(description="The complete record of the artifact.")
    files: Files = Field(description="The artifact's own files.")
    extras: Files = Field(
        default_factory=dict, description="Additional files for an app's developer."
    )
    end_tokens: tuple[int, ...] = Field(
        default=(), description="Token ids that end a text of a language model."
    )
    licence: str | None = Field(description="Licence of the weights (SPDX), if known.")
    licence_text: str | None = Field(description="Text of the licence, if the model included it.")
    recipe: str = Field(description="Text of the recipe.")
    limits: tuple[LimitLine, ...] = Field(
        default=(), description="Its size and memory compared with limits of stores and device."
    )

    @model_validator(mode="after")
    def _files_are_the_artifacts(self) -> Bundle:
        if self.files != self.artifact.files:
            raise ValueError("files differ from those of the artifact")
        distinct([BUNDLE_FILE, *self.files, *self.extras])
        return self

    @property
    def contents(self) -> dict[str, FileRecord]:
        """Every file other than `bundle.json`."""
        return {**self.files, **self.extras}


class Verdicts(Frozen):
    """The verdicts of a bundle's artifact: `verdicts.json`."""

    edgeq: Literal[1] = Field(default=1, description="The version of this record.")
    kind: Literal["verdicts"] = Field(default="verdicts", description="What this record is.")
    verdicts: tuple[dict[str, Any], ...] = Field(description="All of them passed.")


def read_bundle(path: Path) -> Bundle:
    """Verify every byte of the bundle `path` and return its record.

    Raises InvalidInput naming the file that changed, or the archive itself if no file did.
    """
    if not is_untouched(path):
        raise InvalidInput(_culprits(path))
    entries = read_entries(path)
    bundle = _record(path, entries)
    _require_entries(entries, bundle, path)
    return bundle


def read_bundle_directory(directory: Path) -> Bundle:
    """Verify an unzipped bundle and return its record; InvalidInput names what changed."""
    path = directory / BUNDLE_FILE
    bundle = parse_record(Bundle, unseal(record_bytes(path), str(path)), str(path))
    verify_directory(directory, bundle.contents, {BUNDLE_FILE})
    return bundle


def read_verdicts(path: Path, bundle: Bundle) -> tuple[dict[str, Any], ...]:
    """The verdicts in the bundle `path`, whose record is `bundle`; none if it was not checked."""
    file = bundle.extras.get(VERDICTS_FILE)
    if file is None:
        return ()
    where = f"{path}/{VERDICTS_FILE}"
    if file.bytes > LARGEST_RECORD:
        raise InvalidInput(Problem(where, f"has more than {LARGEST_RECORD} bytes", FETCH_AGAIN))
    record = unseal(read_member(path, VERDICTS_FILE, file), where)
    return parse_record(Verdicts, record, where).verdicts


def read_member(path: Path, name: str, record: FileRecord) -> bytes:
    """The content of one file of the bundle `path`, compared with its record."""
    content = io.BytesIO()
    _copy(path, _by_name(path)[name], record, content)
    return content.getvalue()


def extract(path: Path, records: Mapping[str, FileRecord], directory: Path) -> None:
    """Copy files of the bundle `path` to `directory` in pieces, verifying them on the way.

    Required directories are created. Raises InvalidInput for a file that changed, and for a name
    that could lead outside of `directory`.
    """
    for name in records:
        try:
            _NAME.validate_python(name)
        except ValidationError:
            what = "is a name that may lead outside of the directory"
            raise InvalidInput(Problem(f"{path}/{name}", what, FETCH_AGAIN)) from None
    entries = _by_name(path)
    for name, record in records.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        with (directory / name).open("wb") as target:
            _copy(path, entries[name], record, target)


def _by_name(path: Path) -> dict[str, Entry]:
    return {entry.name: entry for entry in read_entries(path)}


def _copy(path: Path, entry: Entry, record: FileRecord, target: IO[bytes] | None) -> None:
    """Write an entry's bytes to `target`; InvalidInput if they differ from the record."""
    with path.open("rb") as file:
        file.seek(entry.start)
        if entry.size != record.bytes or copy(file, target, entry.size) != record.sha256:
            raise InvalidInput(_changed(path, entry.name))


def _record(path: Path, entries: Sequence[Entry]) -> Bundle:
    where = f"{path}/{BUNDLE_FILE}"
    first = entries[0] if entries else None
    if first is None or first.name != BUNDLE_FILE or first.size > LARGEST_RECORD:
        what = f"does not begin with a {BUNDLE_FILE} of at most {LARGEST_RECORD} bytes"
        raise InvalidInput(Problem(str(path), what, FETCH_AGAIN))
    with path.open("rb") as file:
        file.seek(first.start)
        return parse_record(Bundle, unseal(file.read(first.size), where), where)


def _require_entries(entries: Sequence[Entry], bundle: Bundle, path: Path) -> None:
    """Refuse an archive with more, fewer or other entries than its record names."""
    expected = {name: record.bytes for name, record in bundle.contents.items()}
    problems = []
    for entry in entries[1:]:
        if expected.pop(entry.name, None) != entry.size or not entry.plain:
            what = "is not a file its record names"
            problems.append(Problem(f"{path}/{entry.name}", what, FETCH_AGAIN))
    problems += [Problem(f"{path}/{name}", "is missing", FETCH_AGAIN) for name in expected]
    if problems:
        raise InvalidInput(problems)


def _culprits(path: Path) -> list[Problem]:
    """Which files of a changed bundle differ from their record, or that its structure does."""
    try:
        entries = _by_name(path)
        bundle = _record(path, list(entries.values()))
    except InvalidInput as error:
        return list(error.problems)
    problems: list[Problem] = []
    for name, record in bundle.contents.items():
        try:
            if name not in entries:
                raise InvalidInput(_changed(path, name))
            _copy(path, entries[name], record, None)
        except InvalidInput as error:
            problems += error.problems
    what = "the archive around its files was changed (headers, padding, comment or length)"
    return problems or [Problem(str(path), what, FETCH_AGAIN)]


def _changed(path: Path, name: str) -> Problem:
    return Problem(
        f"{path}/{name}", "was changed: its SHA-256 differs from the recorded one", FETCH_AGAIN
    )
