"""A classifier of images from its .onnx file to labels: those of onnxruntime for the same files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
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
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import BundleRequest, build_recipe, bundle_recipe
from edgeq.report.explain.measured import facts_of
from edgeq.report.explain.piece import write
from edgeq.report.page.gather import report_of
from edgeq.report.page.render import render
from tests.support.shapes import LABELS, inputs, save_classifier, save_shapes, shape
from tests.support.tiny_bert import write_recipe

RECIPE = """\
edgeq: 1
name: shapes
model:
  source: ./shapes.onnx
  task: image-classification
  labels: [circle, square, cross, bar, triangle, frame]
  image: {size: 32, mean: [0.5, 0.4, 0.45], deviation: [0.25, 0.3, 0.2]}
data:
  calibration: {path: calibration}
  evaluation: {path: evaluation}
quantize:
  default: [float32, int8-static]
targets:
  - {format: onnx, devices: [here]}
budgets:
  quality: {agreement: 80 %, accuracy_drop: 15 %, top5_drop: 15 %}
"""
SEEDS = range(1000, 1090)


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def scores(model: Path, images: list[Image.Image]) -> np.ndarray:
    """By the file itself in plain onnxruntime, and pixels by Pillow alone."""
    session = onnxruntime.InferenceSession(model)
    return np.concatenate([session.run(None, {"image": inputs(i)[None]})[0] for i in images])


@dataclass(frozen=True)
class Shapes:
    """A recipe of a classifier, and what was built of it by variant."""

    recipe: Path
    built: dict[str, Built]

    @property
    def folder(self) -> Path:
        return self.recipe.parent


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shapes]:
    folder = tmp_path_factory.mktemp("shapes")
    save_classifier(folder / "shapes.onnx")
    save_shapes(folder / "calibration", range(40), by_label=False)
    save_shapes(folder / "evaluation", SEEDS, by_label=True)
    recipe = write_recipe(folder / "shapes.yaml", RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        built = {item.artifact.variant: item for item in build_recipe(recipe, None, quiet)}
        yield Shapes(recipe, built)


def images() -> list[Image.Image]:
    return [shape(LABELS[seed % 6], seed) for seed in SEEDS]


def test_float_answers_are_those_of_onnxruntime(shapes: Shapes) -> None:
    raw = scores(shapes.folder / "shapes.onnx", images())
    powers = np.exp(raw - raw.max(1, keepdims=True))
    wanted = powers / powers.sum(1, keepdims=True)
    paths = [shapes.folder / "evaluation" / LABELS[seed % 6] / f"{seed}.png" for seed in SEEDS]
    model = edgeq.load(shapes.built["float32"].path)
    for given in (paths, images()):
        found = model.classify(given)
        chances = np.array([[each.probabilities[name] for name in LABELS] for each in found])
        assert chances == pytest.approx(wanted, abs=1e-4)
        assert [each.label for each in found] == [LABELS[index] for index in wanted.argmax(1)]


def test_a_verdict_counts_labels(shapes: Shapes) -> None:
    (verdict,) = check_recipe(shapes.recipe, ["here"], False, quiet, names=("onnx-int8-static",))
    truth = [LABELS[seed % 6] for seed in SEEDS]
    raw = scores(shapes.folder / "shapes.onnx", images())
    original = [LABELS[index] for index in raw.argmax(1)]
    own = [each.label for each in edgeq.load(shapes.built["int8-static"].path).classify(images())]
    kept = np.mean(np.array(own) == original)
    drop = np.mean(np.array(original) == truth) - np.mean(np.array(own) == truth)
    assert 0.6 < np.mean(np.array(original) == truth) < 1
    lines = {line.budget: line for line in verdict.lines}
    assert lines["quality.agreement"].value == pytest.approx(kept)
    assert lines["quality.accuracy_drop"].value == pytest.approx(drop)
    assert lines["quality.agreement"].status == lines["quality.top5_drop"].status == "pass"
    quality = verdict.measurement.quality
    assert quality is not None
    five = [
        LABELS.index(name) in row for name, row in zip(truth, np.argsort(-raw)[:, :5], strict=True)
    ]
    assert quality.scores["top5"].original == pytest.approx(np.mean(five))
    changed = {
        f"{LABELS[s % 6]}/{s}.png" for s, a, b in zip(SEEDS, own, original, strict=True) if a != b
    }
    assert changed
    assert {change.text for change in quality.changed} <= changed
    assert len(quality.changed) == min(8, len(changed))
    alone = RECIPE.replace("[float32, int8-static]", "int8-static")
    report = report_of(write_recipe(shapes.folder / "alone.yaml", alone), ["here"], quiet)
    assert f"{len(changed)} of 90 images" in write(facts_of(report)).piece.text
    assert "90 images keep their labels" in render(report)


def test_the_bundle_says_how_images_become_inputs(shapes: Shapes) -> None:
    out = shapes.folder / "shapes.zip"
    bundle_recipe(
        BundleRequest(shapes.recipe, out, artifact="onnx-int8-static", allow_unchecked=True), quiet
    )
    (bundled, unbundled) = (
        edgeq.load(path).classify(images()[:9]) for path in (out, shapes.built["int8-static"].path)
    )
    assert bundled == unbundled
    with zipfile.ZipFile(out) as archive:
        readme = archive.read("README.md").decode()
        test = json.loads(archive.read("selftest.json"))
        (case,) = (case for case in test["cases"] if case.get("image"))
        picture = archive.read(case["image"])
    assert "in this order: `circle`, `square`" in readme
    assert "stretched to 32 × 32 pixels" in readme
    model = edgeq.load(out)
    (answer,) = model.run(model.preprocess(picture)).values()
    assert case["outputs"][0]["values"] == pytest.approx(answer.ravel().tolist())


def test_core_ml_gives_the_labels_of_onnxruntime(shapes: Shapes) -> None:
    other = RECIPE[: RECIPE.index("budgets")].replace("format: onnx", "format: coreml")
    other = other.replace("[float32, int8-static]", "float32").replace("[here]", "[iphone-14]")
    (built,) = build_recipe(write_recipe(shapes.folder / "phone.yaml", other), None, quiet)
    found = edgeq.load(built.path).classify(images()[:30])
    wanted = scores(shapes.folder / "shapes.onnx", images()[:30]).argmax(1)
    assert [each.label for each in found] == [LABELS[index] for index in wanted]


def test_a_graph_that_ends_in_softmax_gives_probabilities(shapes: Shapes, tmp_path: Path) -> None:
    save_classifier(tmp_path / "shapes.onnx", softmax=True, layout="NHWC")
    recipe = RECIPE[: RECIPE.index("data:")] + RECIPE[RECIPE.index("quantize") :]
    recipe = recipe[: recipe.index("budgets")].replace("size: 32,", "size: 32, layout: NHWC,")
    recipe = recipe.replace("[float32, int8-static]", "float32")
    path = write_recipe(tmp_path / "shapes.yaml", recipe)
    (built,) = build_recipe(path, None, quiet)
    found = edgeq.load(built.path).classify(images()[:20])
    wanted = edgeq.load(shapes.built["float32"].path).classify(images()[:20])
    for own, other in zip(found, wanted, strict=True):
        assert own.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    again = recipe.replace("  image:", "  function: softmax\n  image:")
    with pytest.raises(InvalidInput, match="ends in Softmax"):
        make_plan(write_recipe(tmp_path / "twice.yaml", again))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (", frame]", "]", "5 labels for the model's 6 classes"),
        (", frame]", ", bar]", "'bar' is listed 2 times"),
        ("size: 32", "size: 48", r"gives \(1, 3, 48, 48\)"),
        ("size: 32", "size: 32, layout: NHWC", r"gives \(1, 32, 32, 3\)"),
        ("  labels: [circle, square, cross, bar, triangle, frame]\n", "", "needs 'labels'"),
        ("image-classification", "tensor", "model.image: the task 'tensor' takes no images"),
        ("path: evaluation", "path: shapes.yaml", "is not a directory of images or"),
        ("path: evaluation", "path: calibration", "40 of its samples are in the calibration"),
    ],
)
def test_what_does_not_fit_is_refused(shapes: Shapes, old: str, new: str, what: str) -> None:
    wrong = RECIPE.replace(old, new)
    assert wrong != RECIPE
    with pytest.raises(InvalidInput, match=what):
        make_plan(write_recipe(shapes.folder / "wrong.yaml", wrong))


def test_a_label_that_the_model_does_not_know_is_refused(shapes: Shapes) -> None:
    save_shapes(shapes.folder / "other", range(2000, 2006), by_label=True)
    (shapes.folder / "other" / "bar").rename(shapes.folder / "other" / "bars")
    recipe = RECIPE.replace("path: evaluation", "path: other").replace(", int8-static", "")
    with pytest.raises(InvalidInput, match="'bars' is not one of the model's") as raised:
        check_recipe(write_recipe(shapes.folder / "odd.yaml", recipe), ["here"], False, quiet)
    assert raised.value.problems[0].remedy == "did you mean 'bar'?"


@pytest.mark.parametrize(
    ("name", "what"),
    [("notes.txt", "is not an image or recording"), ("loose.png", "is in no subdirectory")],
)
def test_a_directory_holds_images_only(tmp_path: Path, name: str, what: str) -> None:
    from edgeq.recipe.file_sets import list_files

    save_shapes(tmp_path, range(6), by_label=True)
    shape("bar", 1).save(tmp_path / name, "PNG")
    with pytest.raises(InvalidInput, match=what):
        list_files(tmp_path)


def test_the_verb_takes_a_list_of_images(shapes: Shapes) -> None:
    model = edgeq.load(shapes.built["float32"].path)
    wrong: Any = "photo.png"
    with pytest.raises(InvalidInput, match="images: is a str"):
        model.classify(wrong)
    with pytest.raises(InvalidInput, match=r"photo\.png: cannot be read"):
        model.classify(["photo.png"])
    with pytest.raises(InvalidInput, match=r"shapes\.yaml: .+: neither PNG nor JPEG"):
        model.classify([shapes.recipe])
