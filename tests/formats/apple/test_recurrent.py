"""Recurrent layers in codes: they answer as onnxruntime does with the values of the codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")
pytest.importorskip("coremltools", reason="the extra [coreml] is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnxruntime

from edgeq.core.artifact import MODEL_FILE
from edgeq.formats.apple.recurrent import GATES
from edgeq.formats.apple.weights import find_codes_apple
from edgeq.formats.coreai.runtime import Runtime
from edgeq.formats.coreai.write import export_graph_coreai
from edgeq.formats.coreml.executor import load
from edgeq.formats.coreml.write import export_graph_coreml
from edgeq.pipeline.workflow import build_recipe
from edgeq.quantize.decide import Decision
from edgeq.quantize.methods import plain_method
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import QuantizedTensor, number_format
from tests.support import onnx_models

HIDDEN, INPUTS, STEPS = 48, 64, 3
RNG = np.random.default_rng(5)
X = RNG.standard_normal((STEPS, 2, INPUTS)).astype(np.float32)
STATE = RNG.standard_normal((2, 2, HIDDEN)).astype(np.float32)
Weights = dict[str, np.ndarray]


def weights_of(kind: str) -> Weights:
    """Both directions; the scale of every gate differs."""
    rows = GATES[kind] * HIDDEN
    found = {
        "w": RNG.standard_normal((2, rows, INPUTS)),
        "r": RNG.standard_normal((2, rows, HIDDEN)),
    }
    sizes = np.geomspace(0.05, 0.4, 2 * rows).reshape(2, rows, 1)
    return {name: (array * sizes).astype(np.float32) for name, array in found.items()}


def feeds_of(given: bool) -> dict[str, np.ndarray]:
    return {"x": X, "h": STATE} if given else {"x": X}


def saved(folder: Path, kind: str, weights: Weights, *, given: bool = False) -> Path:
    """A layer that begins with a state, an input if it is `given`, else a constant."""
    late = {"linear_before_reset": 1} if kind == "GRU" else {}
    sized = {"hidden_size": HIDDEN, "direction": "bidirectional", **late}
    node = helper.make_node(kind, ["x", "w", "r", "", "", "h"], ["y"], "layer", **sized)
    feeds = feeds_of(given)
    constants = weights if given else {**weights, "h": STATE}
    graph = helper.make_graph(
        [node],
        "layer",
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, feeds[name].shape)
            for name in feeds
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [STEPS, 2, 2, HIDDEN])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    folder.mkdir()
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / MODEL_FILE)
    return folder


def codes_of(graph: Path, word: str) -> dict[str, QuantizedTensor]:
    choice = Choice(word, plain_method(number_format(word)).name, "float32", None)
    decide = Decision(choice, "default")
    return find_codes_apple(graph, lambda name, shape: decide, [], lambda step: None)


@pytest.mark.parametrize(("word", "given"), [("int8", True), ("palette6-g16", False)])
@pytest.mark.parametrize("kind", GATES)
def test_codes_answer_as_their_values_do(kind: str, word: str, given: bool, tmp_path: Path) -> None:
    weights = weights_of(kind)
    graph, feeds = saved(tmp_path / "graph", kind, weights, given=given), feeds_of(given)
    codes = codes_of(graph, word)
    assert set(codes) == {"w", "r"}
    package, asset = tmp_path / "a.mlpackage", tmp_path / "a.aimodel"
    export_graph_coreml(graph, package, codes, shapes={}, compute="float32")
    export_graph_coreai(graph, asset, codes, shapes={}, compute="float32")
    found = (load(package).predict(feeds)["y"], Runtime(asset).run(feeds)["y"])
    for got, type in zip(found, (np.float32, np.float16), strict=True):  # of what codes stand for
        values = {
            name: each.dequantize().astype(type).astype(np.float32).reshape(weights[name].shape)
            for name, each in codes.items()
        }
        wanted = saved(tmp_path / type.__name__, kind, values, given=given) / MODEL_FILE
        (want,) = onnxruntime.InferenceSession(wanted).run(None, feeds)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5)
    stored = sum(array.size for array in weights.values()) * number_format(word).bits // 8
    for folder, name in ((package, "weight.bin"), (asset, "main.mlirb")):
        (file,) = folder.rglob(name)
        assert file.stat().st_size < 1.5 * stored + 60_000


def test_a_scale_is_of_one_row_of_a_gate(tmp_path: Path) -> None:
    """One scale for a whole direction would leave the smallest gates few codes."""
    weights = weights_of("GRU")
    for name, each in codes_of(saved(tmp_path / "graph", "GRU", weights), "int8").items():
        whole = weights[name].reshape(each.codes.shape)
        largest = np.abs(whole).max(axis=1, keepdims=True)
        assert (np.abs(each.dequantize() - whole) <= largest / 60).all()


RECIPE = """
edgeq: 1
name: net
model: {{source: ./net.onnx, task: tensor}}
quantize: {{default: int8}}
targets: [{{format: {format}, devices: [{device}]}}]
{section}: {{inputs: {{x: [3, 1, 32]}}}}
"""


@pytest.mark.parametrize(
    ("format", "device"), [("coreml", "iphone-15-pro"), ("coreai", "iphone-15-pro-ios27")]
)
def test_a_net_that_is_only_a_gru_is_built(
    format: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_STORE", str(tmp_path / "store"))
    onnx_models.gru(tmp_path / "net.onnx")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(format=format, section=format, device=device), encoding="utf-8")
    (built,) = build_recipe(recipe, None, lambda step: None)
    formats = {name: tensor.number_format for name, tensor in built.artifact.tensors.items()}
    assert formats == {"w": "int8", "r": "int8"}
