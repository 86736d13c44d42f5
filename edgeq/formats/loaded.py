"""Open a path as a model that is ready to run, whatever its format and runtime."""

from __future__ import annotations

from pathlib import Path

from edgeq.core.artifact import Artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.formats.base import Model
from edgeq.formats.opener import Opener
from edgeq.formats.openers import OPENERS, opener
from edgeq.formats.package import open_package
from edgeq.formats.parts import Parts
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
    bare = _opener_of_bare(path)
    if bare is not None:
        _refuse_units(bare, compute_units, path.name)
        return bare.open_bare(path, threads, context)
    package = open_package(path)
    artifact = package.artifact
    format = opener(artifact.format)
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


def _opener_of_bare(path: Path) -> Opener | None:
    """What opens a file without a record; a bundle has one."""
    if not path.is_file() or path.suffix == ".zip":
        return None
    return next((each for each in OPENERS.values() if path.suffix in each.bare_suffixes), None)


def _refuse_context(format: Opener, artifact: Artifact, context: int | None) -> None:
    has_context = task_of(artifact.task).generates or format.always_has_context
    if context is not None and not has_context:
        what = f"{artifact.name} has no context to set: its task is {artifact.task!r}"
        raise InvalidInput(Problem("context", what, "omit it"))


def _refuse_units(format: Opener, compute_units: str | None, name: str) -> None:
    if compute_units is None:
        return
    from edgeq.formats.registry import FILE_FORMATS  # imports what plans and writes, too

    own = FILE_FORMATS[format.name]
    if not own.has_compute_units:
        able = " and ".join(f.title for f in FILE_FORMATS.values() if f.has_compute_units)
        what = f"{name} is in {own.title}; only {able} has selectable compute units"
        raise InvalidInput(Problem("compute_units", what, "omit it"))
