"""Every translated operator, over its attributes, is what onnxruntime computes.

Core AI's programs run in Apple's own runtime, Core ML's in the executor, whose operators are
compared with PyTorch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, seed
from hypothesis import strategies as st

pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")
pytest.importorskip("coremltools", reason="the extra [coreml] is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnxruntime
from onnx import helper

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.formats.apple.constants import Place, narrow
from edgeq.formats.apple.graph import HANDLERS
from edgeq.formats.apple.unsupported import refuse_unsupported
from edgeq.formats.coreai.runtime import Runtime
from edgeq.formats.coreai.write import export_graph_coreai
from edgeq.formats.coreml.deployment_targets import IOS16
from edgeq.formats.coreml.executor import load
from edgeq.formats.coreml.write import export_graph_coreml
from edgeq.models.graphs.imported import import_onnx
from edgeq.models.graphs.opened import load_graph
from tests.support.apple_cases import MAKERS, Case, Numbers, model_of
from tests.support.properties import examples

CONSTANT = {"Shape", "Size"}
Array = np.ndarray


def test_every_translated_operator_has_a_property() -> None:
    assert set(HANDLERS) == set(MAKERS)


@pytest.mark.parametrize("kind", sorted(set(MAKERS) - CONSTANT))
@seed(0)
@examples(4, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_operator_is_what_onnxruntime_computes(kind: str, data: st.DataObject) -> None:
    case = MAKERS[kind](data.draw, Numbers(data.draw), kind)
    with tempfile.TemporaryDirectory() as folder:
        compare(kind, case, Path(folder))


def compare(kind: str, case: Case, folder: Path) -> None:
    model, feeds = model_of(kind, case)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [value.name for value in session.get_outputs()]
    wanted = session.run(names, feeds)
    for value, want in zip(model.graph.output, wanted, strict=True):
        kind_of = helper.np_dtype_to_tensor_dtype(want.dtype)
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind_of, want.shape))
    path = folder / "source.onnx"
    onnx.save(model, path)
    (folder / "float").mkdir()
    import_onnx(path, folder / "float")
    for found in programs(folder, folder / "float", feeds, case.refused):
        for name, want in zip(names, wanted, strict=True):
            got = np.asarray(found[name])
            assert got.shape == want.shape or got.size == want.size == 1
            np.testing.assert_allclose(
                got.reshape(want.shape), want.astype(got.dtype), rtol=2e-5, atol=2e-5
            )


def programs(
    folder: Path, graph: Path, feeds: dict[str, Array], refused: str
) -> Iterator[dict[str, Array]]:
    """What Core ML's program and Core AI's answer in float32."""
    assert (graph / MODEL_FILE).exists()
    narrow = {
        name: array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
        for name, array in feeds.items()
    }
    package, asset = folder / "a.mlpackage", folder / "a.aimodel"
    export_graph_coreml(graph, package, {}, shapes={}, compute="float32")
    yield load(package).predict(narrow)
    if refused == "Core AI":
        with pytest.raises(InvalidInput, match=r"cannot be expressed in Core AI"):
            export_graph_coreai(graph, asset, {}, shapes={}, compute="float32")
        return
    export_graph_coreai(graph, asset, {}, shapes={}, compute="float32")
    yield Runtime(asset).run(narrow)


def test_an_operator_of_a_later_release_names_the_line_that_allows_it(tmp_path: Path) -> None:
    boxes, scores = np.ones((1, 2, 4), np.float32), np.ones((1, 1, 2), np.float32)
    limits: list[Array | None] = [np.array([1], np.int64), np.array(0.5, np.float32)]
    model, _ = model_of("NonMaxSuppression", Case([boxes, scores], limits))
    result = helper.make_tensor_value_info("y0", onnx.TensorProto.INT64, ["kept", 3])
    model.graph.output[0].CopyFrom(result)
    onnx.save(model, tmp_path / "source.onnx")
    import_onnx(tmp_path / "source.onnx", tmp_path)
    with pytest.raises(InvalidInput, match=r"write coreml: \{deployment_target: iOS17\}"):
        export_graph_coreml(tmp_path, tmp_path / "a.mlpackage", {}, shapes={}, target=IOS16)


@pytest.mark.parametrize("length", [4, 9])
def test_the_branch_that_a_shape_chooses_is_translated(tmp_path: Path, length: int) -> None:
    """Branches read values around them and their own constants."""
    make, values = helper.make_node, helper.make_tensor_value_info
    weight = onnx.numpy_helper.from_array(np.arange(5, 9, dtype=np.float32)[None, :1], "weight")
    five = onnx.numpy_helper.from_array(np.array(5, np.int64), "five")
    twice = onnx.numpy_helper.from_array(np.array([2], np.float32), "twice")
    out = [values("out", onnx.TensorProto.FLOAT, None)]
    short = [make("Mul", ["x", "twice"], ["doubled"]), make("Add", ["doubled", "weight"], ["out"])]
    long = [make("Sub", ["raised", "weight"], ["o"]), make("Exp", ["o"], ["out"])]
    nodes = [
        make("Size", ["x"], ["size"]),
        make("Add", ["x", "weight"], ["raised"]),
        make("Less", ["size", "five"], ["is_short"]),
        make(
            "If",
            ["is_short"],
            ["y"],
            then_branch=helper.make_graph(short, "short", [], out, [twice]),
            else_branch=helper.make_graph(long, "long", [], out),
        ),
    ]
    given_, made = values("x", onnx.TensorProto.FLOAT, [1, "n"]), [values("y", 1, [1, "n"])]
    graph = helper.make_graph(nodes, "g", [given_], made, [weight, five])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "a.onnx")
    import_onnx(tmp_path / "a.onnx", tmp_path)
    x = np.linspace(-1, 1, length, dtype=np.float32)[None]
    (wanted,) = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, {"x": x})
    shapes = {"x": [(1, length)]}
    refuse_unsupported(load_graph(tmp_path).graph, "Core ML", "a.onnx")
    export_graph_coreml(tmp_path, tmp_path / "a.mlpackage", {}, shapes=shapes, compute="float32")
    found = load(tmp_path / "a.mlpackage").predict({"x": x})["y"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    export_graph_coreai(tmp_path, tmp_path / "a.aimodel", {}, shapes=shapes, compute="float32")
    np.testing.assert_allclose(Runtime(tmp_path / "a.aimodel").run({"x": x})["y"], wanted, 2e-6)


def several(
    nodes: list[onnx.NodeProto], shape: tuple[int, ...], constants: dict[str, Array]
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A graph of a few operators from `x` to `y`, and a sample."""
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", 17)]
    sample = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), {"x": sample}


