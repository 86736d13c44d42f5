"""Small .onnx models, each of a kind that is easily misread."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Feed = dict[str, np.ndarray]
Maker = Callable[[], tuple[onnx.ModelProto, Feed]]
KINDS: dict[str, Maker] = {}
RNG = np.random.default_rng(0)


def kind(maker: Maker) -> Maker:
    """Register a maker under its name."""
    KINDS[maker.__name__] = maker
    return maker


def floats(*shape: int) -> np.ndarray:
    """Normal values, scaled so that products stay near one."""
    return np.asarray(RNG.standard_normal(shape) / np.sqrt(shape[-1]), np.float32)


def value(name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> Any:
    """An input or output."""
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: dict[str, np.ndarray],
    opset: int = 17,
    functions: Sequence[Any] = (),
) -> onnx.ModelProto:
    """A checked model."""
    stored = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid("own", 1) for _ in functions)]
    made = helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=9)
    onnx.checker.check_model(made)
    return made


def rows(columns: int = 64, count: int = 5) -> Feed:
    """A sample for the input `x`."""
    return {"x": RNG.standard_normal((count, columns)).astype(np.float32)}


def gemm(bias: np.ndarray | None, **attributes: Any) -> tuple[onnx.ModelProto, Feed]:
    """One Gemm of 64 to 96 columns."""
    turned = attributes.get("transA", 0)
    weight = floats(96, 64) if attributes.get("transB") else floats(64, 96)
    names = ["x", "w"] + (["b"] if bias is not None else [])
    nodes = [helper.make_node("Gemm", names, ["y"], "gemm", **attributes)]
    constants = {"w": weight} | ({"b": bias} if bias is not None else {})
    given = value("x", [64, 5] if turned else [5, 64])
    feed = rows(5, 64) if turned else rows()
    return model(nodes, [given], [value("y", [5, 96])], constants), feed


for _name, _bias in {
    "none": None,
    "scalar": np.array(0.5, np.float32),
    "one": np.ones(1, np.float32),
    "columns": floats(96),
    "one_row": floats(1, 96),
    "one_column": floats(5, 1),
    "whole": floats(5, 96),
}.items():
    KINDS[f"gemm_bias_{_name}"] = functools.partial(gemm, _bias)
KINDS["gemm_factors"] = lambda: gemm(floats(96), alpha=0.5, beta=2.0)
KINDS["gemm_factors_whole"] = lambda: gemm(floats(5, 96), alpha=0.5, beta=2.0, transB=1)
KINDS["gemm_turned"] = lambda: gemm(floats(96), transA=1)


def _product(names: list[str], before: list[Any], constants: dict[str, np.ndarray]) -> Any:
    nodes = [*before, helper.make_node("MatMul", names, ["y"], "product")]
    return model(nodes, [value("x", ["n", 64])], [value("y", ["n", 96])], constants), rows()


@kind
def weight_turned() -> Any:
    turn = helper.make_node("Transpose", ["w"], ["t"], "turn", perm=[1, 0])
    return _product(["x", "t"], [turn], {"w": floats(96, 64)})


@kind
def weight_cast_from_half() -> Any:
    cast = helper.make_node("Cast", ["w"], ["t"], "cast", to=TensorProto.FLOAT)
    return _product(["x", "t"], [cast], {"w": floats(64, 96).astype(np.float16)})


@kind
def weight_scaled_and_reshaped() -> Any:
    nodes = [
        helper.make_node("Reshape", ["w", "shape"], ["r"], "reshape"),
        helper.make_node("Mul", ["r", "factor"], ["t"], "scale"),
    ]
    constants = {
        "w": floats(64 * 96, 1),
        "shape": np.array([64, 96]),
        "factor": np.array(3, np.float32),
    }
    return _product(["x", "t"], nodes, constants)


@kind
def weight_masked() -> Any:
    """Booleans of more than one value, as masks are."""
    mask = np.random.default_rng(1).random((64, 96)) > 0.3
    before = [helper.make_node("Where", ["m", "a", "z"], ["w"])]
    constants = {"m": mask, "a": floats(64, 96), "z": np.array(0, np.float32)}
    return _product(["x", "w"], before, constants)


@kind
def weight_in_a_constant_node() -> Any:
    stored = numpy_helper.from_array(floats(64, 96), "w")
    return _product(["x", "w"], [helper.make_node("Constant", [], ["w"], "c", value=stored)], {})


@kind
def weight_sparse() -> Any:
    dense = np.where(RNG.random((64, 96)) < 0.3, floats(64, 96), 0).astype(np.float32)
    places = np.flatnonzero(dense)
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(dense.reshape(-1)[places], "w"),
        numpy_helper.from_array(places.astype(np.int64), "places"),
        [64, 96],
    )
    made, feed = _product(["x", "w"], [], {"w": dense})
    del made.graph.initializer[:]
    made.graph.sparse_initializer.append(sparse)
    return made, feed


@kind
def half_precision() -> Any:
    constants = {"w": floats(64, 96).astype(np.float16), "b": floats(96).astype(np.float16)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Add", ["a", "b"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["y"], "relu"),
    ]
    half = TensorProto.FLOAT16
    made = model(nodes, [value("x", ["n", 64], half)], [value("y", ["n", 96], half)], constants)
    return made, {"x": rows()["x"].astype(np.float16)}


@kind
def open_length_as_minus_one() -> Any:
    made, feed = _product(["x", "w"], [], {"w": floats(64, 96)})
    for stated in (*made.graph.input, *made.graph.output):
        stated.type.tensor_type.shape.dim[0].dim_value = -1
    return made, feed


@kind
def output_of_another_rank_than_stated() -> Any:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Reshape", ["a", "s"], ["y"], "reshape"),
    ]
    constants = {"w": floats(64, 96), "s": np.array([-1, 1, 96])}
    made = model(nodes, [value("x", ["n", 64])], [value("y", [1, 1, 96])], constants, opset=12)
    del made.graph.output[0].type.tensor_type.shape.dim[0]
    return made, rows()


@kind
def towers_of_one_weight() -> Any:
    nodes = [
        helper.make_node("Mul", ["x", "five"], ["z"], "scale"),
        helper.make_node("Gemm", ["x", "w", "b"], ["p"], "left"),
        helper.make_node("Gemm", ["z", "w", "b"], ["q"], "right"),
        helper.make_node("Concat", ["p", "q"], ["y"], "join", axis=1),
    ]
    constants = {"w": floats(64, 96), "b": floats(96), "five": np.array(5, np.float32)}
    return model(nodes, [value("x", ["n", 64])], [value("y", ["n", 192])], constants), rows()


@kind
def residual_with_silu() -> Any:
    def convolve(x: str, w: str, y: str) -> Any:
        return helper.make_node("Conv", [x, w], [y], f"conv {w}", pads=[1, 1, 1, 1])

    nodes = [
        convolve("x", "w1", "a"),
        helper.make_node("Sigmoid", ["a"], ["s"], "gate"),
        helper.make_node("Mul", ["a", "s"], ["b"], "silu"),
        convolve("b", "w2", "c"),
        helper.make_node("Add", ["c", "b"], ["d"], "residual"),
        helper.make_node("Relu", ["d"], ["e"], "relu"),
        convolve("e", "w3", "y"),
    ]
    weights = {f"w{n}": floats(64, 64, 3, 3) / np.float32(13) for n in (1, 2, 3)}
    shape: list[int | str] = ["n", 64, 12, 12]
    image = RNG.standard_normal((1, 64, 12, 12)).astype(np.float32)
    return model(nodes, [value("x", shape)], [value("y", shape)], weights), {"x": image}


@kind
def hard_swish_and_numbers() -> Any:
    """Convolutions with a hard swish as exporters write it, a scale and shift, and limits."""
    numbers = {"three": 3, "zero": 0, "six": 6, "gain": 0.7, "shift": -0.2, "low": -0.4}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["a", "three"], ["b"], "add"),
        helper.make_node("Clip", ["b", "zero", "six"], ["c"], "clip"),
        helper.make_node("Mul", ["a", "c"], ["d"], "gate"),
        helper.make_node("Div", ["d", "six"], ["e"], "divide"),
        helper.make_node("Mul", ["e", "gain"], ["f"], "scale"),
        helper.make_node("Add", ["f", "shift"], ["g"], "shift"),
        helper.make_node("Conv", ["g", "w2"], ["h"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["h"], ["i"], "leaky", alpha=0.2),
        helper.make_node("Max", ["i", "low"], ["j"], "limit"),
        helper.make_node("Conv", ["j", "w3"], ["k"], "conv3", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["k"], ["y"], "pool"),
    ]
    weights = {f"w{n}": floats(64, 64, 3, 3) / np.float32(10) for n in (1, 2, 3)}
    weights |= {name: np.array(number, np.float32) for name, number in numbers.items()}
    image = RNG.standard_normal((1, 64, 12, 12)).astype(np.float32)
    inputs, outputs = [value("x", ["n", 64, 12, 12])], [value("y", ["n", 64, 1, 1])]
    return model(nodes, inputs, outputs, weights), {"x": image}


@kind
def names_of_ours() -> Any:
    nodes = [
        helper.make_node("MatMul", ["t0", "w.codes"], ["t1"], "t2"),
        helper.make_node("Relu", ["t1"], ["w.scales"], "t1"),
        helper.make_node("MatMul", ["w.scales", "w"], ["t5"], "t0"),
    ]
    constants = {"w.codes": floats(64, 64), "w": floats(64, 96)}
    made = model(nodes, [value("t0", ["n", 64])], [value("t5", ["n", 96])], constants)
    return made, {"t0": rows()["x"]}


def _lookup(axis: int, tied: bool) -> Any:
    nodes = [helper.make_node("Gather", ["w", "i"], ["e"], "lookup", axis=axis)]
    if tied:
        nodes += [
            helper.make_node("Transpose", ["w"], ["t"], "turn", perm=[1, 0]),
            helper.make_node("MatMul", ["e", "t"], ["y"], "head"),
        ]
    else:
        nodes += [helper.make_node("Identity", ["e"], ["y"], "same")]
    made = model(
        nodes,
        [value("i", [1, 5], TensorProto.INT64)],
        [value("y", [1, 5, 200 if tied else 64])],
        {"w": floats(200, 64)},
    )
    return made, {"i": np.array([[0, 3, -1, 7, -200]])}


KINDS["lookup_counted_from_back"] = lambda: _lookup(-2, tied=False)
KINDS["lookup_tied"] = lambda: _lookup(0, tied=True)


@kind
def function_named_like_an_operator() -> Any:
    body = [
        helper.make_node("MatMul", ["a", "b"], ["p"]),
        helper.make_node("Neg", ["p"], ["c"]),
    ]
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Gather", ["a", "b"], ["c"], body, opset)
    nodes = [helper.make_node("Gather", ["x", "w"], ["y"], "own", domain="own")]
    inputs, outputs = [value("x", ["n", 64])], [value("y", ["n", 96])]
    return model(nodes, inputs, outputs, {"w": floats(64, 96)}, functions=[function]), rows()


@kind
def function_with_a_default() -> Any:
    product = helper.make_node("Gemm", ["a", "b"], ["c"])
    factor = onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT)
    factor.ref_attr_name = "factor"
    product.attribute.append(factor)
    opset, default = [helper.make_opsetid("", 17)], [helper.make_attribute("factor", 3.0)]
    function = helper.make_function(
        "own", "Scaled", ["a", "b"], ["c"], [product], opset, attribute_protos=default
    )
    nodes = [
        helper.make_node("Scaled", ["x", "w"], ["z"], "stated", domain="own", factor=0.5),
        helper.make_node("Scaled", ["z", "w"], ["y"], "by default", domain="own"),
    ]
    inputs, outputs = [value("x", ["n", 64])], [value("y", ["n", 64])]
    return model(nodes, inputs, outputs, {"w": floats(64, 64)}, functions=[function]), rows()


@kind
def optional_on_the_way() -> Any:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Optional", ["a"], ["o"], "wrap"),
        helper.make_node("OptionalGetElement", ["o"], ["y"], "unwrap"),
    ]
    inputs, outputs = [value("x", ["n", 64])], [value("y", ["n", 96])]
    return model(nodes, inputs, outputs, {"w": floats(64, 96)}), rows()


@kind
def weight_read_in_two_orientations() -> Any:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], "there"),
        helper.make_node("Gemm", ["a", "w"], ["y"], "back", transB=1),
    ]
    inputs, outputs = [value("x", ["n", 64])], [value("y", ["n", 64])]
    return model(nodes, inputs, outputs, {"w": floats(64, 64)}), rows()


def _body(nodes: list[Any], name: str, inputs: list[Any], outputs: list[Any]) -> Any:
    return helper.make_graph(nodes, name, inputs, outputs)


@kind
def branch_shares_a_weight() -> Any:
    then = _body([helper.make_node("MatMul", ["x", "w"], ["p"])], "then", [], [value("p", [5, 64])])
    other = _body([helper.make_node("Relu", ["x"], ["p"])], "else", [], [value("p", [5, 64])])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["go"], "greater"),
        helper.make_node("If", ["go"], ["i"], "if", then_branch=then, else_branch=other),
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Add", ["a", "i"], ["y"], "add"),
    ]
    constants = {"w": floats(64, 64), "zero": np.array(-100, np.float32)}
    return model(nodes, [value("x", [5, 64])], [value("y", [5, 64])], constants), rows()


@kind
def mask_of_truths() -> Any:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Where", ["mask", "a", "zero"], ["y"], "where"),
    ]
    constants = {
        "w": floats(64, 64),
        "mask": np.arange(64) % 3 > 0,
        "zero": np.zeros(1, np.float32),
    }
    return model(nodes, [value("x", ["n", 64])], [value("y", ["n", 64])], constants), rows()


@kind
def branch_of_an_open_length() -> Any:
    """Nested, as where PyTorch asks for a tensor's rank; only one branch knows the length."""
    inner = [
        _body([helper.make_node("Identity", ["r"], [name])], name, [], [value(name, [1, "n"])])
        for name in ("p", "q")
    ]
    choice = helper.make_node("If", ["go"], ["b"], "in", then_branch=inner[0], else_branch=inner[1])
    nodes = [helper.make_node("ReduceMean", ["c"], ["r"], "mean", axes=[1], keepdims=0), choice]
    then = _body(nodes, "then", [], [value("b", [1, "n"])])
    other = _body([helper.make_node("Identity", ["s"], ["e"])], "else", [], [value("e", [1, "n"])])
    outer = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("ReduceMax", ["c"], ["s"], "most", axes=[1], keepdims=0),
        helper.make_node("ReduceMin", ["s"], ["least"], "least", keepdims=0),
        helper.make_node("Greater", ["least", "zero"], ["go"], "greater"),
        helper.make_node("If", ["go"], ["y"], "if", then_branch=then, else_branch=other),
    ]
    constants = {"w": floats(64, 64, 1) * 8, "zero": np.array(-100, np.float32)}
    made = model(outer, [value("x", [1, 64, "n"])], [value("y", [1, "n"])], constants)
    return made, {"x": RNG.standard_normal((1, 64, 50)).astype(np.float32)}


