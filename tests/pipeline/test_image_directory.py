"""Classifiers of images from a directory: answers and pixels are those of transformers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from PIL import Image

import edgeq
from edgeq.core.artifact import ValueInfo
from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import IMAGE_CLASSIFICATION
from edgeq.devices.catalogue import load_device
from edgeq.models.image_directory import read_image_directory
from edgeq.pipeline.check import workflow
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.first_recipe import write_first_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.proof.image_original import require_same_pixels
from edgeq.pipeline.recommend.described_model import find_subject
from edgeq.pipeline.recommend.recommend import recommend_model
from edgeq.pipeline.workflow import build_recipe
from tests.support.shapes import LABELS, SIDE, save_shapes, shape
from tests.support.tiny_bert import write_recipe

RECIPE = """\
edgeq: 1
name: shapes
model: {source: vit, task: image-classification}
data:
  calibration: {path: calibration}
  evaluation: {path: evaluation}
quantize:
  default: [float32, int8]
targets:
  - {format: onnx, devices: [here]}
budgets:
  quality: {agreement: 70 %}
"""
NAMES: dict[str, Any] = {
    "id2label": dict(enumerate(LABELS)),
    "label2id": {name: index for index, name in enumerate(LABELS)},
}


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def save_vit(folder: Path) -> Path:
    torch.manual_seed(1)
    config = transformers.ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=SIDE,
        patch_size=8,
        initializer_range=0.2,
        **NAMES,
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def save_resnet(folder: Path) -> Path:
    torch.manual_seed(1)
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", **NAMES
    )
    model = transformers.ResNetForImageClassification(config)
    for name, buffer in model.named_buffers():  # as if trained: statistics of some data
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    model.save_pretrained(folder)
    size = {"shortest_edge": SIDE}
    transformers.ConvNextImageProcessor(size=size, crop_pct=0.875).save_pretrained(folder)
    return folder


def hard_images(folder: Path) -> list[Path]:
    """Files that are easily misread."""
    folder.mkdir()
    color = shape("cross", 4, (61, 33))
    turned = Image.Exif()
    turned[0x0112] = 8
    color.save(folder / "turned.jpg", exif=turned)
    color.convert("L").save(folder / "grey.png")
    alpha = color.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(color.size))
    alpha.save(folder / "alpha.png")
    color.quantize(9).save(folder / "palette.png")
    shape("frame", 5, (19, 90)).save(folder / "narrow.png")
    return sorted(folder.iterdir())


def logits(source: Path, images: list[Path]) -> np.ndarray:
    """By transformers' own classes."""
    network = transformers.AutoModelForImageClassification.from_pretrained(source).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(source, use_fast=False)
    opened = [transformers.image_utils.load_image(str(image)) for image in images]
    with torch.inference_mode():
        rows = [network(**processor(image, return_tensors="pt")).logits for image in opened]
    return np.asarray(torch.cat(rows))


@dataclass(frozen=True)
class Directories:
    """A folder with two models in Hugging Face layout, and images."""

    root: Path
    images: list[Path]


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directories]:
    root = tmp_path_factory.mktemp("shapes")
    save_vit(root / "vit")
    save_resnet(root / "resnet")
    save_shapes(root / "calibration", range(1000, 1012), by_label=False)
    save_shapes(root / "evaluation", range(30), by_label=True)
    images = [*hard_images(root / "hard"), *sorted((root / "evaluation").rglob("*.png"))[:6]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        # Emulated CPUs take a minute, and tests of their own.
        patch.setattr(workflow, "_comparison", lambda *_: contextlib.nullcontext())
        yield Directories(root, images)


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_float_answers_are_those_of_transformers(directories: Directories, name: str) -> None:
    recipe = RECIPE.replace("source: vit", f"source: {name}").replace("[float32, int8]", "float32")
    path = write_recipe(directories.root / f"{name}.yaml", recipe)
    (built,) = build_recipe(path, None, quiet)
    wanted = torch.softmax(
        torch.from_numpy(logits(directories.root / name, directories.images)), -1
    )
    found = edgeq.load(built.path).classify([str(image) for image in directories.images])
    given = np.array([[each.probabilities[label] for label in LABELS] for each in found])
    assert given == pytest.approx(wanted.numpy(), abs=2e-5)
    assert not any("::" in tensor for tensor in built.artifact.tensors)
    assert "transformers" in str(built.artifact.proof)
    assert "largest relative difference" in str(built.artifact.proof)


def test_a_verdict_compares_with_the_library(directories: Directories) -> None:
    path = write_recipe(directories.root / "check.yaml", RECIPE)
    _, planned = make_plan(path).plan.artifacts
    named = {tensor.name for tensor in planned.tensors}
    assert "vit.encoder.layer.0.attention.attention.query.weight" in named
    (verdict,) = check_recipe(path, ["here"], False, quiet, names=(planned.name,))
    assert "transformers" in verdict.measurement.reference
    images = sorted((directories.root / "evaluation").rglob("*.png"))
    wanted = logits(directories.root / "vit", images).argmax(1)
    (_, built) = build_recipe(path, None, quiet)
    found = edgeq.load(built.path).classify([str(image) for image in images])
    kept = np.mean([each.label == LABELS[i] for each, i in zip(found, wanted, strict=True)])
    lines = {line.budget: line for line in verdict.lines}
    assert lines["quality.agreement"].value == pytest.approx(kept)


def test_a_first_recipe_needs_no_interface(directories: Directories, tmp_path: Path) -> None:
    out = tmp_path / "first.yaml"
    written = write_first_recipe(str(directories.root / "vit"), ["here"], out)
    assert written.task == "image-classification"
    assert "labels" not in out.read_text().replace("label.", "")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"image_processor_type": "OtherImageProcessor"}, "steps that edgeq does not know"),
        ({"do_flip": True}, "do_flip"),
    ],
)
def test_other_preprocessing_is_refused(
    directories: Directories, tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    save_vit(tmp_path / "vit")
    path = tmp_path / "vit" / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    recipe = RECIPE[: RECIPE.index("data")] + "quantize: {default: float32}\n"
    recipe += "targets:\n  - {format: onnx, devices: [here]}\n"
    with pytest.raises(InvalidInput, match=what):
        make_plan(write_recipe(tmp_path / "a.yaml", recipe))


def test_every_preset_of_a_directory_is_estimated(directories: Directories) -> None:
    found = find_subject(str(directories.root / "vit"))
    answer = recommend_model(found, load_device("pixel-8"), context=None, purpose=None)
    sizes = {one.preset: one.download_bytes for one in answer.candidates}
    weights = (directories.root / "vit" / "model.safetensors").stat().st_size
    assert sizes["float32"] == pytest.approx(weights, rel=0.1)
    assert sizes["int8-dynamic"] < 0.5 * sizes["float32"]
    assert {one.loss for one in answer.candidates} == {None}
    assert answer.next_step == (f"edgeq new {directories.root / 'vit'} --device pixel-8",)


def test_pixels_that_differ_from_the_library_s_are_refused(directories: Directories) -> None:
    directory = read_image_directory(directories.root / "vit", "here", IMAGE_CLASSIFICATION)
    value = ValueInfo(name="pixel_values", dtype="float32", shape=directory.image.shape)
    require_same_pixels(directory, value)
    other = directory.image.model_copy(update={"resample": "bicubic"})
    with pytest.raises(InvalidInput, match="an image of odd sides differently"):
        require_same_pixels(replace(directory, image=other), value)
