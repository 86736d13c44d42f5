"""Open a path as a model that is ready to run, whatever its format and runtime."""

from __future__ import annotations

from pathlib import Path

from edgeq.core.artifact import Artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.formats.base import Model
from edgeq.formats.file_format import FileFormat
from edgeq.formats.package import open_package
from edgeq.formats.parts import Parts
from edgeq.formats.registry import FILE_FORMATS, file_format
from edgeq.formats.runtime_cache import unpacked
from edgeq.formats.signature import require_signed


def load(
    path: Path,
    *,
    threads: int | None = None,
    context: int | None = None,
    compute_units: str | None = None,
    key: Path | None = None,
) -> Model:
    """Open and verify the model at `path`. Raises InvalidInput; see `edgeq.load`."""
    for name, number, noun in (("threads", threads, "threads"), ("context", context, "positions")):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise InvalidInput(Problem(name, f"{number!r} is not a number of {noun}", "give ≥ 1"))
    if key is not None:
        require_signed(path, key)
    for each in FILE_FORMATS.values():
        if path.is_file() and path.suffix in each.bare_suffixes:
            _refuse_units(each, compute_units, path.name)
            return each.open_bare(path, threads, context)
    package = open_package(path)
    artifact = package.artifact
    format = file_format(artifact.format)
    if artifact.parts:
        _refuse_context(format, artifact, context)
        _refuse_units(format, compute_units, artifact.name)
        folder = unpacked(package, artifact.files)
        opened = {
            name: load(folder / name, threads=threads, compute_units=compute_units)
            for name in artifact.parts
        }
        if artifact.decoding is not None:
            from edgeq.formats.transcriber import Transcriber  # not needed by most models

            return Transcriber(artifact, opened, folder)
        return Parts(artifact, opened)
    if package.model_name != format.model_file:
        what = f"its record names no {format.model_file}"
        raise InvalidInput(Problem(str(path), what, "build it again"))
    _refuse_context(format, artifact, context)
    _refuse_units(format, compute_units, artifact.name)
    return format.open(package, threads, context, compute_units)


def _refuse_context(format: FileFormat, artifact: Artifact, context: int | None) -> None:
    has_context = task_of(artifact.task).generates or format.always_has_context
    if context is not None and not has_context:
        what = f"{artifact.name} has no context to set: its task is {artifact.task!r}"
        raise InvalidInput(Problem("context", what, "omit it"))


def _refuse_units(format: FileFormat, compute_units: str | None, name: str) -> None:
    if compute_units is not None and not format.has_compute_units:
        able = " and ".join(f.title for f in FILE_FORMATS.values() if f.has_compute_units)
        what = f"{name} is in {format.title}; only {able} has selectable compute units"
        raise InvalidInput(Problem("compute_units", what, "omit it"))
