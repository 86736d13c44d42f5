"""The task of a user's model, as its files state it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import OBJECT_DETECTION, TASKS, TENSOR, TEXT_GENERATION, Task
from edgeq.core.tasks.task import exporting
from edgeq.models.architectures.wrappers import TEXT
from edgeq.models.image_processor import PROCESSOR_FILE
from edgeq.models.jsonfile import read_optional
from edgeq.models.locate import Located
from edgeq.models.stated_task import task_of_config
from edgeq.pipeline.first_interface import is_stated_detector, stated_task


def stated_by_files(located: Located, model: str) -> Task:
    """The task stated by the model's files. Raises InvalidInput if they state none."""
    if located.path.suffix == ".gguf":
        return TEXT_GENERATION
    if not located.is_file and (located.path / "modules.json").is_file():
        return next(task for task in TASKS.values() if task.has_sentence_head)
    if located.is_file:
        detects = is_stated_detector(located.path)
        return stated_task(located.path) or (OBJECT_DETECTION if detects else TENSOR)
    config = read_optional(located.path / "config.json")
    meant = task_of_config(config)
    if TEXT in config and (meant is None or not meant.takes_images):
        return TEXT_GENERATION
    stated: Any = config.get("architectures") or []
    names = ", ".join(map(str, stated if isinstance(stated, list) else [stated]))
    if meant is not None and not _takes_no_text(located.path, meant):
        return meant
    if not names:
        what, remedy = "its config.json names no architecture", f"add --task {' or '.join(TASKS)}"
    else:
        what = f"edgeq knows no task of a {names}"
        remedy = f"{exporting(located.path)}; then: edgeq new EXPORTED/model.onnx"
    raise InvalidInput(Problem(model, what, remedy))


def _takes_no_text(path: Path, task: Task) -> bool:
    """Whether files say that images or sound go into what has the name of a text model."""
    has_processor = (path / PROCESSOR_FILE).is_file()
    return task.takes == "texts" and has_processor and not (path / "tokenizer.json").is_file()