@kind
def scan_reads_from_outside() -> Any:
    body = _body(
        [
            helper.make_node("Mul", ["t1", "scale"], ["m"]),
            helper.make_node("Add", ["s", "m"], ["s_out"]),
            helper.make_node("Identity", ["s_out"], ["o"]),
        ],
        "body",
        [value("s", [1, 64]), value("t1", [1, 64])],
        [value("s_out", [1, 64]), value("o", [1, 64])],
    )
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], "mean", axes=[0], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["scale"], "product"),
        helper.make_node("Scan", ["s0", "x"], ["last", "y"], "scan", num_scan_inputs=1, body=body),
    ]
    constants = {"w": floats(64, 64), "s0": np.zeros((1, 64), np.float32)}
    outputs = [value("y", [5, 1, 64]), value("last", [1, 64])]
    made = model(nodes, [value("x", [5, 1, 64])], outputs, constants)
    return made, {"x": RNG.standard_normal((5, 1, 64)).astype(np.float32)}


@kind
def loop_fills_a_sequence() -> Any:
    """As an exporter writes a bag of looked-up rows: the body does not say what it takes."""
    body = _body(
        [
            helper.make_node("Gather", ["rows", "i"], ["row"], axis=0),
            helper.make_node("Unsqueeze", ["row", "first"], ["line"]),
            helper.make_node("SequenceInsert", ["so_far", "line"], ["more"]),
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
        ],
        "body",
        [value("i", [], TensorProto.INT64), value("go_on", [], TensorProto.BOOL)],
        [value("goes_on", [], TensorProto.BOOL)],
    )
    body.input.append(onnx.ValueInfoProto(name="so_far"))
    body.output.append(onnx.ValueInfoProto(name="more"))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["rows"], "product"),
        helper.make_node("SequenceEmpty", [], ["none"]),
        helper.make_node("Loop", ["count", "", "none"], ["all"], "loop", body=body),
        helper.make_node("ConcatFromSequence", ["all"], ["y"], axis=0),
    ]
    constants = {"w": floats(64, 96), "count": np.array(4), "first": np.array([0])}
    return model(nodes, [value("x", [5, 64])], [value("y", [4, 96])], constants), rows()


