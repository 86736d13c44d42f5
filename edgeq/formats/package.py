"""The input of a runner: an artifact directory, an unzipped bundle or a bundle `.zip`, verified."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeq.core.artifact import (
    ARTIFACT_FILE,
    DATA_FILE,
    TOKENIZER_FILE,
    Artifact,
    read_artifact,
    verify_files,
)
from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats import bundle
from edgeq.formats.chat import CHAT_FILES, Chat, read_chat

_OF_TEXT = (TOKENIZER_FILE, *CHAT_FILES)


@dataclass(frozen=True)
class Package:
    """A verified artifact and the location of its files: in the directory or the archive `path`."""

    artifact: Artifact
    path: Path
    zipped: bool

    @property
    def model_name(self) -> str:
        """The file that a runtime opens, or the directory of a Core ML package: `model.…`."""
        names = {name.partition("/")[0] for name in self.artifact.files}
        return min((name for name in names if name.startswith("model.")), key=len, default="")

    @property
    def model_files(self) -> tuple[str, ...]:
        """The names a runtime needs: graph and external data, one file, or all of a directory."""
        return tuple(name for name in self.artifact.files if name not in _OF_TEXT)

    @property
    def data_bytes(self) -> int:
        """Size of the external data, in bytes."""
        record = self.artifact.files.get(DATA_FILE)
        return record.bytes if record else 0

    def read(self, name: str) -> bytes:
        """The content of one small file, compared with its record once more."""
        record = self.artifact.files[name]
        if self.zipped:
            return bundle.read_member(self.path, name, record)
        verify_files(self.path, {name: record})
        return (self.path / name).read_bytes()

    def read_chat(self) -> Chat:
        """Chat settings from the tokenizer's files."""
        contents = (name if name in self.artifact.files else None for name in CHAT_FILES)
        return read_chat(*(self.read(name) if name else None for name in contents))

    def extract(self, names: Iterable[str], directory: Path) -> None:
        """Copy files to `directory` in pieces, comparing them with their record again."""
        records = {name: self.artifact.files[name] for name in names}
        if self.zipped:
            bundle.extract(self.path, records, directory)
            return
        for name in records:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path / name, directory / name)
        verify_files(directory, records)


def open_package(path: Path) -> Package:
    """Recognize and verify the artifact at `path`; every byte is hashed, in pieces.

    Raises InvalidInput if there is nothing, something else, or a changed file (named).
    """
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        remedy = f"build the recipe, and name the result: edgeq build {path}"
        raise InvalidInput(Problem(str(path), "is a YAML file, no model", remedy))
    if path.is_file():
        package = Package(bundle.read_bundle(path).artifact, path, zipped=True)
    elif (path / ARTIFACT_FILE).exists():
        package = Package(read_artifact(path), path, zipped=False)
    elif (path / bundle.BUNDLE_FILE).exists():
        package = Package(bundle.read_bundle_directory(path).artifact, path, zipped=False)
    else:
        what = "holds no artifact" if path.is_dir() else "does not exist"
        remedy = "name an artifact directory that `edgeq build` made, a bundle or a .gguf file"
        raise InvalidInput(Problem(str(path), what, remedy))
    if not package.model_name and not package.artifact.parts:
        what = "its record names no model file"
        raise InvalidInput(Problem(str(path), what, "build it again"))
    return package
