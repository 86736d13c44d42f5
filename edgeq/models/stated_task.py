"""Compare the task stated by `architectures` in config.json with the recipe's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import TASKS, TEXT_GENERATION, Task
from edgeq.models.architectures import FAMILIES
from edgeq.models.labels import fits_labels

# Other suffixes of transformers' classes, and their tasks.
_OTHERS = {
    "ForQuestionAnswering": "question-answering",
    "ForMultipleChoice": "multiple-choice",
    "ForNextSentencePrediction": "next-sentence-prediction",
    "ForConditionalGeneration": "sequence-to-sequence generation",
}
_HEADS = ("classifier.", "pre_classifier.", "qa_outputs.", "score.", "classification_head.")


def check_task(
    config: Mapping[str, Any],
    names: Mapping[str, Any],
    task: Task,
    where: str,
    has_modules: bool,
) -> None:
    """Raise InvalidInput if the model's task is not the recipe's.

    names: of its weights. has_modules: whether sentence-transformers' files state its task, which
    takes precedence over what its weights were first trained for.
    """
    if has_modules and task.has_sentence_head:
        return
    stated = config.get("architectures") or []
    for name in stated if isinstance(stated, list) else [stated]:
        meant = tasks_of_architecture(str(name))
        if task.name not in meant:
            does = " or ".join(meant) or "none that edgeq supports"
            what = f"the model is a {name}: its task is {does}, not {task.name}"
            raise InvalidInput(Problem(where, what, _remedy(meant)))
    head = next((name for name in names if name.startswith(_HEADS)), None)
    if head is not None and not (task.has_labels or task.ranks):
        what = f"the model has {head}, the head of a task other than {task.name}"
        raise InvalidInput(Problem(where, what, _remedy(())))


def tasks_of_architecture(architecture: str) -> tuple[str, ...]:
    """The tasks that a class of transformers is for.

    Of edgeq's, those with the longest end of its name; and any that another package claims, which
    takes nothing from them.
    """
    ends = {end: {name: None} for end, name in _OTHERS.items()}
    added: dict[str, None] = {}
    for task in TASKS.values():
        for end in task.architectures:
            if task.name in TASKS.own:
                ends.setdefault(end, {})[task.name] = None
            elif architecture.endswith(end):
                added[task.name] = None
    known = [end for end in ends if architecture.endswith(end)]
    own = ends[max(known, key=len)] if known else {}
    return (*own, *added)


def task_of_config(config: Mapping[str, Any]) -> Task | None:
    """The registered task that a config.json states by its architectures and number of labels.

    If it names no architecture, language models are told by their `model_type`.
    """
    stated = config.get("architectures") or []
    if not stated and config.get("model_type") in FAMILIES:
        return TEXT_GENERATION
    for architecture in stated if isinstance(stated, list) else [stated]:
        for name in tasks_of_architecture(str(architecture)):
            if name in TASKS and fits_labels(TASKS[name], config):
                return TASKS[name]
    return None


def _remedy(meant: Iterable[str]) -> str:
    known = [name for name in meant if name in TASKS]
    if known:
        return f"write 'task: {known[0]}', or name another model"
    return "export it to ONNX and name the .onnx file, with 'task: tensor', or name another model"
