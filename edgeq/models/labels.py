"""A classifier's labels and its function from outputs to probabilities, from config.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.core.artifact import Classes
from edgeq.core.errors import InvalidInput, Problem

_FUNCTIONS = {"single_label_classification": "softmax", "multi_label_classification": "sigmoid"}
_UNNAMED = {"0": "LABEL_0", "1": "LABEL_1"}  # transformers' default


def read_classes(config: Mapping[str, Any], where: str) -> Classes:
    """Labels in the order of the model's answers.

    Raises InvalidInput for labels with missing numbers or duplicate names, for a model with a
    single label, and for a regression model.
    """
    named = config.get("id2label", _UNNAMED)
    count = len(named) if isinstance(named, Mapping) else 0
    labels = tuple(str(named.get(str(index), "")) for index in range(count))
    if not count or not all(labels):
        what = "config.json: id2label must give each number from 0 a label"
        raise InvalidInput(Problem(where, what, "save the model again with its labels"))
    if len(set(labels)) < count:
        what = "config.json: id2label gives two numbers the same label"
        raise InvalidInput(Problem(where, what, "give every class a name of its own"))
    if count == 1:
        what = "the model has one label, so its answer is a score and not a class"
        remedy = "export it to ONNX and name the .onnx file, with 'task: tensor'"
        raise InvalidInput(Problem(where, what, remedy))
    kind = config.get("problem_type") or "single_label_classification"
    if kind not in _FUNCTIONS:
        what = f"config.json: problem_type {kind!r} does not give labels"
        remedy = "export it to ONNX and name the .onnx file, with 'task: tensor'"
        raise InvalidInput(Problem(where, what, remedy))
    return Classes(labels=labels, function=_FUNCTIONS[kind])
