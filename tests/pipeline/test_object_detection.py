"""A detector from its .onnx file to boxes: those of onnxruntime for the same files."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")
pytest.importorskip("PIL", reason="the extra images is not installed")

import onnxruntime
from PIL import Image

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.check import workflow
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.first_recipe import write_first_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import BundleRequest, build_recipe, bundle_recipe
from edgeq.report.page.gather import report_of
from edgeq.report.page.render import render
from tests.support.scenes import LABELS, save_detector, save_scenes, scene, suppressed
from tests.support.tiny_bert import write_recipe

RECIPE = """\
edgeq: 1
name: scenes
model:
  source: ./scenes.onnx
  task: object-detection
  labels: [red, green]
  image: {size: 64, resize: fit, fill: 114, antialias: false}
  detection:
    boxes: found
    row: [box, scores]
    transposed: true
    box: cxcywh
    threshold: 0.3
    overlap: 0.3
data:
  calibration: {path: calibration}
  evaluation: {path: evaluation}
quantize:
  default: [float32, int8-static]
targets:
  - {format: onnx, devices: [here]}
budgets:
  quality: {agreement: 50 %, map_drop: 20 %}
"""
TARGETS = {
    "onnx": "{format: onnx, devices: [here]}",
    "coreml": "{format: coreml, devices: [iphone-14]}\ncoreml: {deployment_target: iOS17}",
    "coreai": "{format: coreai, devices: [iphone-15-pro-ios27]}",
}
SEEDS = range(1000, 1024)


def quiet(step: str) -> None:
    """Progress that nobody reads."""


@dataclass(frozen=True)
class Scenes:
    """A recipe of a detector, and what was built of it by variant."""

    recipe: Path
    built: dict[str, Built]

    @property
    def folder(self) -> Path:
        return self.recipe.parent


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenes]:
    folder = tmp_path_factory.mktemp("scenes")
    save_detector(folder / "scenes.onnx")
    save_scenes(folder / "calibration", range(12), annotated=False)
    save_scenes(folder / "evaluation", SEEDS, annotated=True)
    recipe = write_recipe(folder / "scenes.yaml", RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        # Emulated CPUs take a minute, and tests of their own.
        patch.setattr(workflow, "_comparison", lambda *_: contextlib.nullcontext())
        built = {item.artifact.variant: item for item in build_recipe(recipe, None, quiet)}
        yield Scenes(recipe, built)


def wanted(model: Path, image: Image.Image) -> list[tuple[str, float, list[float]]]:
    """Boxes on an image of 96 × 128 by onnxruntime alone: its own suppression, and a letterbox of
    pixels between the nearest four that 128 → 64 makes the mean of each 2 × 2."""
    pixels = np.asarray(image, np.float64).reshape(48, 2, 64, 2, 3).mean((1, 3))
    pixels = np.round(pixels + 1e-9)  # as 8-bit pixels
    canvas = np.full((64, 64, 3), 114.0)
    canvas[8:56] = pixels
    feed = (canvas / 255).astype(np.float32).transpose(2, 0, 1)[None]
    (found,) = onnxruntime.InferenceSession(model).run(None, {"image": feed})
    boxes, scores = found[0, :4].T, found[0, 4:]
    likeliest = np.where(scores == scores.max(0), scores, 0)
    kept = suppressed(boxes, likeliest, 0.3, 0.3)
    answers = []
    for label, at in kept:
        x, y, width, height = boxes[at]
        sides = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        sides = np.clip((sides - [0, 8, 0, 8]) * 2, 0, [128, 96, 128, 96])
        answers.append((LABELS[label], float(scores[label, at]), sides.tolist()))
    return sorted(answers, key=lambda each: -each[1])


def test_float_boxes_are_those_of_onnxruntime(scenes: Scenes) -> None:
    images = [scene(seed)[0] for seed in SEEDS]
    found = edgeq.load(scenes.built["float32"].path).detect(images)
    counts = []
    for image, own in zip(images, found, strict=True):
        right = wanted(scenes.folder / "scenes.onnx", image)
        assert [each.label for each in own] == [label for label, _, _ in right]
        assert [each.score for each in own] == pytest.approx([s for _, s, _ in right], abs=0.02)
        assert sorted(each.box for each in own) == sorted(tuple(box) for _, _, box in right)
        counts.append(len(own))
    assert sum(counts) > len(images)


def test_a_verdict_compares_boxes(scenes: Scenes) -> None:
    alone = RECIPE.replace("[float32, int8-static]", "int8-static")
    recipe = write_recipe(scenes.folder / "alone.yaml", alone)
    (verdict,) = check_recipe(recipe, ["here"], False, quiet)
    lines = {line.budget: line for line in verdict.lines}
    quality = verdict.measurement.quality
    assert quality is not None
    assert set(quality.scores) == {"agreement", "map", "map_drop"}
    score, drop = quality.scores["map"], quality.scores["map_drop"]
    assert score.original is not None
    assert 0.2 < score.original < 1
    assert drop.value == pytest.approx(score.original - score.value)
    assert lines["quality.map_drop"].value == drop.value
    assert 0.5 < quality.scores["agreement"].value < 1
    assert quality.redrawn
    for each in quality.redrawn:
        image = scene(int(each.image.removesuffix(".png")))[0]
        answers = wanted(scenes.folder / "scenes.onnx", image)
        assert [box.label for box in each.was] == [label for label, _, _ in answers]
    page = render(report_of(recipe, ["here"], quiet))
    assert "Boxes that change" in page
    assert quality.redrawn[0].image in page
    assert "data:image/jpeg" in page


def test_the_bundle_says_how_outputs_become_boxes(scenes: Scenes) -> None:
    out = scenes.folder / "scenes.zip"
    bundle_recipe(
        BundleRequest(scenes.recipe, out, artifact="onnx-float32", allow_unchecked=True), quiet
    )
    images = [scene(seed)[0] for seed in SEEDS[:4]]
    assert edgeq.load(out).detect(images) == edgeq.load(scenes.built["float32"].path).detect(images)
    with zipfile.ZipFile(out) as archive:
        readme = archive.read("README.md").decode()
        test = json.loads(archive.read("selftest.json"))
        picture = archive.read("selftest.png")
    assert "scaled in proportion, as large as fits into 64 × 64 pixels" in readme
    assert "the pixels around it are 114" in readme
    assert "has a column for each box: four numbers of the box, a score for each label" in readme
    assert "the center's x and y, width, height, in pixels of the input" in readme
    assert "is above 0.3" in readme
    (case,) = (case for case in test["cases"] if case.get("image"))
    found = edgeq.load(out).detect([picture])[0]
    assert [each["label"] for each in case["found"]] == [each.label for each in found]


def test_core_ml_finds_the_boxes_of_onnxruntime(scenes: Scenes) -> None:
    pytest.importorskip("coremltools", reason="the extra coreml is not installed")
    other = RECIPE[: RECIPE.index("budgets")].replace("format: onnx", "format: coreml")
    other = other.replace("[float32, int8-static]", "float32").replace("[here]", "[iphone-14]")
    (built,) = build_recipe(write_recipe(scenes.folder / "phone.yaml", other), None, quiet)
    images = [scene(seed)[0] for seed in SEEDS[:6]]
    for image, own in zip(images, edgeq.load(built.path).detect(images), strict=True):
        right = wanted(scenes.folder / "scenes.onnx", image)
        assert [(each.label, *each.box) for each in own] == [(a, *box) for a, _, box in right]


@pytest.mark.parametrize("target", TARGETS)
def test_a_graph_may_suppress_itself(scenes: Scenes, tmp_path: Path, target: str) -> None:
    if target != "onnx":
        pytest.importorskip({"coreml": "coremltools"}.get(target, target))
    save_detector(tmp_path / "scenes.onnx", suppress=True)
    start, end = RECIPE.index("    boxes:"), RECIPE.index("data:")
    inside = "    boxes: found\n    row: [box, score, class]\n    threshold: 0.3\n"
    text = RECIPE[:start] + inside + RECIPE[end:]
    text = text.replace("path: ", f"path: {scenes.folder.as_posix()}/")
    text = text.replace("[float32, int8-static]", "float32")
    text = text.replace("{format: onnx, devices: [here]}", TARGETS[target])
    (built,) = build_recipe(write_recipe(tmp_path / "scenes.yaml", text), None, quiet)
    images = [scene(seed)[0] for seed in SEEDS[:6]]
    for image, own in zip(images, edgeq.load(built.path).detect(images), strict=True):
        right = wanted(scenes.folder / "scenes.onnx", image)
        assert sorted((e.label, *e.box) for e in own) == sorted((a, *box) for a, _, box in right)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("boxes: found", "boxes: lost", "the model has no output 'lost'"),
        ("transposed: true", "transposed: false", r"have 6 numbers, and the output 'found'"),
        ("labels: [red, green]", "labels: [red]", "of 1 labels have 5 numbers"),
        ("row: [box, scores]", "row: [box, chances]", "row"),
        ("    row: [box, scores]\n", "", "the scores are in the rows of boxes or in an output"),
        ("resize: fit, fill: 114,", "fill: 114,", "fill and align are for 'resize: fit'"),
        ("antialias: false", "antialias: false, resample: bicubic", "bilinear only"),
        ("task: object-detection", "task: tensor", "model.detection: the task 'tensor' finds no"),
        ("path: evaluation", "path: calibration", "12 of its samples are in the calibration"),
    ],
)
def test_what_does_not_fit_is_refused(scenes: Scenes, old: str, new: str, what: str) -> None:
    wrong = RECIPE.replace(old, new)
    assert wrong != RECIPE
    with pytest.raises(InvalidInput, match=what):
        make_plan(write_recipe(scenes.folder / "wrong.yaml", wrong))


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda content: content.pop("categories"), "is not COCO's format: categories"),
        (lambda content: content["images"].pop(), "no entry of images has the file_name"),
        (lambda content: content["annotations"][0].update(category_id=3), "has the id 3"),
        (lambda content: content["annotations"][0].update(bbox=[1, 2, -3, 4]), r"bbox\.2"),
    ],
)
def test_annotations_are_in_cocos_format(
    scenes: Scenes, edit: Callable[[Any], object], what: str, tmp_path: Path
) -> None:
    folder = save_scenes(tmp_path / "some", range(3), annotated=True)
    content = json.loads((folder / "annotations.json").read_text())
    edit(content)
    (folder / "annotations.json").write_text(json.dumps(content))
    text = RECIPE.replace("path: evaluation", f"path: {folder.as_posix()}")
    text = text.replace("  calibration: {path: calibration}\n", "").replace("int8-static", "int8")
    with pytest.raises(InvalidInput, match=what):
        make_plan(write_recipe(scenes.folder / "odd.yaml", text))


def test_a_first_recipe_says_what_an_exporter_wrote(tmp_path: Path) -> None:
    import onnx

    path = save_detector(tmp_path / "scenes.onnx")
    model = onnx.load(path)
    said = {"task": "detect", "stride": "32", "imgsz": "[64, 64]", "names": "{0: 'a', 1: \"it's\"}"}
    onnx.helper.set_model_props(model, said)
    onnx.save(model, path)
    written = write_first_recipe(str(path), ["here"], tmp_path / "scenes.yaml")
    assert (written.task, len(written.missing)) == ("object-detection", 2)
    save_scenes(tmp_path / "calibration", range(2), annotated=False)
    save_scenes(tmp_path / "evaluation", range(2, 4), annotated=False)
    given = make_plan(tmp_path / "scenes.yaml").recipe.model
    assert given.labels == ("a", "it's")
    assert given.image is not None
    assert (given.image.resize, given.image.fill, given.image.antialias) == ("fit", 114, False)
    assert given.detection is not None
    assert (given.detection.box, given.detection.transposed) == ("cxcywh", True)
    assert given.detection.row == ("box", "scores")
