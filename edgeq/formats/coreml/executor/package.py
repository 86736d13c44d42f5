"""A saved .mlpackage: its manifest, its model specification, its weight files.

A package is a directory: Manifest.json lists items by identifier, each with a path below `Data/`;
`rootModelIdentifier` names the item that is the model, a `Model` message. A program names a weight
file relative to the folder of the model: `@model_path/weights/weight.bin`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.coreml.executor.blob import BlobFile
from edgeq.formats.coreml.executor.schema import messages

_MODEL_FOLDER = "@model_path/"


@dataclass(frozen=True)
class Package:
    """An opened package. `specification` is the `Model` message; its `mlProgram` is the program."""

    path: Path
    model: Path
    specification: Any
    _weights: dict[str, BlobFile] = field(default_factory=dict, repr=False)

    @property
    def description(self) -> Any:
        """The `ModelDescription` message: inputs, outputs and states as apps see them."""
        return self.specification.description

    def weights(self, name: str) -> BlobFile:
        """The weight file called `name` in the program. InvalidInput if there is none."""
        if name not in self._weights:
            if not name.startswith(_MODEL_FOLDER):
                raise _broken(self.path, f"a weight file has the name {name!r}")
            file = _within(self.path, self.model.parent, name.removeprefix(_MODEL_FOLDER))
            self._weights[name] = BlobFile(file)
        return self._weights[name]


def open_package(path: Path) -> Package:
    """Open the package at `path`, a directory. Weights are read only on demand.

    InvalidInput if it is not a package or has no ML Program, Missing without coremltools.
    """
    try:
        manifest = json.loads((path / "Manifest.json").read_bytes())
        items = manifest["itemInfoEntries"]
        root = items[manifest["rootModelIdentifier"]]["path"]
    except OSError as error:
        raise _broken(
            path, f"not a Core ML package: no readable Manifest.json ({error})"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(path, f"Manifest.json names no model ({error!r})") from error
    model = _within(path, path / "Data", str(root))
    specification = messages().Model()
    try:
        specification.ParseFromString(model.read_bytes())
    except OSError as error:
        raise _broken(path, f"{model.name} cannot be read: {error.strerror}") from error
    except Exception as error:  # protobuf's DecodeError has no stable public import path
        raise _broken(path, f"{model.name} is not a Core ML model: {error}") from error
    kind = specification.WhichOneof("Type")
    if kind != "mlProgram":
        raise _broken(path, f"the model is of type {kind}; only ML Programs are executed")
    return Package(path, model, specification)


def _within(package: Path, folder: Path, name: str) -> Path:
    file = (folder / name).resolve()
    if not file.is_relative_to(package.resolve()):
        raise _broken(package, f"{name!r} lies outside of the package")
    return file


def _broken(path: Path, what: str) -> InvalidInput:
    return InvalidInput(Problem(str(path), what, "export the package again"))
