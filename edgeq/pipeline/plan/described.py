"""The model of a recipe, wherever it is.

A GGUF file is unpacked first, and the directory of a model of images is exported to ONNX.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import replace
from pathlib import Path

from edgeq.core import canonical
from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.store import Store
from edgeq.core.tasks import Task, task_of
from edgeq.models.image_directory import ImageDirectory, read_image_directory
from edgeq.models.locate import locate
from edgeq.models.model import DescribedModel, describe
from edgeq.models.source import Source
from edgeq.models.stated_task import check_task

_EXPORTERS = ("optimum", "torch", "transformers", "onnx", "onnx_ir")


def described(
    source: Source, task: str, folder: Path, where: str, *, weights: bool
) -> DescribedModel:
    """See `describe`. Raises Missing for a GGUF file without the package gguf."""
    if task_of(task).takes_images and task_of(task).auto_class and source.kind != "file":
        return _of_images(source, task, folder, where)
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


def _of_images(source: Source, task: str, folder: Path, where: str) -> DescribedModel:
    """A model of images: its directory is exported to a graph, which is described."""
    located = locate(source, folder, where)
    if not located.is_file:
        directory = read_image_directory(located.path, where, task_of(task))
        check_task(directory.config, directory.tensors, task_of(task), where, has_modules=False)
        file = Source(kind="file", value=str(exported(directory, task_of(task)).absolute()))
        model = describe(file, task, folder, where, weights=True)
        return replace(
            model,
            located=replace(model.located, revision=located.revision),
            images=directory,
            classes=directory.classes,
            image=directory.image,
            detection=directory.detection,
        )
    return describe(source, task, folder, where, weights=True)


def exported(directory: ImageDirectory, task: Task) -> Path:
    """The .onnx file of a directory, exported once. Raises Missing without the build side."""
    if not all(importlib.util.find_spec(name) for name in _EXPORTERS):
        raise missing_extra("optimum", "build", "export a model of images")

    def make(destination: Path) -> None:
        from edgeq.models.graphs.float_onnx import export_images

        export_images(directory, destination, task)

    key = {
        "task": task.name,
        "files": [canonical.sha256_of_file(file) for file in directory.source_files],
        "by": [importlib.metadata.version(name.replace("_", "-")) for name in _EXPORTERS],
    }
    return Store().stage("exported", key, make, describe=directory.path.name) / MODEL_FILE


def source_notes(model: DescribedModel) -> tuple[str, ...]:
    """What a plan says about the source itself."""
    if model.gguf is None:
        return ()
    from edgeq.formats.gguf.source.directory import notes_of

    return notes_of(model.located.path, model.gguf)
