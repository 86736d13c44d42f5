"""From a path to a model that is ready to run, whatever format and runtime it needs."""

from __future__ import annotations

from pathlib import Path

from edgeq.core.artifact import Artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.threads import default_threads
from edgeq.formats.base import Model
from edgeq.formats.package import Package, open_package


def load(
    path: Path,
    *,
    threads: int | None = None,
    context: int | None = None,
    compute_units: str | None = None,
) -> Model:
    """Open and verify what lies at `path`. Raises InvalidInput; see `edgeq.load`."""
    for name, number, noun in (("threads", threads, "threads"), ("context", context, "positions")):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise InvalidInput(Problem(name, f"{number!r} is not a number of {noun}", "give ≥ 1"))
    if path.suffix == ".gguf" and path.is_file():
        from edgeq.formats.gguf.model import open_gguf

        _refuse_units(compute_units, path.name)
        return open_gguf(path, threads=threads or default_threads(), context=context)
    package = open_package(path)
    artifact = package.artifact
    _refuse_unfit(artifact, context, compute_units)
    if artifact.format == "coreml":
        from edgeq.formats.coreml.model import open_coreml

        return open_coreml(package, threads, context, compute_units)
    return _open(package, threads or default_threads(), context)


def _refuse_unfit(artifact: Artifact, context: int | None, compute_units: str | None) -> None:
    """Raise InvalidInput for an argument that nothing would come of."""
    has_context = artifact.task == "text-generation" or artifact.format == "gguf"
    if context is not None and not has_context:
        what = f"{artifact.name} has no context to set: its task is {artifact.task!r}"
        raise InvalidInput(Problem("context", what, "leave it out"))
    if artifact.format != "coreml":
        _refuse_units(compute_units, artifact.name)


def _refuse_units(compute_units: str | None, name: str) -> None:
    if compute_units is not None:
        what = f"{name} is not a Core ML package, which alone has units to choose"
        raise InvalidInput(Problem("compute_units", what, "leave it out"))


def _open(package: Package, threads: int, context: int | None) -> Model:
    artifact = package.artifact
    if artifact.format == "gguf":
        from edgeq.formats.gguf.model import open_gguf
        from edgeq.formats.runtime_cache import model_file

        path = model_file(package)
        return open_gguf(path, threads=threads, context=context, artifact=artifact)
    if artifact.task == "text-generation":
        from edgeq.formats.onnx.decoder import open_decoder

        return open_decoder(package, threads, context)
    from edgeq.formats.onnx.model import OnnxModel

    return OnnxModel(package, threads)