def _convolution(after: list[Any], constants: dict[str, np.ndarray], conv: list[str]) -> Any:
    nodes = [helper.make_node("Conv", conv, ["a"], "conv"), *after]
    stored = {"w": floats(32, 16, 3, 3) / 4, **constants}
    made = model(nodes, [value("x", [2, 16, 8, 8])], [value("y", [2, 32, 6, 6])], stored)
    return made, {"x": RNG.standard_normal((2, 16, 8, 8)).astype(np.float32)}


def _norm(outputs: list[str], **attributes: Any) -> Any:
    names = ["a", "gain", "shift", "mean", "variance"]
    norm = helper.make_node("BatchNormalization", names, outputs, "norm", **attributes)
    constants = {name: floats(32) for name in names[1:4]}
    constants["variance"] = RNG.uniform(0.5, 2, 32).astype(np.float32)
    return _convolution([norm], constants, ["x", "w"])


KINDS["norm"] = lambda: _norm(["y"], epsilon=0.1)
KINDS["norm_in_training"] = lambda: _norm(["y", "m", "v"], training_mode=1)


@kind
def recurrent() -> Any:
    nodes = [helper.make_node("LSTM", ["x", "w", "r", "b"], ["y", "", "c"], "lstm", hidden_size=64)]
    constants = {"w": floats(1, 256, 32), "r": floats(1, 256, 64), "b": floats(1, 512)}
    made = model(
        nodes,
        [value("x", [10, 1, 32])],
        [value("y", [10, 1, 1, 64]), value("c", [1, 1, 64])],
        constants,
    )
    return made, {"x": RNG.standard_normal((10, 1, 32)).astype(np.float32)}


