"""Outputs become boxes: those of transformers for its models, of onnxruntime's suppression, and by
hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgeq.core.artifact import Classes
from edgeq.core.detection import DetectionSettings
from edgeq.core.errors import InvalidInput
from edgeq.core.images import ImageSettings
from edgeq.formats.detections import Detector, Found

LABELS = ("cat", "dog", "owl")


def detector(image: dict[str, Any] | None = None, function: str = "none", **given: Any) -> Detector:
    return Detector(
        DetectionSettings.model_validate({"boxes": "out", **given}),
        ImageSettings.model_validate(image or {"size": [100, 200]}),
        Classes.model_validate({"labels": LABELS, "function": function}),
    )


def shown(found: Found) -> list[tuple[str, float, list[float]]]:
    rows = zip(found.labels, found.scores, found.boxes, strict=True)
    return [(LABELS[n], round(float(s), 3), b.round(3).tolist()) for n, s, b in rows]


CENTER = [50.0, 40.0, 20.0, 10.0]  # corners 40, 35 and 60, 45


@pytest.mark.parametrize(
    ("given", "outputs"),
    [
        (
            {"row": ["box", "scores"], "box": "cxcywh"},
            {"out": [[[*CENTER, 0.1, 0.7, 0.2], [*CENTER, 0.1, 0.2, 0.1]]]},
        ),
        (
            {"row": ["box", "objectness", "scores"], "box": "cxcywh"},
            {"out": [[[*CENTER, 0.875, 0.1, 0.8, 0.2], [*CENTER, 0.2, 0.1, 0.9, 0.2]]]},
        ),
        (
            {"row": ["box", "score", "class"], "box": "xywh"},
            {"out": [[[40, 35, 20, 10, 0.7, 1], [0, 0, 0, 0, 0, 99]]]},
        ),
        (
            {"scores": "s", "classes": "c", "background": "first"},
            {"out": [[40, 35, 60, 45], [1, 2, 3, 4]], "s": [0.7, 0.9], "c": [2, 0]},
        ),
        (
            {"scores": "s", "classes": "c", "box": "yxyx", "unit": "fractions"},
            {"out": [[[0.35, 0.2, 0.45, 0.3]]], "s": [[0.7]], "c": [[1.0]]},
        ),
        (
            {"scores": "s", "background": "first", "unit": "fractions"},
            {"out": [[[0.2, 0.35, 0.3, 0.45]] * 2], "s": [[[0.1, 0, 0.7, 0], [0.8, 0, 0.24, 0]]]},
        ),
    ],
)
def test_every_form_of_outputs(given: dict[str, Any], outputs: dict[str, Any]) -> None:
    arrays = {name: np.array(rows, np.float32) for name, rows in outputs.items()}
    right = [("dog", 0.7, [40.0, 35.0, 60.0, 45.0])]
    assert shown(detector(**given).found(arrays, (100, 200))) == right
    if "scores" not in given:
        turned = {"out": arrays["out"].transpose(0, 2, 1)}
        assert shown(detector(**given, transposed=True).found(turned, (100, 200))) == right


@pytest.mark.parametrize(("name", "last"), [("Detr", True), ("DeformableDetr", False)])
def test_the_boxes_are_those_of_transformers(name: str, last: bool) -> None:
    """DETR has a softmax and a class for no object, Deformable DETR a sigmoid for each label."""
    transformers = pytest.importorskip("transformers", reason="the build side is not installed")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    logits = rng.normal(-1, 2, (1, 40, 3 + last)).astype(np.float32)
    if not last:  # one label of each box: the processor gives a box each label that scores enough
        logits[logits < logits.max(-1, keepdims=True)] -= 20
    boxes = np.concatenate([rng.uniform(0.3, 0.7, (1, 40, 2)), rng.uniform(0, 0.5, (1, 40, 2))], 2)
    answer = transformers.models.detr.modeling_detr.DetrObjectDetectionOutput(
        logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(boxes)
    )
    processor = getattr(transformers, f"{name}ImageProcessor")()
    (wanted,) = processor.post_process_object_detection(answer, 0.3, [(96, 130)])
    found = detector(
        function="softmax" if last else "sigmoid",
        box="cxcywh",
        unit="fractions",
        scores="logits",
        background="last" if last else None,
        threshold=0.3,
    ).found({"out": boxes, "logits": logits}, (96, 130))
    order = np.argsort(-wanted["scores"].numpy(), kind="stable")
    assert 5 < len(order) < 40
    assert found.labels.tolist() == wanted["labels"].numpy()[order].tolist()
    assert found.scores == pytest.approx(wanted["scores"].numpy()[order], abs=1e-6)
    assert found.boxes == pytest.approx(wanted["boxes"].numpy()[order], abs=1e-3)


@pytest.mark.parametrize("across_labels", [False, True])
def test_suppression_keeps_what_onnxruntime_keeps(across_labels: bool) -> None:
    pytest.importorskip("onnx", reason="the build side is not installed")
    from tests.support.scenes import suppressed

    rng = np.random.default_rng(3)
    boxes = np.concatenate([rng.uniform(20, 80, (300, 2)), rng.uniform(10, 40, (300, 2))], 1)
    labels, scores = rng.integers(0, 3, 300), rng.uniform(0, 1, 300)
    table = np.zeros((3, 300))
    table[0 if across_labels else labels, np.arange(300)] = scores
    kept = suppressed(boxes, table, 0.4, 0.3)
    rows = np.concatenate([boxes, scores[:, None], labels[:, None]], 1)[None]
    found = detector(
        row=["box", "score", "class"],
        box="cxcywh",
        threshold=0.3,
        overlap=0.4,
        across_labels=across_labels,
    ).found({"out": rows}, (100, 200))
    assert 10 < len(kept) < 200
    assert sorted(found.scores) == pytest.approx(sorted(scores[[box for _, box in kept]]))
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize(
    ("image", "size", "box"),
    [
        # 400 × 100 becomes 200 × 50, 25 below the top: one pixel of the input is two.
        ({"size": [100, 200], "resize": "fit"}, (100, 400), [80.0, 20.0, 120.0, 40.0]),
        ({"size": [100, 200], "resize": "fit", "align": "top-left"}, (100, 400), [80, 70, 120, 90]),
        # Stretched: halves in height, doubles in width.
        ({"size": [100, 200]}, (200, 100), [20.0, 70.0, 30.0, 90.0]),
        # 300 × 120 with the middle cut out: 50 to the left and 10 above are not seen.
        ({"size": [100, 200], "resize": [120, 300]}, (120, 300), [90.0, 45.0, 110.0, 55.0]),
        # Cut off at the edges.
        ({"size": [100, 200], "resize": "fit"}, (4, 50), [10.0, 0.0, 15.0, 0.75]),
    ],
)
def test_boxes_are_in_the_images_own_pixels(
    image: dict[str, Any], size: tuple[int, int], box: list[float]
) -> None:
    rows = np.array([[[*CENTER, 0, 0.9, 0]]])
    found = detector(image, row=["box", "scores"], box="cxcywh").found({"out": rows}, size)
    assert found.boxes[0].tolist() == pytest.approx(box)


def test_what_is_not_finite_is_no_box() -> None:
    rows = np.array([[[np.nan, 0, 1, 1, 0.9, 0], [0, 0, 1, 1, np.nan, 0], [0, 0, 1, 1, 0.5, 0]]])
    found = detector(row=["box", "score", "class"]).found({"out": rows}, (100, 200))
    assert found.scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("outputs", "what"),
    [
        ({"out": np.zeros((1, 5, 8))}, "not 7 numbers for each box"),
        ({"out": np.zeros((2, 5, 7))}, "not 7 numbers for each box of one image"),
        ({"out": np.zeros(7)}, "not 7 numbers"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(outputs: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        detector(row=["box", "scores"]).found(outputs, (100, 200))


def test_a_class_without_a_name_is_refused() -> None:
    rows = np.array([[[0, 0, 1, 1, 0.9, 3]]])
    with pytest.raises(InvalidInput, match="class 3, counted from 0"):
        detector(row=["box", "score", "class"]).found({"out": rows}, (100, 200))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"row": ["scores", "box"]}, "is not known"),
        ({"row": ["box", "scores"], "scores": "s"}, "or in an output of their own"),
        ({"row": ["box", "scores"], "classes": "c"}, "'classes' needs 'scores'"),
        ({"row": ["box", "scores"], "across_labels": True}, "across_labels is for suppression"),
        ({"row": ["box", "scores"], "threshold": 1.5}, "less than or equal to 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        DetectionSettings.model_validate({"boxes": "out", **given})
