"""A wrong import is found and said by operator; what cannot be compared or run is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.models.graphs.imported import import_onnx, read_onnx
from edgeq.models.graphs.source import source_files
from edgeq.pipeline.proof.onnx_original import made_up, open_original
from edgeq.pipeline.proof.onnx_prove import prove_onnx
from edgeq.recipe.array_sets import read_arrays
from tests.support import onnx_kinds


def imported(name: str, folder: Path) -> tuple[Path, Path, onnx_kinds.Feed]:
    """The file of a kind, the directory of its import and a sample."""
    path, feed = onnx_kinds.save(name, folder)
    graph = folder / "float"
    graph.mkdir()
    import_onnx(path, graph)
    return path, graph, feed


def test_a_right_import_is_equal_and_says_what_was_compared(tmp_path: Path) -> None:
    path, graph, feed = imported("scan_reads_from_outside", tmp_path)
    proof = prove_onnx(path, graph, [feed])
    assert proof.difference is not None and proof.difference < 1e-6
    assert "source.onnx in onnxruntime" in proof.reference
    assert proof.compared == "y, last of 1 samples"


def test_the_operator_where_an_import_parts_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgeq.models.graphs import imported as module

    def wrong(model: object) -> None:
        for node in model.graph:  # type: ignore[attr-defined]
            if node.op_type == "Relu":
                node.op_type = "Neg"

    monkeypatch.setattr(module, "normalize", wrong)
    path, graph, feed = imported("names_of_ours", tmp_path)
    with pytest.raises(InvalidInput, match=r"they diverge at Relu 't1', in 'w.scales'"):
        prove_onnx(path, graph, [feed])


def test_a_choice_between_equal_scores_is_no_fault_of_the_import(tmp_path: Path) -> None:
    files = [tmp_path / "source.onnx", tmp_path / MODEL_FILE]
    for file, operator in zip(files, ("Greater", "GreaterOrEqual"), strict=True):
        nodes = [
            helper.make_node(operator, ["x", "one"], ["is"]),
            helper.make_node("Cast", ["is"], ["y"], to=TensorProto.FLOAT),
        ]
        x, y = onnx_kinds.value("x", [1, 4]), onnx_kinds.value("y", [1, 4])
        onnx.save(onnx_kinds.model(nodes, [x], [y], {"one": np.ones(1, np.float32)}), file)
    apart = {"x": np.array([[0.5, 2, 3, 4]], np.float32)}
    prove_onnx(files[0], tmp_path, [apart])
    equal = {"x": np.array([[1, 2, 3, 4]], np.float32)}
    with pytest.raises(InvalidInput, match="equal but for rounding"):
        prove_onnx(files[0], tmp_path, [equal])


@pytest.mark.parametrize("field", ["name", "type"])
def test_another_interface_is_refused(tmp_path: Path, field: str) -> None:
    path, graph, feed = imported("weight_turned", tmp_path)
    model = onnx.load(graph / MODEL_FILE)
    if field == "name":
        model.graph.output[0].name = model.graph.node[-1].output[0] = "other"
    else:
        model.graph.node[-1].output[0] = "wide"
        model.graph.node.append(helper.make_node("Cast", ["wide"], ["y"], to=11))
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(model, graph / MODEL_FILE)
    with pytest.raises(InvalidInput, match="the import changes its outputs"):
        prove_onnx(path, graph, [feed])


def test_an_output_has_the_rank_it_runs_with(tmp_path: Path) -> None:
    path, graph, feed = imported("output_of_another_rank_than_stated", tmp_path)
    (answer,) = open_original(path).run(feed)
    (stated,) = open_original(graph / MODEL_FILE).outputs
    assert len(stated.shape) == answer.ndim
    prove_onnx(path, graph, [feed])


def random_graph(kind: str) -> list[Any]:
    noise = helper.make_node("RandomNormalLike", ["a"], ["r"], "random")
    half = helper.make_tensor("v", TensorProto.FLOAT, [], [0.5])
    true = helper.make_tensor("v", TensorProto.BOOL, [], [True])
    if kind == "dropout":
        return [
            helper.make_node("Constant", [], ["half"], value=half),
            helper.make_node("Constant", [], ["true"], value=true),
            helper.make_node("Dropout", ["a", "half", "true"], ["y"], "dropped"),
        ]
    if kind == "branch":
        branch = helper.make_graph([noise], "b", [], [onnx_kinds.value("r", [5, 96])])
        chosen = helper.make_node("If", ["c"], ["r2"], then_branch=branch, else_branch=branch)
        constant = helper.make_node("Constant", [], ["c"], value=true)
        return [constant, chosen, helper.make_node("Add", ["a", "r2"], ["y"])]
    return [noise, helper.make_node("Add", ["a", "r"], ["y"], "add")]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("plain", "RandomNormalLike 'random' draws random numbers"),
        ("branch", "RandomNormalLike 'random' draws random numbers"),
        ("dropout", "Dropout 'dropped' draws random numbers(?s:.)*evaluation mode"),
    ],
)
def test_random_operators_are_named(tmp_path: Path, kind: str, said: str) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"], "product"), *random_graph(kind)]
    x, y = onnx_kinds.value("x", [5, 64]), onnx_kinds.value("y", [5, 96])
    made = onnx_kinds.model(nodes, [x], [y], {"w": onnx_kinds.floats(64, 96)})
    onnx.save(made, tmp_path / "m.onnx")
    (tmp_path / "float").mkdir()
    import_onnx(tmp_path / "m.onnx", tmp_path / "float")
    with pytest.raises(InvalidInput, match=said):
        prove_onnx(tmp_path / "m.onnx", tmp_path / "float", [onnx_kinds.rows()])


def test_a_switch_of_dropout_in_another_file_is_read(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Dropout", ["a", "half", "on"], ["y"], "dropped"),
    ]
    x, y = onnx_kinds.value("x", [5, 64]), onnx_kinds.value("y", [5, 96])
    constants = {"w": onnx_kinds.floats(64, 96), "half": np.array(0.5, np.float32)}
    made = onnx_kinds.model(nodes, [x], [y], {**constants, "on": np.array(True)})
    path = tmp_path / "m.onnx"
    onnx.save(made, path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "float").mkdir()
    import_onnx(path, tmp_path / "float")
    with pytest.raises(InvalidInput, match="'dropped' draws random numbers"):
        prove_onnx(path, tmp_path / "float", [onnx_kinds.rows()])


def test_what_onnxruntime_does_not_run_is_refused_in_one_line(tmp_path: Path) -> None:
    made, _ = onnx_kinds.KINDS["recurrent"]()
    made.graph.node[0].attribute.append(helper.make_attribute("layout", 1))
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(InvalidInput, match="cannot run it") as caught:
        open_original(tmp_path / "m.onnx")
    assert "\n" not in caught.value.problems[0].what


def test_samples_are_made_up_in_shapes_that_the_model_takes(tmp_path: Path) -> None:
    path, _ = onnx_kinds.save("lookup_tied", tmp_path)
    original = open_original(path)
    feed = made_up(original)
    assert original.run(feed)[0].shape == (1, 5, 200)


def stale_model(folder: Path, place: str) -> Path:
    """A model whose weight lies in w.bin, named by an initializer, a node or a subgraph."""
    tensor = numpy_helper.from_array(onnx_kinds.floats(64, 96), "w")
    onnx.external_data_helper.set_external_data(tensor, "w.bin", 0, 64 * 96 * 4)
    (folder / "w.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    constant = helper.make_node("Constant", [], ["w"], "c", value=tensor)
    product = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
    x, y = onnx_kinds.value("x", [5, 64]), onnx_kinds.value("y", [5, 96])
    graph = helper.make_graph([product], "g", [x], [y])
    if place == "initializer":
        graph.initializer.append(tensor)
    elif place == "node":
        graph.node.insert(0, constant)
    else:
        product.output[0] = "p"
        inner = helper.make_graph([constant, product], "i", [], [onnx_kinds.value("p", [5, 96])])
        go = numpy_helper.from_array(np.array(True), "go")
        branch = helper.make_node("If", ["go"], ["y"], "if", then_branch=inner, else_branch=inner)
        graph = helper.make_graph([branch], "g", [x], [y], [go])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize("place", ["initializer", "node", "subgraph"])
def test_external_data_is_a_source_wherever_it_is_named(tmp_path: Path, place: str) -> None:
    path = stale_model(tmp_path, place)
    assert source_files(path) == (path, tmp_path / "w.bin")
    read_onnx(path)
    with (tmp_path / "w.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(InvalidInput, match=r"w\.bin was cut short: 100 bytes"):
        read_onnx(path)
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InvalidInput, match=r"external data file is missing: w.bin"):
        source_files(path)


@pytest.mark.parametrize("name", ["../w.bin", "/etc/hostname"])
def test_external_data_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = stale_model(tmp_path, "initializer")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = name
    onnx.save(model, path)
    with pytest.raises(InvalidInput, match="outside the model's folder"):
        read_onnx(path)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_named(tmp_path: Path, odd: float) -> None:
    from edgeq.models.graphs.weights import find_weights

    made, _ = onnx_kinds.KINDS["weight_turned"]()
    array = numpy_helper.to_array(made.graph.initializer[0]).copy()
    array[3, 4] = odd
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w"))
    onnx.save(made, tmp_path / "m.onnx")
    (weight,) = find_weights(read_onnx(tmp_path / "m.onnx"))
    word = "NaN" if np.isnan(odd) else "infinity"
    with pytest.raises(InvalidInput, match=f"'w': contains {word} in 1 of its 6144 values"):
        weight.matrix()


def test_a_sample_that_is_not_finite_is_named(tmp_path: Path) -> None:
    array = np.zeros((4, 8), np.float32)
    array[2, 5] = np.nan
    np.savez(tmp_path / "a.npz", x=array)
    with pytest.raises(InvalidInput, match="the array 'x' contains NaN in sample 2"):
        read_arrays(tmp_path / "a.npz")


def test_samples_without_values_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 0, 8), np.float32))
    with pytest.raises(InvalidInput, match=r"array 'x' have the shape \(0, 8\), no values"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("kind", ["sequence", "string"])
def test_values_that_are_no_numbers_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    made, _ = onnx_kinds.KINDS["weight_turned"]()
    if kind == "sequence":
        made.graph.node[-1].output[0] = "a"
        made.graph.node.append(helper.make_node("SplitToSequence", ["a"], ["y"], axis=1))
        info = helper.make_tensor_sequence_value_info("y", onnx.TensorProto.FLOAT, None)
        made.graph.output[0].CopyFrom(info)
    else:
        made.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    onnx.save(made, tmp_path / "m.onnx")
    word = {"sequence": "the output 'y' is a sequence", "string": "the input 'x' is text"}[kind]
    with pytest.raises(InvalidInput, match=word):
        read_onnx(tmp_path / "m.onnx")


def chosen(tmp_path: Path, kind: str) -> tuple[Path, onnx_kinds.Feed]:
    """A model whose answers are not finite, or draw random numbers, on a sample."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"], "product")]
    nodes += {
        "root": [helper.make_node("Sqrt", ["a"], ["y"], "root")],
        "chance": [
            helper.make_node("Cast", ["one"], ["true"], "truth", to=TensorProto.BOOL),
            helper.make_node("Dropout", ["a", "half", "true"], ["y"], "dropped"),
        ],
    }[kind]
    constants = {"w": onnx_kinds.floats(64, 96), "half": np.array(0.5, np.float32)}
    x, y = onnx_kinds.value("x", [5, 64]), onnx_kinds.value("y", [5, 96])
    made = onnx_kinds.model(nodes, [x], [y], {**constants, "one": np.array(1)})
    onnx.save(made, tmp_path / "m.onnx")
    (tmp_path / "float").mkdir()
    import_onnx(tmp_path / "m.onnx", tmp_path / "float")
    return tmp_path / "m.onnx", onnx_kinds.rows()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("root", r"its output 'y' is NaN in \d+ of 480 values"),
        ("chance", "two runs of it on one sample give different answers"),
    ],
)
def test_the_model_s_own_faults_are_not_called_the_import_s(
    tmp_path: Path, kind: str, said: str
) -> None:
    path, feed = chosen(tmp_path, kind)
    with pytest.raises(InvalidInput, match=said) as caught:
        prove_onnx(path, tmp_path / "float", [feed])
    assert caught.value.problems[0].where == str(path)


def test_an_import_that_does_not_open_is_said_of_the_user_s_file(tmp_path: Path) -> None:
    path, graph, feed = imported("weight_turned", tmp_path)
    model = onnx.load(graph / MODEL_FILE)
    model.graph.node[0].op_type = "Optional"
    onnx.save(model, graph / MODEL_FILE)
    with pytest.raises(InvalidInput, match="edgeq's import of it does not open: onnx") as caught:
        prove_onnx(path, graph, [feed])
    (problem,) = caught.value.problems
    assert problem.where == str(path)
    assert "ONNXRuntimeError" not in problem.what and "Load model" not in problem.what


def test_an_input_without_a_shape_is_refused_by_name(tmp_path: Path) -> None:
    made, _ = onnx_kinds.KINDS["weight_turned"]()
    made.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(InvalidInput, match="the input 'x' states no shape"):
        read_onnx(tmp_path / "m.onnx")
