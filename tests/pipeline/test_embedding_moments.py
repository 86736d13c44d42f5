"""What errors of a table's rows cost is tried; codes found by it cost less, at the same bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq.formats.apple.weights import find_codes_apple
from edgeq.models.graphs.embedding_moments import looked_up, table_moments
from edgeq.models.graphs.rounding import find_codes
from edgeq.models.graphs.weights import Weight, find_weights
from edgeq.models.onnx_session import open_session
from edgeq.quantize.decide import Decision
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.statistics import Feed

TOKENS, COLUMNS, OUTPUTS = 256, 64, 96


def graph(folder: Path, output: str) -> tuple[Path, np.ndarray]:
    """Rows are looked up and multiplied by a matrix that hardly sees most of their directions."""
    random = np.random.default_rng(0)
    table = random.standard_normal((TOKENS, COLUMNS)).astype(np.float32)
    turn = np.linalg.qr(random.standard_normal((COLUMNS, COLUMNS)))[0]
    strength = np.geomspace(1, 0.01, COLUMNS)[:, None]
    matrix = (turn @ (strength * random.standard_normal((COLUMNS, OUTPUTS)))).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "matrix"], [output]),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, "tokens", OUTPUTS])],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    return folder, matrix


def feeds(count: int, seed: int = 1) -> list[Feed]:
    random = np.random.default_rng(seed)
    return [{"input_ids": random.integers(0, TOKENS, (1, 300))} for _ in range(count)]


def table_of(folder: Path) -> Weight:
    found = find_weights(ir.load(folder / "model.onnx"))
    return next(weight for weight in found if weight.name == "table")


def seen_by(folder: Path) -> np.ndarray:
    moments = table_moments(folder, table_of(folder), feeds(40)).moments
    assert moments is not None
    return moments.seen


def codes(folder: Path, method: str) -> QuantizedTensor:
    choice = Choice("int4-b32", method, "float32", None)

    def decide(name: str, shape: tuple[int, ...]) -> Decision:
        return Decision(choice if name == "table" else None, "asked for")

    return find_codes(folder, decide, feeds(40), lambda step: None)["table"]


def test_of_a_linear_model_it_is_the_product_of_its_matrix(tmp_path: Path) -> None:
    folder, matrix = graph(tmp_path, "answers")
    found = seen_by(folder)
    wanted = matrix @ matrix.T / OUTPUTS
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


def test_of_predictions_it_is_twice_their_divergence(tmp_path: Path) -> None:
    folder, matrix = graph(tmp_path, "logits")
    fisher = seen_by(folder)
    rows = table_of(folder).matrix()
    moved = rows + 0.02 * np.random.default_rng(5).standard_normal(rows.shape).astype(np.float32)
    session = open_session(folder / "model.onnx", threads=1)
    before = session.run(["logits"], {"input_ids": np.arange(TOKENS)[None]})[0][0]
    after = before + (moved - rows) @ matrix
    chances = [np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (before, after)]
    divergence = (chances[0] * np.log(chances[0] / chances[1])).sum(1).mean()
    change = moved - rows
    assert ((change @ fisher) * change).sum(1).mean() / 2 == pytest.approx(divergence, rel=0.15)


@pytest.mark.parametrize("output", ["answers", "logits"])
def test_codes_cost_less_than_the_nearest_ones(output: str, tmp_path: Path) -> None:
    folder, matrix = graph(tmp_path, output)
    rows = table_of(folder).matrix()
    found = {method: codes(folder, method) for method in ("gptq", "nearest")}
    assert {name: tensor.method for name, tensor in found.items()} == {
        "gptq": "gptq",
        "nearest": "nearest",
    }
    lost = {
        name: np.square((tensor.dequantize() - rows) @ matrix).sum()
        for name, tensor in found.items()
    }
    assert lost["gptq"] < 0.5 * lost["nearest"]


def test_the_same_samples_give_the_same_codes(tmp_path: Path) -> None:
    folder, _ = graph(tmp_path, "logits")
    first, second = (codes(folder, "gptq") for _ in range(2))
    assert np.array_equal(first.codes, second.codes)
    assert np.array_equal(first.scales, second.scales)


def test_every_format_gets_the_same_codes(tmp_path: Path) -> None:
    folder, _ = graph(tmp_path, "logits")
    choice = Choice("int4-b32", "gptq", "float32", None)

    def decide(name: str, shape: tuple[int, ...]) -> Decision:
        return Decision(choice if name == "table" else None, "asked for")

    found = find_codes_apple(folder, decide, feeds(40), lambda step: None)["table"]
    wanted = codes(folder, "gptq")
    assert found.method == wanted.method == "gptq"
    assert np.array_equal(found.dequantize(), wanted.dequantize())


def test_a_product_looks_nothing_up(tmp_path: Path) -> None:
    folder, _ = graph(tmp_path, "logits")
    weights = {weight.name: weight for weight in find_weights(ir.load(folder / "model.onnx"))}
    assert looked_up(weights["table"]) == "rows"
    assert looked_up(weights["matrix"]) is None


def test_a_graph_for_texts_of_one_length_is_given_whole_texts(tmp_path: Path) -> None:
    folder, matrix = graph(tmp_path, "answers")
    model = onnx.load(folder / "model.onnx")
    places = np.ones((1, 300, OUTPUTS), np.float32)  # of a position table, say
    model.graph.initializer.append(numpy_helper.from_array(places, "places"))
    model.graph.node[1].output[0] = "products"
    model.graph.node.append(helper.make_node("Add", ["products", "places"], ["answers"]))
    onnx.save(model, folder / "model.onnx")
    wanted = matrix @ matrix.T / OUTPUTS
    assert np.abs(seen_by(folder) - wanted).max() < 0.1 * np.abs(wanted).max()
