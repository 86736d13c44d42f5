"""From a path to a model that is ready to run, whatever format and runtime it needs."""

from __future__ import annotations

from pathlib import Path

from edgeq.errors import InvalidInput, Problem
from edgeq.runners.base import Model, default_threads
from edgeq.runners.package import Package, open_package


def load(path: Path, *, threads: int | None = None, context: int | None = None) -> Model:
    """Open and verify what lies at `path`. Raises InvalidInput; see `edgeq.load`."""
    for name, number, noun in (("threads", threads, "threads"), ("context", context, "positions")):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise InvalidInput(Problem(name, f"{number!r} is not a number of {noun}", "give ≥ 1"))
    threads = threads or default_threads()
    if path.suffix == ".gguf" and path.is_file():
        from edgeq.runners.gguf import open_gguf

        return open_gguf(path, threads=threads, context=context)
    return _open(open_package(path), threads, context)


def _open(package: Package, threads: int, context: int | None) -> Model:
    artifact = package.artifact
    if artifact.format == "gguf":
        from edgeq.runners.gguf import open_gguf
        from edgeq.runners.kept import model_file

        path = model_file(package)
        return open_gguf(path, threads=threads, context=context, artifact=artifact)
    if artifact.task == "text-generation":
        from edgeq.runners.decoder import open_decoder

        return open_decoder(package, threads, context)
    if context is not None:
        what = f"{artifact.name} has no context to set: its task is {artifact.task!r}"
        raise InvalidInput(Problem("context", what, "leave it out"))
    from edgeq.runners.onnx_model import OnnxModel

    return OnnxModel(package, threads)