@kind
def opset_9() -> Any:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Unsqueeze", ["a"], ["u"], "unsqueeze", axes=[0]),
        helper.make_node("ReduceSum", ["u"], ["r"], "reduce", axes=[0], keepdims=0),
        helper.make_node("Clip", ["r"], ["y"], "clip", min=-1.0, max=1.0),
    ]
    inputs, outputs = [value("x", ["n", 64])], [value("y", ["n", 96])]
    return model(nodes, inputs, outputs, {"w": floats(64, 96)}, opset=9), rows()


@kind
def output_is_a_constant_too() -> Any:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], "product"),
        helper.make_node("Constant", [], ["c"], "c", value_floats=[1.0, 2.0]),
    ]
    outputs = [value("y", ["n", 96]), value("c", [2])]
    return model(nodes, [value("x", ["n", 64])], outputs, {"w": floats(64, 96)}), rows()


@kind
def quantized_already() -> Any:
    codes = RNG.integers(-127, 128, (64, 96), np.int8)
    scales = RNG.uniform(0.001, 0.002, 96).astype(np.float32)
    names = ["q", "scales", "zeros"]
    decode = helper.make_node("DequantizeLinear", names, ["t"], "decode", axis=1)
    constants = {"q": codes, "scales": scales, "zeros": np.zeros(96, np.int8)}
    return _product(["x", "t"], [decode], constants)


def save(name: str, folder: Path) -> tuple[Path, Feed]:
    """The model of a kind as a file, and a sample."""
    made, feed = KINDS[name]()
    path = folder / "source.onnx"
    onnx.save(made, path)
    return path, feed
