"""How the outputs of transformers' object detectors become boxes, by family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeq.core.artifact import ClassFunction
from edgeq.core.detection import DetectionSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import OBJECT_DETECTION
from edgeq.core.tasks.task import exporting
from edgeq.models.settings import Settings

LABELLED, BOXES = "logits", "pred_boxes"
_THRESHOLD = 0.5  # the pipeline's
# A box has one label, or none, which is one more class.
_ONE_LABEL = ("detr", "table-transformer", "yolos")
# A box has every label by itself, and so many boxes with labels are taken: None for as many as
# there are boxes.
_SEVERAL_LABELS = {
    "conditional_detr": 100,
    "d_fine": None,
    "deformable_detr": 100,
    "rt_detr": None,
    "rt_detr_v2": None,
}

FREE = ("threshold", "overlap", "across_labels", "most")
"""Settings that the files do not state, and a recipe may."""


def read_detection(
    config: Mapping[str, Any], path: Path, where: str
) -> tuple[DetectionSettings, ClassFunction]:
    """How outputs become boxes, and the function that makes scores of them.

    config: of the directory `path`. Raises InvalidInput for a family that is not known.
    """
    family = str(config.get("model_type"))
    form: dict[str, Any] = {"boxes": BOXES, "scores": LABELLED, "box": "cxcywh"}
    form |= {"unit": "fractions", "threshold": _THRESHOLD}
    if family in _ONE_LABEL:
        return DetectionSettings.model_validate({**form, "background": "last"}), "softmax"
    if family in _SEVERAL_LABELS:
        queries = Settings(config, where, "config.json").whole("num_queries", 300, largest=10_000)
        form |= {"several_labels": True, "most": _SEVERAL_LABELS[family] or queries}
        return DetectionSettings.model_validate(form), "sigmoid"
    what = f"the architecture {family!r} is not supported as {OBJECT_DETECTION.noun}"
    known = ", ".join((*_ONE_LABEL, *_SEVERAL_LABELS))
    remedy = f"supported: {known}; another: {exporting(path, OBJECT_DETECTION.optimum_task)}"
    raise InvalidInput(Problem(where, what, remedy))
