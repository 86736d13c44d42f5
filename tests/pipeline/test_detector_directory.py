"""Object detectors from a directory: their boxes are those of transformers' pipeline."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("optimum", reason="the build side is not installed")
pytest.importorskip("PIL", reason="the extra images is not installed")

import torch
import transformers

import edgeq
from edgeq.core.artifact import Classes
from edgeq.core.errors import InvalidInput
from edgeq.core.images import ImageSettings
from edgeq.core.tasks import OBJECT_DETECTION
from edgeq.formats.detections import Detector
from edgeq.models.detector import read_detection
from edgeq.models.image_directory import read_image_directory
from edgeq.pipeline.check import workflow
from edgeq.pipeline.compare.workflow import CompareOptions, compare_models
from edgeq.pipeline.first_recipe import write_first_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.run import Sampling, run_texts, write_text
from edgeq.pipeline.workflow import build_recipe
from tests.pipeline.test_image_directory import hard_images, quiet
from tests.support.shapes import LABELS, save_shapes
from tests.support.tiny_bert import write_recipe

SIZE = (96, 64)
NAMES: dict[str, Any] = {
    "id2label": dict(enumerate(LABELS)),
    "label2id": {name: index for index, name in enumerate(LABELS)},
}
RECIPE = """\
edgeq: 1
name: boxes
model: {source: SOURCE, task: object-detection}
data: {calibration: {path: calibration}}
quantize: {default: float32}
targets: [{format: onnx, devices: [here]}]
"""


def yolos() -> Any:
    config = transformers.YolosConfig(
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"intermediate_size": 48, "image_size": [*SIZE], "patch_size": 16},
        **{"num_detection_tokens": 10, "initializer_range": 0.4, **NAMES},
    )
    return transformers.YolosForObjectDetection(config)


def of_resnet(family: str) -> Any:
    backbone = transformers.ResNetConfig(
        **{"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]},
        **{"layer_type": "basic", "out_features": ["stage2"]},
    )
    config = getattr(transformers, f"{family}Config")(
        **{"use_timm_backbone": False, "use_pretrained_backbone": False},
        **{"backbone": None, "backbone_config": backbone},
        **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "num_queries": 10},
        **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
        **{"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, **NAMES},
    )
    return getattr(transformers, f"{family}ForObjectDetection")(config)


def save(folder: Path, network: Any, processor: str, **settings: Any) -> Path:
    """As if trained: scores are apart, and boxes follow the image."""
    torch.manual_seed(5)
    for weight in network.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, 0, 0.4)
        elif weight.ndim == 4:
            torch.nn.init.kaiming_normal_(weight)
    network.save_pretrained(folder)
    settings = {"size": {"height": SIZE[0], "width": SIZE[1]}, **settings}
    getattr(transformers, processor)(**settings).save_pretrained(folder)
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("EDGEQ_STORE", str(tmp_path / "store"))
    # Emulated CPUs take a minute, and tests of their own.
    monkeypatch.setattr(workflow, "_comparison", lambda *_: contextlib.nullcontext())
    save_shapes(tmp_path / "calibration", range(1000, 1004), by_label=False)
    yield tmp_path


def wanted(source: Path, image: Path, threshold: float) -> list[tuple[str, float, list[float]]]:
    """By transformers' own classes; boxes within the image."""
    network = transformers.AutoModelForObjectDetection.from_pretrained(source).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(source, use_fast=False)
    opened = transformers.image_utils.load_image(str(image))
    with torch.inference_mode():
        answer = network(**processor(opened, return_tensors="pt"))
    (found,) = processor.post_process_object_detection(
        answer, threshold=threshold, target_sizes=[opened.size[::-1]]
    )
    parts = zip(found["labels"].tolist(), found["scores"], found["boxes"], strict=True)
    within = np.array([0, 0, 0, 0]), np.array([*opened.size, *opened.size])
    return sorted(
        (LABELS[label], float(score), np.clip(box.numpy(), *within).tolist())
        for label, score, box in parts
    )


@pytest.mark.parametrize("family", ["yolos", "Detr", "ConditionalDetr"])
def test_boxes_are_those_of_transformers(root: Path, family: str) -> None:
    if family == "yolos":
        save(root / "model", yolos(), "YolosImageProcessor")
    else:
        save(root / "model", of_resnet(family), f"{family}ImageProcessor")
    first = root / "first.yaml"
    assert write_first_recipe(str(root / "model"), ["here"], first).task == OBJECT_DETECTION.name
    assert "threshold: 0.5" in first.read_text()
    path = write_recipe(root / "a.yaml", RECIPE.replace("SOURCE", "model"))
    (built,) = build_recipe(path, None, quiet)
    assert "transformers" in str(built.artifact.proof)
    model, count = edgeq.load(built.path), 0
    for image in hard_images(root / "hard"):
        right = wanted(root / "model", image, 0.5)
        (found,) = model.detect([str(image)])
        own = sorted((each.label, each.score, [*each.box]) for each in found)
        assert [each[0] for each in own] == [each[0] for each in right]
        for a, b in zip(own, right, strict=True):
            assert a[1] == pytest.approx(b[1], abs=1e-4)
            assert a[2] == pytest.approx(b[2], abs=0.05)
        count += len(right)
    assert count > 5