def numbers(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32) / 8


GRAPHS: dict[str, tuple[list[onnx.NodeProto], tuple[int, ...], dict[str, Array]]] = {
    "a vector times a weight": (
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        (64,),
        {"w": numbers(64, 96)},
    ),
    "a weight in two orientations": (
        [
            helper.make_node("Gemm", ["x", "w"], ["a"]),
            helper.make_node("Gemm", ["a", "w"], ["y"], transB=1),
        ],
        (5, 64),
        {"w": numbers(64, 96)},
    ),
    "a square weight on both sides": (
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("MatMul", ["w", "a"], ["y"]),
        ],
        (64, 64),
        {"w": numbers(64, 64)},
    ),
    "a convolution read twice": (
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Sub", ["a", "mean"], ["b"]),
            helper.make_node("Mul", ["b", "gain"], ["c"]),
            helper.make_node("Add", ["c", "a"], ["y"]),
        ],
        (1, 16, 6, 6),
        {"w": numbers(32, 16, 3, 3), "mean": numbers(1, 32, 1, 1), "gain": numbers(1, 32, 1, 1)},
    ),
    "a weight that is standardized in the graph": (
        [
            helper.make_node("ReduceMean", ["w"], ["mean"], axes=[1, 2, 3]),
            helper.make_node("Sub", ["w", "mean"], ["centred"]),
            helper.make_node("Conv", ["x", "centred"], ["a"]),
            helper.make_node("MatMul", ["v", "m"], ["shift"]),
            helper.make_node("Add", ["a", "shift"], ["y"]),
        ],
        (1, 16, 6, 6),
        {"w": numbers(32, 16, 3, 3), "v": numbers(4, 96), "m": numbers(96, 4)},
    ),
    "pixels that become channels, reshaped twice": (
        [
            helper.make_node("Reshape", ["x", "apart"], ["a"]),
            helper.make_node("Reshape", ["a", "again"], ["b"]),
            helper.make_node("Transpose", ["b"], ["c"], perm=[0, 1, 3, 5, 2, 4]),
            helper.make_node("Reshape", ["c", "together"], ["y"]),
        ],
        (1, 3, 6, 4),
        {
            "apart": np.array([1, 3, 3, 2, 2, 2]),
            "again": np.array([0, -1, 3, 2, 2, 2]),
            "together": np.array([1, 12, 3, 2]),
        },
    ),
    "a normalized convolution read twice": (
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("BatchNormalization", ["a", *"gsm", "v"], ["b"]),
            helper.make_node("Add", ["b", "a"], ["y"]),
        ],
        (1, 16, 6, 6),
        {
            "w": numbers(32, 16, 3, 3),
            **{name: numbers(32) for name in "gsm"},
            "v": np.square(numbers(32)) + np.float32(0.1),
        },
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_operators_together_are_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    model, feeds = several(*GRAPHS[name])
    onnx.save(model, tmp_path / "source.onnx")
    (wanted,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    (tmp_path / "float").mkdir()
    import_onnx(tmp_path / "source.onnx", tmp_path / "float")
    for found in programs(tmp_path, tmp_path / "float", feeds, ""):
        np.testing.assert_allclose(found["y"], wanted, rtol=1e-4, atol=1e-4)


INDICES: dict[str, list[list[int] | list[list[int]]]] = {
    "Expand": [[2, 3, 4]],
    "Gather": [[1, 0]],
    "GatherElements": [[[1, 0, 0, 1]]],
    "GatherND": [[[1, 0], [0, 2]]],
    "Pad": [[0, 1, 1, 0]],
    "ReduceMax": [],
    "ReduceMin": [[1]],
    "ScatterND": [[[1, 0], [0, 2]]],
    "Trilu": [],
}


@pytest.mark.parametrize("kind", ["Equal", "integers", *INDICES])
def test_truths_are_moved_and_compared_as_onnxruntime_does(kind: str, tmp_path: Path) -> None:
    """Comparisons of `x` go through an operator, and become numbers."""
    constants = {"zero": np.float32(0), "one": np.float32(1), "updates": np.array([True, False])}
    names = [f"i{n}" for n in range(len(INDICES.get(kind, [])))]
    more = {"Equal": ["other"], "ScatterND": [*names, "updates"]}.get(kind, names)
    make = helper.make_node
    nodes = [
        make("Greater", ["x", "zero"], ["truths"]),
        make("Less", ["x", "one"], ["other"]),
        make(kind, ["truths", *more], ["moved"]),
        make("Cast", ["moved"], ["y"], to=1),
    ]
    if kind == "integers":
        wide = make("Cast", ["x"], ["wide"], to=onnx.TensorProto.INT64)
        nodes = [wide, make("Pad", ["wide", "around"], ["moved"]), nodes[-1]]
        constants["around"] = np.array([1, 0, 0, 2])
    indices = dict(zip(names, map(np.array, INDICES.get(kind, [])), strict=True))
    model, feeds = several(
        nodes, (3, 4), {k: np.asarray(v) for k, v in {**constants, **indices}.items()}
    )
    model.opset_import[0].version = 20
    onnx.save(model, tmp_path / "source.onnx")
    feeds["x"] *= 3
    (wanted,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    (tmp_path / "float").mkdir()
    import_onnx(tmp_path / "source.onnx", tmp_path / "float")
    for found in programs(tmp_path, tmp_path / "float", feeds, ""):
        np.testing.assert_array_equal(np.asarray(found["y"]).reshape(wanted.shape), wanted)


@pytest.mark.parametrize("kind", ["constant", "input"])
def test_an_output_that_a_program_cannot_have_is_refused(kind: str, tmp_path: Path) -> None:
    nodes, shape, constants = GRAPHS["a vector times a weight"]
    model, _ = several(nodes, shape, constants)
    name, sizes = {"constant": ("w", (64, 96)), "input": ("x", shape)}[kind]
    model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes))
    onnx.save(model, tmp_path / "source.onnx")
    import_onnx(tmp_path / "source.onnx", tmp_path)
    with pytest.raises(InvalidInput, match=name) as caught:
        export_graph_coreml(tmp_path, tmp_path / "a.mlpackage", {}, shapes={})
    assert "output" in caught.value.problems[0].what


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("add", -3.4e38, -30000.0),
        ("select", 1e9, 30000.0),
        ("minimum", 3.4e38, 65504.0),
        ("greater", -1e6, -65504.0),
        ("mul", 2e5, None),
        ("add", -7e4, None),
        ("real_div", 1e9, None),
    ],
)
def test_a_constant_beyond_float16_is_a_limit_a_mask_or_refused(
    kind: str, value: float, stored: float | None
) -> None:
    place, array = Place("here", kind, "y"), np.array([1.0, value])
    if stored is not None:
        assert narrow(place, array, "fp16").tolist() == [1.0, stored]
        return
    with pytest.raises(InvalidInput, match=r"beyond the range of float16(?s:.)*coreml\.float32"):
        narrow(place, array, "fp16")
