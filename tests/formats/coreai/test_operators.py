"""Every translated operator gives, in Apple's runtime, what onnxruntime gives for the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnxruntime

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.formats.coreai.runtime import Runtime
from edgeq.formats.coreai.write import export_graph_coreai

Array = np.ndarray
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4)).astype(np.float32)
IMAGE = RNG.standard_normal((1, 4, 7, 6)).astype(np.float32)
FILTERS = RNG.standard_normal((6, 4, 3, 3)).astype(np.float32)
COUNTS = np.array([[3, 1, 0, 2], [5, 2, 1, 0]], np.int64)


def saved(
    folder: Path, kind: str, given: list[Array], constants: list[Array], **attributes: Any
) -> tuple[Path, dict[str, Array]]:
    """A graph of one operator: `given` are its first inputs, `constants` the others.

    Inputs of programs are numbers: truths are cast from them.
    """
    feeds = {f"x{i}": array + 0 for i, array in enumerate(given)}
    truths = {f"x{i}": f"t{i}" for i, array in enumerate(given) if array.dtype == bool}
    names = [truths.get(name, name) for name in feeds]
    names += [f"c{i}" for i in range(len(constants))]
    outputs = attributes.pop("outputs", 1)
    domain = attributes.pop("domain", "")
    results = [f"y{i}" for i in range(outputs)]
    nodes = [
        helper.make_node("Cast", [name], [truth], name=truth, to=TensorProto.BOOL)
        for name, truth in truths.items()
    ]
    nodes.append(helper.make_node(kind, names, results, name="only", domain=domain, **attributes))
    types = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "one",
        [
            helper.make_tensor_value_info(name, types[array.dtype.kind], array.shape)
            for name, array in feeds.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in results],
        [numpy_helper.from_array(array, f"c{i}") for i, array in enumerate(constants)],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / MODEL_FILE)
    return folder, feeds


def answers(folder: Path, feeds: dict[str, Array]) -> list[tuple[Array, Array]]:
    """What Core AI's runtime and onnxruntime answer, output by output."""
    export_graph_coreai(folder, folder / "model.aimodel", {}, shapes={})
    session = onnxruntime.InferenceSession(folder / MODEL_FILE)
    names = [value.name for value in session.get_outputs()]
    narrow = {
        name: array.astype(np.int32) if array.dtype.kind == "i" else array
        for name, array in feeds.items()
    }
    found = Runtime(folder / "model.aimodel").run(narrow)
    return [(found[n], w) for n, w in zip(names, session.run(names, feeds), strict=True)]


def scalar(value: float) -> Array:
    return np.array(value, np.float32)


def numbers(*values: int) -> Array:
    return np.array(values, np.int64)


