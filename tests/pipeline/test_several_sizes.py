"""Nets whose images may have several sizes, for Core ML and Core AI, against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")
pytest.importorskip("coremltools", reason="the Core ML side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx
from onnx import helper

import edgeq
from edgeq.core.artifact import COREML_PACKAGE
from edgeq.core.errors import InvalidInput
from edgeq.formats.coreml.executor import load
from edgeq.models.onnx_session import open_session
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import build_recipe
from tests.support import onnx_kinds
from tests.support.tiny_bert import write_recipe

SIZES = ((16, 16), (24, 20), (9, 30))
VARIANTS = ("float32", "int8")
SHAPES = ", ".join(f"[1, 3, {height}, {width}]" for height, width in SIZES)
RECIPE = f"""\
edgeq: 1
name: sizes
model: {{source: net.onnx, task: tensor}}
data:
  calibration: {{path: calibration.npz}}
quantize: {{default: [float32, int8]}}
targets:
  - {{format: coreml, devices: [iphone-15-pro]}}
  - {{format: coreai, devices: [iphone-15-pro-ios27]}}
coreml:
  compute: float32
  inputs: {{image: [{SHAPES}]}}
  image: {{input: image, scale: 0.02, bias: -2}}
coreai:
  inputs: {{image: [{SHAPES}]}}
"""


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def net(folder: Path) -> Path:
    """Convolutions, whose map is an output, and scores of the whole image."""
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["a"], "conv1", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "second"], ["map"], "conv2", pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["map"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "last"], ["scores"], "scores"),
    ]
    constants = {
        "first": onnx_kinds.floats(32, 3, 3, 3),
        "second": onnx_kinds.floats(32, 32, 3, 3),
        "last": onnx_kinds.floats(32, 5),
    }
    inputs = [onnx_kinds.value("image", [1, 3, "h", "w"])]
    outputs = [onnx_kinds.value("scores", [1, 5]), onnx_kinds.value("map", [1, 32, "y", "x"])]
    onnx.save(onnx_kinds.model(nodes, inputs, outputs, constants), folder / "net.onnx")
    samples = np.stack([picture(seed, SIZES[0])[0] for seed in range(6)])
    np.savez(folder / "calibration.npz", image=samples)
    return write_recipe(folder / "recipe.yaml", RECIPE)


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    """The net's input for random pixels, float32 (1, 3, height, width)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1, 3, *size))
    return (pixels * np.float32(0.02) - 2).astype(np.float32)


def test_answers_of_every_size_are_those_of_onnxruntime(tmp_path: Path) -> None:
    built = build_recipe(net(tmp_path), None, quiet)
    assert {each.artifact.name for each in built} == {
        f"{file_format}-{variant}" for file_format in ("coreml", "coreai") for variant in VARIANTS
    }
    session = open_session(tmp_path / "net.onnx", threads=1)
    for each in built:
        model, is_exact = edgeq.load(each.path), "float32" in each.artifact.name
        assert each.artifact.inputs[0].shape == (1, 3, "height", "width")
        for size in SIZES:
            feed = {"image": picture(9, size)}
            wanted = session.run(["scores", "map"], feed)
            found = model.run(feed)
            for name, own in zip(("scores", "map"), wanted, strict=True):
                assert found[name].shape == own.shape
                limit = 1e-5 if is_exact else 2e-2
                assert np.abs(found[name] - own).max() <= limit * np.abs(own).max()
        if each.artifact.format == "coreml":
            with pytest.raises(InvalidInput, match=r"it can be \(1, 3, 16, 16\) or"):
                model.run({"image": picture(9, (10, 10))})


def test_a_package_lists_the_sizes_of_its_images(tmp_path: Path) -> None:
    first, *_ = build_recipe(net(tmp_path), ["coreml"], quiet)
    (value,) = load(first.path / COREML_PACKAGE).inputs().values()
    assert value.shapes == tuple((1, 3, *size) for size in SIZES)


def test_a_net_whose_program_knows_one_size_is_refused(tmp_path: Path) -> None:
    turned = helper.make_node("InstanceNormalization", ["map", "one", "one"], ["o"], "norm")
    recipe = net(tmp_path)
    model = onnx.load(tmp_path / "net.onnx")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(32, np.float32), "one"))
    model.graph.node.append(turned)
    model.graph.output.append(onnx_kinds.value("o", [1, 32, "y", "x"]))
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(
        InvalidInput, match=r"norm: .* a size depends on the input: build for one shape"
    ):
        build_recipe(recipe, ["coreml"], quiet)


@pytest.mark.parametrize("wrong", ["[1, 1, 8, 8]", "[3, 8, 8]"])
def test_every_size_of_an_image_is_one_of_an_image(tmp_path: Path, wrong: str) -> None:
    recipe = net(tmp_path)
    text = recipe.read_text().replace("[1, 3, 24, 20]", wrong, 1)
    with pytest.raises(InvalidInput, match="image"):
        make_plan(write_recipe(tmp_path / "other.yaml", text))
