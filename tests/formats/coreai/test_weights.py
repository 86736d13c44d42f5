"""Files hold the codes they were given: the runtime answers as a graph with their values does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
from edgeq.quantize.methods import plain_method
from edgeq.quantize.number_formats import QuantizedTensor, number_format
from edgeq.quantize.number_formats.integers import IntegerFormat

ROWS, COLUMNS = 48, 96
RNG = np.random.default_rng(3)
WEIGHT = RNG.standard_normal((ROWS, COLUMNS)).astype(np.float32)
FILTERS = RNG.standard_normal((64, 16, 3, 3)).astype(np.float32)
BITS = {"int8": 8, "int8-b32": 8, "int4-b32": 4, "palette4": 4, "palette6": 6, "palette4-g16": 4}


def saved(folder: Path, weight: np.ndarray, *, filters: bool = False) -> Path:
    """A graph that multiplies by a weight, or convolves with it."""
    shape = ["n", 16, 8, 8] if filters else ["n", COLUMNS]
    kind, stored = ("Conv", weight) if filters else ("MatMul", np.ascontiguousarray(weight.T))
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "layer.weight"], ["y"], "layer")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(stored, "layer.weight")],
    )
    folder.mkdir(exist_ok=True)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / MODEL_FILE)
    return folder


def answers(folder: Path, codes: dict[str, QuantizedTensor], x: np.ndarray) -> np.ndarray:
    asset = folder / "model.aimodel"
    export_graph_coreai(folder, asset, codes, shapes={"x": [x.shape]})
    return Runtime(asset).run({"x": x})["y"]


@pytest.mark.parametrize("word", BITS)
def test_codes_of_a_matrix_are_stored_as_they_are(word: str, tmp_path: Path) -> None:
    stored = number_format(word)
    codes = plain_method(stored).round(WEIGHT, None, stored)
    x = RNG.standard_normal((5, COLUMNS)).astype(np.float32)
    found = answers(saved(tmp_path / "graph", WEIGHT), {"layer.weight": codes}, x)
    rounded = codes.dequantize().astype(np.float16).astype(np.float32)
    session = onnxruntime.InferenceSession(saved(tmp_path / "wanted", rounded) / MODEL_FILE)
    np.testing.assert_allclose(found, session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-5)
    size = (tmp_path / "graph" / "model.aimodel" / "main.mlirb").stat().st_size
    packed = WEIGHT.size * BITS[word] / 8 + 2 * codes.scales.size
    assert packed < size < packed + 2000


@pytest.mark.parametrize("word", ["int8", "palette4"])
def test_codes_of_filters_are_stored_as_they_are(word: str, tmp_path: Path) -> None:
    stored = number_format(word)
    codes = plain_method(stored).round(FILTERS.reshape(len(FILTERS), -1), None, stored)
    x = RNG.standard_normal((1, 16, 8, 8)).astype(np.float32)
    graph = saved(tmp_path / "graph", FILTERS, filters=True)
    found = answers(graph, {"layer.weight": codes}, x)
    values = codes.dequantize().astype(np.float16).astype(np.float32).reshape(FILTERS.shape)
    wanted = saved(tmp_path / "wanted", values, filters=True)
    session = onnxruntime.InferenceSession(wanted / MODEL_FILE)
    np.testing.assert_allclose(found, session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-4)


def test_a_width_that_the_runtime_lacks_is_refused(tmp_path: Path) -> None:
    five = IntegerFormat("int5-b32", bits=5, group_size=32)
    codes = plain_method(five).round(WEIGHT, None, five)
    with pytest.raises(InvalidInput, match="no integer type for codes of 5 bits"):
        answers(saved(tmp_path, WEIGHT), {"layer.weight": codes}, np.zeros((1, COLUMNS), "f"))


def test_float16_is_near_the_graph_in_half_the_bytes(tmp_path: Path) -> None:
    x = RNG.standard_normal((2, COLUMNS)).astype(np.float32)
    asset = tmp_path / "model.aimodel"
    shapes = {"x": [x.shape]}
    export_graph_coreai(saved(tmp_path, WEIGHT), asset, {}, shapes=shapes, compute="float16")
    (found,) = Runtime(asset).run({"x": x}).values()
    np.testing.assert_allclose(found, x @ WEIGHT.T, rtol=0.01, atol=0.05)
    assert 2 * WEIGHT.size < (asset / "main.mlirb").stat().st_size < 2 * WEIGHT.size + 2000


def test_equal_programs_are_equal_files(tmp_path: Path) -> None:
    """Written by two processes, whose seeds for hashes differ."""
    graph = saved(tmp_path, WEIGHT)
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from edgeq.formats.coreai.write import export_graph_coreai\n"
        f"shapes = {{'x': [(1, {COLUMNS})]}}\n"
        "export_graph_coreai(Path(sys.argv[1]), Path(sys.argv[2]), {}, shapes=shapes)\n"
    )
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", script, graph, tmp_path / name], check=True)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    )
    assert one == two
