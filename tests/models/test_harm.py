"""What a rounding does to the answers, compared with the same arithmetic in numpy."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from edgeq.core.artifact import MODEL_FILE
from edgeq.models.graphs.harm import harms, too_loud
from edgeq.models.graphs.regions import Region
from edgeq.models.graphs.weights import find_weights
from edgeq.quantize.activations import InputCodes
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.model import Quantized
from edgeq.quantize.number_formats.integers import INT8

NO_RANGES: dict[str, tuple[float, float]] = {}
RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((64, 80)).astype(np.float32)
INPUT = RNG.standard_normal((5, 64)).astype(np.float32)


def test_each_rounding_alone(tmp_path: Path) -> None:
    net(tmp_path / MODEL_FILE)
    (weight,) = find_weights(ir.load(tmp_path / MODEL_FILE))
    smoothing = np.linspace(0.5, 2, 64).astype(np.float32)
    codes = InputCodes(smoothing, (3,), low=-1.0, high=4.1, error=0.0, plain_error=0.0)
    scaled = WEIGHT.T * smoothing
    scaled[:, 3] = 0
    tensor = NEAREST.round(scaled, None, INT8)
    quantized = Quantized(tensor, codes, np.ascontiguousarray(WEIGHT.T[:, [3]]), "static-uint8")
    region = Region(inputs={"x": weight.value}, operators=(weight.uses[0].node,))
    ranges = {"x": (-2.0, 3.1)}
    given = tmp_path, region, ranges, [weight], {"w": quantized}, [{"x": INPUT}]
    found, together = harms(*given, limit=0.01, around_mean=False)
    assert harms(*given, limit=0.5, around_mean=False) == ({}, together)

    decoded = tensor.dequantize() / smoothing
    decoded[:, 3] = WEIGHT.T[:, 3]
    smoothed = coded(INPUT / smoothing, -1.0, 4.1) * smoothing
    smoothed[:, 3] = INPUT[:, 3]
    assert found == {
        "x": pytest.approx(change(coded(INPUT, -2.0, 3.1), WEIGHT), rel=1e-3),
        "w": pytest.approx(change(INPUT, decoded.T), rel=1e-3),
        "the input of the weight 'w'": pytest.approx(change(smoothed, WEIGHT), rel=1e-3),
    }
    assert together == pytest.approx(sum(found.values()), rel=0.3)


def test_the_range_of_each_input(tmp_path: Path) -> None:
    net(tmp_path / MODEL_FILE)
    (weight,) = find_weights(ir.load(tmp_path / MODEL_FILE))
    codes = InputCodes(None, (3,), low=None, high=None, error=0.0, plain_error=0.0)
    rest = WEIGHT.T.copy()
    rest[:, 3] = 0
    tensor = NEAREST.round(rest, None, INT8)
    quantized = Quantized(tensor, codes, np.ascontiguousarray(WEIGHT.T[:, [3]]), "dynamic-uint8")
    given = tmp_path, Region(), NO_RANGES, [weight], {"w": quantized}, [{"x": INPUT}]
    found, _ = harms(*given, limit=0.001, around_mean=False)
    own = INPUT.copy()
    own[:, 3] = 0
    own = coded(own, float(own.min()), float(own.max()))
    own[:, 3] = INPUT[:, 3]
    wanted = pytest.approx(change(own, WEIGHT), rel=1e-3)
    assert found["the input of the weight 'w'"] == wanted


def test_around_the_mean_of_the_answers(tmp_path: Path) -> None:
    """Of inputs that differ little from each other, and from zero a lot."""
    net(tmp_path / MODEL_FILE)
    (weight,) = find_weights(ir.load(tmp_path / MODEL_FILE))
    codes = InputCodes(None, (), low=-40.0, high=40.0, error=0.0, plain_error=0.0)
    quantized = Quantized(NEAREST.round(WEIGHT.T, None, INT8), codes, None, "static-uint8")
    feeds = [{"x": 10 * INPUT + each * INPUT[::-1]} for each in range(4)]
    given = tmp_path, Region(), NO_RANGES, [weight], {"w": quantized}, feeds
    decoded = quantized.tensor.dequantize().T
    exact = np.stack([feed["x"] @ WEIGHT for feed in feeds])
    missed = np.stack([coded(feed["x"], -40.0, 40.0) @ decoded for feed in feeds]) - exact
    _, by_size = harms(*given, limit=1e-6, around_mean=False)
    _, by_difference = harms(*given, limit=1e-6, around_mean=True)
    error, size = (each - each.mean(0) for each in (missed, exact))
    wanted = float(np.square(error).sum() / np.square(size).sum())
    assert by_difference == pytest.approx(wanted, rel=1e-3)
    assert by_difference > 10 * by_size


def test_the_most_harmful_is_left_out_first_and_weights_last() -> None:
    each = {"a": 0.02**2, "b": 0.3**2, "w": 0.04**2, "c": 0.03**2}
    together = sum(each.values())
    assert too_loud(each, together, {"w"}, 0.4) == {}
    assert list(too_loud(each, together, {"w"}, 0.1)) == ["b"]
    assert list(too_loud(each, together, {"w"}, 0.047)) == ["b", "c"]
    assert list(too_loud(each, together * 4, {"w"}, 0.1)) == ["b", "c"]
    every = {"b": 0.3, "c": 0.03, "a": 0.02, "w": 0.04}
    assert too_loud(each, together, {"w"}, 0.01) == pytest.approx(every)


def net(path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [5, 64])]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [5, 80])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(WEIGHT, "w")])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def coded(x: np.ndarray, low: float, high: float) -> np.ndarray:
    scale = np.float32((high - low) / 255)
    zero = np.rint(-low / scale)
    return np.asarray((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale)


def change(x: np.ndarray, w: np.ndarray) -> float:
    exact = INPUT @ WEIGHT
    return float(np.square(x @ w - exact).sum() / np.square(exact).sum())
