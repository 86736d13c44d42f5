"""A classifier's labels and its function from outputs to probabilities, from config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.core.artifact import Classes
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import Task

_MOST = 1 << 20  # labels; more of them would be a damaged file
_FUNCTIONS = {"single_label_classification": "softmax", "multi_label_classification": "sigmoid"}


def read_classes(config: Mapping[str, Any], where: str) -> Classes:
    """Labels in the order of the model's answers.

    Raises InvalidInput for labels with missing numbers or duplicate names, for a model with a
    single label, and for a regression model.
    """
    labels = read_labels(config, where)
    count = len(labels)
    if len(set(labels)) < count:
        what = "config.json: id2label gives two numbers the same label"
        raise InvalidInput(Problem(where, what, "give every class a name of its own"))
    if count == 1:
        what = "the model has one label, so its answer is a score and not a class"
        remedy = "if it scores a query with a text, write 'task: reranking'"
        raise InvalidInput(Problem(where, what, remedy))
    kind = config.get("problem_type") or "single_label_classification"
    if kind not in _FUNCTIONS:
        what = f"config.json: problem_type {kind!r} does not give labels"
        remedy = "export it to ONNX and name the .onnx file, with 'task: tensor'"
        raise InvalidInput(Problem(where, what, remedy))
    return Classes(labels=labels, function=_FUNCTIONS[kind])


def read_labels(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The labels by their numbers, a name that is given twice included.

    Raises InvalidInput for labels with missing numbers.
    """
    named = config.get("id2label") or _unnamed(config.get("num_labels"))
    count = len(named) if isinstance(named, Mapping) else 0
    labels = tuple(str(named.get(str(index), "")) for index in range(count))
    if not count or not all(labels):
        what = "config.json: id2label must give each number from 0 a label"
        raise InvalidInput(Problem(where, what, "save the model again with its labels"))
    return labels


def require_one_label(config: Mapping[str, Any], where: str) -> None:
    """Raise InvalidInput for a model with several labels: its answers are not one score."""
    count = len(config.get("id2label") or _unnamed(config.get("num_labels")))
    if count != 1:
        what = f"config.json: the model has {count} labels, and a reranker has one"
        raise InvalidInput(Problem(where, what, "write 'task: text-classification'"))


def fits_labels(task: Task, config: Mapping[str, Any]) -> bool:
    """Whether a model has as many labels as the task's answers need."""
    count = len(config.get("id2label") or _unnamed(config.get("num_labels")))
    return count == 1 if task.ranks else count > 1 or not task.has_labels


def _unnamed(count: Any) -> dict[str, str]:
    """What transformers calls labels without names; two where config.json does not say how many."""
    labels = range(count if isinstance(count, int) and 0 < count <= _MOST else 2)
    return {str(index): f"LABEL_{index}" for index in labels}
