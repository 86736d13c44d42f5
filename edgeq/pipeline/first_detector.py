"""What a first recipe declares of a detector's outputs, from an .onnx file."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.core.artifact import ValueInfo
from edgeq.core.detection import DetectionSettings
from edgeq.core.errors import InvalidInput, Problem

_CORNERS = ("boxes", "scores", "labels")  # torchvision's outputs
_OVERLAP = 0.45
_FEW = 1000  # boxes at most where the model itself suppresses
_LONGEST = 1 << 20


def stated_labels(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """The labels that Ultralytics' exporter writes into a file: {0: 'person', …}."""
    written = metadata.get("names", "")
    try:
        named = ast.literal_eval(written) if 0 < len(written) < _LONGEST else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(named, dict) or list(named) != [*range(len(named))]:
        return None
    return tuple(map(str, named.values())) or None


def listed_labels(metadata: Mapping[str, str], classes: int) -> tuple[str, ...] | None:
    """The labels that PaddlePaddle's models carry, one per line, if there is one for each class."""
    labels = tuple(metadata.get("character", "").split("\n"))
    return labels if len(labels) == classes else None


def stated_image(metadata: Mapping[str, str]) -> dict[str, Any]:
    """How Ultralytics prepares an image for a file that its exporter wrote."""
    if "stride" not in metadata or "imgsz" not in metadata:
        return {}
    settings: dict[str, Any] = {"resize": "fit", "fill": 114, "antialias": False}
    try:
        size = ast.literal_eval(metadata["imgsz"][:_LONGEST])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return settings
    return {**settings, "size": size}


def detection_of(
    path: Path, outputs: list[ValueInfo], labels: int | None
) -> tuple[DetectionSettings, int]:
    """How the outputs become boxes, by their names and shapes, and the number of labels.

    Raises InvalidInput for outputs of no form that it knows.
    """
    shapes = {value.name: value.shape for value in outputs}
    found: dict[str, Any] = {}
    if len(outputs) == 1 and len(outputs[0].shape) == 3:
        found, count = _of_one(outputs[0], labels)
    elif "pred_boxes" in shapes and "logits" in shapes:
        columns = shapes["logits"][-1]
        count = columns if isinstance(columns, int) else labels or 0
        found = {"boxes": "pred_boxes", "scores": "logits", "box": "cxcywh", "unit": "fractions"}
        if labels != count:
            found, count = {**found, "background": "last"}, count - 1
    elif set(_CORNERS) <= set(shapes):
        found, count = {"boxes": "boxes", "scores": "scores", "classes": "labels"}, labels or 1
        found["background"] = "first"
    if not found:
        said = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        what = f"its outputs, {said}, have none of the forms that edgeq new knows"
        remedy = "write the recipe by hand, with model.detection, or add --task tensor"
        raise InvalidInput(Problem(str(path), what, remedy))
    return DetectionSettings.model_validate(found), count


def _of_one(output: ValueInfo, labels: int | None) -> tuple[dict[str, Any], int]:
    """The form of YOLO's one output, whose shorter side is a row; {} for any other."""
    sides = output.shape[1:]
    width = min((side for side in sides if isinstance(side, int)), default=0)
    is_turned = sides[-1] != width
    if width == 6 and not is_turned and isinstance(sides[0], int) and sides[0] <= _FEW:
        return {"boxes": output.name, "row": ["box", "score", "class"]}, labels or 1
    own = {"boxes": output.name, "transposed": is_turned, "box": "cxcywh", "overlap": _OVERLAP}
    has_objectness = width - labels == 5 if labels is not None else not is_turned
    if width < 5 + has_objectness:
        return {}, 0
    if has_objectness:
        return {**own, "row": ["box", "objectness", "scores"]}, width - 5
    return {**own, "row": ["box", "scores"]}, width - 4
