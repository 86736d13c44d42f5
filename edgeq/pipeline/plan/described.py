"""The model of a recipe, wherever it is; a GGUF file is unpacked first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.tasks import task_of
from edgeq.models.model import DescribedModel, describe
from edgeq.models.source import Source


def described(
    source: Source, task: str, folder: Path, where: str, *, weights: bool
) -> DescribedModel:
    """See `describe`. Raises Missing for a GGUF file without the package gguf."""
    if source.kind != "gguf-file":
        return describe(source, task, folder, where, weights=weights)
    if not task_of(task).generates:
        what = f"{source} is a language model, and the task is {task}"
        raise InvalidInput(Problem(where, what, "write 'task: text-generation'"))
    try:
        from edgeq.formats.gguf.source.directory import unpacked
    except ImportError:
        raise missing_extra("gguf", "gguf", "read GGUF files") from None
    path = folder / source.value
    directory = Source(kind="directory", value=str(unpacked(path, where).absolute()))
    return replace(describe(directory, task, folder, where, weights=weights), gguf=path.absolute())


def source_notes(model: DescribedModel) -> tuple[str, ...]:
    """What a plan says about the source itself."""
    if model.gguf is None:
        return ()
    from edgeq.formats.gguf.source.directory import notes_of

    return notes_of(model.located.path, model.gguf)