CASES: dict[str, tuple[str, list[Array], list[Array], dict[str, Any]]] = {
    "add": ("Add", [X, X[:, :1]], [], {}),
    "add constant": ("Add", [X], [X[0]], {}),
    "sub": ("Sub", [X, X[:1]], [], {}),
    "div": ("Div", [X, np.abs(X) + 1], [], {}),
    "whole division": ("Div", [numbers(-7, 7, -8, 8, -1), numbers(2, -2, -4, 3, 2)], [], {}),
    "whole division by a constant": ("Div", [numbers(-7, 7, -8, 8, -1)], [numbers(2)], {}),
    "pow": ("Pow", [np.abs(X)], [scalar(1.5)], {}),
    "max": ("Max", [X, -X], [], {}),
    "min": ("Min", [X, -X], [], {}),
    "relu": ("Relu", [X], [], {}),
    "sigmoid": ("Sigmoid", [X], [], {}),
    "erf": ("Erf", [X], [], {}),
    "floor": ("Floor", [X * 3], [], {}),
    "ceil": ("Ceil", [X * 3], [], {}),
    "round": ("Round", [np.array([0.5, 1.5, -0.5, -2.5, 1.2], np.float32)], [], {}),
    "sign": ("Sign", [np.array([-2, 0, 3], np.float32)], [], {}),
    "softplus": ("Softplus", [X * 40], [], {}),
    "leaky": ("LeakyRelu", [X], [], {"alpha": 0.2}),
    "elu": ("Elu", [X * 100], [], {"alpha": 0.7}),
    "hard sigmoid": ("HardSigmoid", [X * 5], [], {"alpha": 0.3, "beta": 0.4}),
    "hard swish": ("HardSwish", [X * 5], [], {}),
    "gelu": ("Gelu", [X], [], {}),
    "gelu by tanh": ("Gelu", [X], [], {"approximate": "tanh"}),
    "neg": ("Neg", [X], [], {}),
    "reciprocal": ("Reciprocal", [X], [], {}),
    "clip": ("Clip", [X], [scalar(-0.3), scalar(0.5)], {}),
    "softmax": ("Softmax", [X], [], {"axis": 1}),
    "log softmax": ("LogSoftmax", [X], [], {"axis": -1}),
    "mean": ("ReduceMean", [X], [numbers(0, -1)], {"keepdims": 0}),
    "sum": ("ReduceSum", [X], [numbers(1)], {}),
    "greatest": ("ReduceMax", [X], [numbers(2)], {}),
    "least": ("ReduceMin", [X], [numbers(2)], {"keepdims": 0}),
    "product": ("ReduceProd", [X], [numbers(0)], {}),
    "length": ("ReduceL2", [X], [numbers(1)], {"keepdims": 0}),
    "argmax": ("ArgMax", [X], [], {"axis": 1, "keepdims": 0}),
    "matmul": ("MatMul", [X, np.swapaxes(X, 1, 2)], [], {}),
    "matmul broadcast": ("MatMul", [X, X[0].T], [], {}),
    "gemm": ("Gemm", [X[0]], [RNG.standard_normal((5, 4)).astype(np.float32)], {"transB": 1}),
    "layer norm": ("LayerNormalization", [X], [X[0, 0], X[0, 1]], {"epsilon": 1e-3}),
    "layer norm of two axes": ("LayerNormalization", [X], [X[0], X[1]], {"axis": 1}),
    "unit length": ("LpNormalization", [X], [], {"axis": 1}),
    "batch norm": (
        "BatchNormalization",
        [IMAGE],
        [*(RNG.standard_normal((3, 4)).astype(np.float32)), np.array([1, 2, 3, 0.5], np.float32)],
        {"epsilon": 1e-3},
    ),
    "reshape": ("Reshape", [X], [numbers(0, -1, 2)], {}),
    "flatten": ("Flatten", [X], [], {"axis": 2}),
    "transpose": ("Transpose", [X], [], {"perm": [2, 0, 1]}),
    "squeeze": ("Squeeze", [X[:, :1]], [numbers(1)], {}),
    "unsqueeze": ("Unsqueeze", [X], [numbers(0, -1)], {}),
    "concat": ("Concat", [X, X[:, :1]], [], {"axis": 1}),
    "split": ("Split", [X], [numbers(1, 3)], {"axis": 2, "outputs": 2}),
    "gather": ("Gather", [X], [numbers(2, 0, 1, 1)], {"axis": 1}),
    "gather of a table": ("Gather", [X.reshape(6, 4), COUNTS], [], {}),
    "gather of one": ("Gather", [X], [np.array(-1, np.int64)], {"axis": 2}),
    "slice": ("Slice", [X], [numbers(1), numbers(10), numbers(1), numbers(1)], {}),
    "slice backwards": ("Slice", [X], [numbers(-1), numbers(-9), numbers(2), numbers(-2)], {}),
    "expand": ("Expand", [X[:, :1]], [numbers(2, 5, 4)], {}),
    "pad": ("Pad", [X], [numbers(0, 1, 0, 0, 0, 2), scalar(7)], {}),
    "pad by reflection": ("Pad", [X], [numbers(0, 1, 2, 0, 0, 1)], {"mode": "reflect"}),
    "cumulate": ("CumSum", [X], [np.array(2, np.int64)], {}),
    "cumulate backwards": (
        "CumSum",
        [X],
        [np.array(1, np.int64)],
        {"reverse": 1, "exclusive": 1},
    ),
    "where": ("Where", [X > 0, X, -X], [], {}),
    "greater or equal": ("GreaterOrEqual", [COUNTS, COUNTS[::-1].copy()], [], {}),
    "less": ("Less", [X, -X], [], {}),
    "equal": ("Equal", [COUNTS, COUNTS[::-1].copy()], [], {}),
    "not": ("Not", [X > 0], [], {}),
    "cast": ("Cast", [X * 3], [], {"to": TensorProto.INT64}),
    "convolve": ("Conv", [IMAGE], [FILTERS, X[0, :2].reshape(-1)[:6]], {"pads": [1, 0, 2, 1]}),
    "convolve in groups": (
        "Conv",
        [IMAGE],
        [FILTERS[:, :2]],
        {"group": 2, "strides": [2, 1], "dilations": [1, 2]},
    ),
    "convolve to the same size": (
        "Conv",
        [IMAGE],
        [FILTERS],
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    ),
    "convolve a line": ("Conv", [X], [X[:2, :, :2] * 2], {"pads": [1, 0]}),
    "spread": (
        "ConvTranspose",
        [IMAGE],
        [FILTERS[:4, :3]],
        {"strides": [2, 2], "pads": [1, 0, 0, 1]},
    ),
    "pool the greatest": (
        "MaxPool",
        [IMAGE],
        [],
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    ),
    "pool the greatest to the edge": (
        "MaxPool",
        [IMAGE],
        [],
        {"kernel_shape": [2, 2], "strides": [2, 4], "ceil_mode": 1},
    ),
    "pool averages": (
        "AveragePool",
        [IMAGE],
        [],
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    ),
    "pool averages with padding": (
        "AveragePool",
        [IMAGE],
        [],
        {"kernel_shape": [3, 3], "pads": [1, 0, 0, 1], "count_include_pad": 1},
    ),
    "pool averages to the edge": (
        "AveragePool",
        [IMAGE],
        [],
        {"kernel_shape": [3, 2], "strides": [3, 4], "ceil_mode": 1},
    ),
    "pool everything": ("GlobalAveragePool", [IMAGE], [], {}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_operator_is_what_onnxruntime_computes(case: str, tmp_path: Path) -> None:
    kind, given, constants, attributes = CASES[case]
    folder, feeds = saved(tmp_path, kind, given, constants, **attributes)
    for found, wanted in answers(folder, feeds):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted.astype(found.dtype), rtol=1e-5, atol=1e-5)


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path, "Det", [X[:, :3, :3]], [])
    with pytest.raises(InvalidInput, match="does not support these operators for Core AI: Det"):
        export_graph_coreai(folder, tmp_path / "model.aimodel", {}, shapes={})


def test_a_size_that_is_free_stays_free(tmp_path: Path) -> None:
    folder, feeds = saved(tmp_path, "Softmax", [X], [], axis=1)
    model = onnx.load(folder / MODEL_FILE)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "tokens"
    onnx.save(model, folder / MODEL_FILE)
    shapes = {"x0": [(2, 1, 4), (2, 2, 4)]}
    export_graph_coreai(folder, tmp_path / "model.aimodel", {}, shapes=shapes)
    runtime = Runtime(tmp_path / "model.aimodel")
    for tokens in (1, 3):
        (found,) = runtime.run({"x0": feeds["x0"][:, :tokens]}).values()
        powers = np.exp(feeds["x0"][:, :tokens])
        np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-5)
