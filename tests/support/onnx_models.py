"""Small ONNX models nobody here trained: a convolutional net, recurrent ones, control flow."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def _save(
    path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: dict[str, np.ndarray],
) -> Path:
    initializers = [numpy_helper.from_array(a, name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _value(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _normal(generator: np.random.Generator, *shape: int) -> np.ndarray:
    scale = np.float32(1 / np.sqrt(np.prod(shape[1:])))
    return generator.standard_normal(shape).astype(np.float32) * scale


def convolutional(path: Path) -> Path:
    """Image `(n, 3, 32, 32)` → 10 logits: two convolutions, batch norm, pooling, a Gemm."""
    rng = np.random.default_rng(0)
    constants = {
        "c1.w": _normal(rng, 32, 3, 7, 7),
        "c1.b": _normal(rng, 32),
        "c2.w": _normal(rng, 64, 32, 3, 3) * 2,
        "fc.w": _normal(rng, 10, 64 * 16) * 4,
        "fc.b": _normal(rng, 10),
    }
    for name, low, high in (("g", 0.5, 2), ("s", -1, 1), ("m", -1, 1), ("v", 0.5, 2)):
        constants[f"bn.{name}"] = rng.uniform(low, high, 64).astype(np.float32)
    norm = [f"bn.{name}" for name in "gsmv"]
    nodes = [
        helper.make_node(
            "Conv", ["image", "c1.w", "c1.b"], ["a"], "conv1", strides=[2, 2], pads=[3, 3, 3, 3]
        ),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "c2.w"], ["c"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", *norm], ["d"], "norm2"),
        helper.make_node("Relu", ["d"], ["e"], "relu2"),
        helper.make_node("MaxPool", ["e"], ["f"], "pool", kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["f"], ["h"], "flat"),
        helper.make_node("Gemm", ["h", "fc.w", "fc.b"], ["logits"], "fc", transB=1),
    ]
    inputs, outputs = [_value("image", ["n", 3, 32, 32])], [_value("logits", ["n", 10])]
    return _save(path, nodes, inputs, outputs, constants)


def only_convolutions(path: Path) -> Path:
    """Image `(n, 3, 32, 32)` → features: two convolutions, and nothing else with weights."""
    rng = np.random.default_rng(0)
    constants = {"c1.w": _normal(rng, 32, 3, 7, 7), "c2.w": _normal(rng, 64, 32, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["image", "c1.w"], ["a"], "conv1", pads=[3, 3, 3, 3]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "c2.w"], ["features"], "conv2"),
    ]
    inputs, outputs = [_value("image", ["n", 3, 32, 32])], [_value("features", ["n", 64, 30, 30])]
    return _save(path, nodes, inputs, outputs, constants)


def lstm(path: Path) -> Path:
    """Sequence `(time, n, 32)` → last hidden state through a MatMul."""
    rng = np.random.default_rng(1)
    constants = {
        "w": _normal(rng, 1, 4 * 256, 32)[:] * 4,
        "r": _normal(rng, 1, 4 * 256, 256) * 4,
        "b": _normal(rng, 1, 8 * 256),
        "out.w": _normal(rng, 256, 80) * 8,
        "axis": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "b"], ["", "h"], "lstm", hidden_size=256),
        helper.make_node("Squeeze", ["h", "axis"], ["last"], "squeeze"),
        helper.make_node("MatMul", ["last", "out.w"], ["y"], "out"),
    ]
    inputs, outputs = [_value("x", ["time", "n", 32])], [_value("y", ["n", 80])]
    return _save(path, nodes, inputs, outputs, constants)


def loop(path: Path) -> Path:
    """State `(1, 96)` updated three times in a Loop whose body multiplies by a large weight."""
    rng = np.random.default_rng(2)
    weight = _normal(rng, 96, 96) * 2
    body_nodes = [
        helper.make_node("MatMul", ["state", "step.w"], ["product"], "step"),
        helper.make_node("Tanh", ["product"], ["next"], "tanh"),
        helper.make_node("Identity", ["go"], ["go_on"], "condition"),
    ]
    body = helper.make_graph(
        body_nodes,
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            _value("state", [1, 96]),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), _value("next", [1, 96])],
        [numpy_helper.from_array(weight, "step.w")],
    )
    constants = {"count": np.array(3, np.int64), "start": np.array(True)}
    nodes = [helper.make_node("Loop", ["count", "start", "x"], ["y"], "loop", body=body)]
    return _save(path, nodes, [_value("x", [1, 96])], [_value("y", [1, 96])], constants)


def gru(path: Path) -> Path:
    """Sequence `(time, n, 32)` → hidden state of a GRU, which has no quantized kernel."""
    rng = np.random.default_rng(3)
    constants = {"w": _normal(rng, 1, 3 * 64, 32) * 4, "r": _normal(rng, 1, 3 * 64, 64) * 4}
    nodes = [helper.make_node("GRU", ["x", "w", "r"], ["", "h"], "gru", hidden_size=64)]
    inputs, outputs = [_value("x", ["time", "n", 32])], [_value("h", [1, "n", 64])]
    return _save(path, nodes, inputs, outputs, constants)


def product(path: Path, seed: int, width: int, height: int) -> Path:
    """Row `(n, width)` → `(n, height)`: a MatMul and a bias."""
    rng = np.random.default_rng(seed)
    constants = {"w": _normal(rng, width, height), "b": _normal(rng, height)}
    nodes = [
        helper.make_node("MatMul", ["row", "w"], ["a"], "product"),
        helper.make_node("Add", ["a", "b"], ["y"], "bias"),
    ]
    inputs, outputs = [_value("row", ["n", width])], [_value("y", ["n", height])]
    return _save(path, nodes, inputs, outputs, constants)