def test_what_a_detector_is_not_asked_for_is_refused_by_what_it_is(root: Path) -> None:
    source = save(root / "model", yolos(), "YolosImageProcessor")
    path = write_recipe(root / "a.yaml", RECIPE.replace("SOURCE", "model"))
    (built,) = build_recipe(path, None, quiet)
    with pytest.raises(InvalidInput, match=r"is an object detector\n.*photo.jpg"):
        write_text(built.path, "a prompt", Sampling(), print)
    with pytest.raises(InvalidInput, match=r"is an object detector: it needs images"):
        run_texts(built.path, [])
    asked = CompareOptions(prompt="a prompt")
    for model in (source, path, built.path):
        with pytest.raises(InvalidInput, match=r"is an object detector; .*\n.*edgeq check"):
            compare_models(model, built.path, asked)
    with pytest.raises(InvalidInput, match=r"none.zip: does not exist"):
        compare_models(source, root / "none.zip", asked)


PROCESSORS = {
    "detr": "Detr",
    "table-transformer": "Detr",
    "yolos": "Yolos",
    "conditional_detr": "ConditionalDetr",
    "deformable_detr": "DeformableDetr",
    "rt_detr": "RTDetr",
    "rt_detr_v2": "RTDetr",
    "d_fine": "RTDetr",
}


@pytest.mark.parametrize("family", PROCESSORS)
def test_outputs_become_the_boxes_of_the_family_s_processor(family: str) -> None:
    config = {"model_type": family, "num_queries": 40, **NAMES}
    settings, function = read_detection(config, Path("model"), "here")
    image = ImageSettings(size=SIZE)
    detector = Detector(settings, image, Classes(labels=LABELS, function=function))
    rng = np.random.default_rng(0)
    columns = len(LABELS) + (settings.background is not None)
    logits = rng.normal(0, 2, (1, 40, columns)).astype(np.float32)
    boxes = rng.uniform(0.2, 0.3, (1, 40, 4)).astype(np.float32)
    answer = transformers.models.detr.modeling_detr.DetrObjectDetectionOutput(
        logits=torch.from_numpy(logits), pred_boxes=torch.from_numpy(boxes)
    )
    processor = getattr(transformers, f"{PROCESSORS[family]}ImageProcessor")()
    (right,) = processor.post_process_object_detection(
        answer, threshold=0.5, target_sizes=[(300, 200)]
    )
    found = detector.found({"logits": logits, "pred_boxes": boxes}, (300, 200))
    order = right["scores"].numpy().argsort()[::-1]
    assert len(order) > 10
    assert found.labels.tolist() == right["labels"].numpy()[order].tolist()
    np.testing.assert_allclose(found.scores, right["scores"].numpy()[order], atol=1e-6)
    np.testing.assert_allclose(found.boxes, right["boxes"].numpy()[order], atol=1e-3)


def test_a_directory_that_takes_images_of_any_shape_is_refused_with_what_to_write(
    root: Path,
) -> None:
    save(root / "model", yolos(), "YolosImageProcessor", size=None)
    file = root / "model" / "preprocessor_config.json"
    with pytest.raises(InvalidInput, match="each image keeps its shape") as caught:
        read_image_directory(root / "model", "here", OBJECT_DETECTION)
    remedy = caught.value.problems[0].remedy
    assert str(file) in remedy
    typed = json.loads("{" + remedy.partition("write ")[2].partition("}")[0] + "}}")
    file.write_text(json.dumps({**json.loads(file.read_text()), **typed}))
    assert read_image_directory(root / "model", "here", OBJECT_DETECTION).image.size == (640, 640)


def test_a_recipe_may_change_the_threshold_and_not_the_form(root: Path) -> None:
    save(root / "model", yolos(), "YolosImageProcessor")
    first = root / "first.yaml"
    write_first_recipe(str(root / "model"), ["here"], first)
    text = first.read_text().replace("threshold: 0.5", "threshold: 0.1")
    first.write_text(text)
    save_shapes(root / "evaluation", range(4), by_label=False)
    planned = make_plan(first)
    assert planned.model.detection is not None
    assert planned.model.detection.threshold == 0.1
    first.write_text(text.replace('"cxcywh"', '"xywh"'))
    with pytest.raises(InvalidInput, match=r"box is 'xywh', and 'cxcywh' by config.json"):
        make_plan(first)


def test_labels_of_one_name_are_kept_apart_by_their_number(root: Path) -> None:
    save(root / "model", yolos(), "YolosImageProcessor")
    file = root / "model" / "config.json"
    config = json.loads(file.read_text())
    config["id2label"] = dict.fromkeys(config["id2label"], "N/A")
    file.write_text(json.dumps(config))
    read = read_image_directory(root / "model", "here", OBJECT_DETECTION)
    assert read.classes.labels == ("N/A",) * len(LABELS)
