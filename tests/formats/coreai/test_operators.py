"""Graphs as Core AI programs; every operator alone: `tests/formats/apple/test_translation.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.formats.coreai.runtime import Runtime
from edgeq.formats.coreai.write import export_graph_coreai
from tests.support.scenes import save_detector


def saved(folder: Path, kind: str, shape: list[int | str], **attributes: int) -> Path:
    """A graph of one operator."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    node = helper.make_node(kind, ["x"], ["y"], name="only", **attributes)
    graph = helper.make_graph([node], "one", [x], [onnx.ValueInfoProto(name="y")])
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / MODEL_FILE)
    return folder


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path, "Det", [2, 3, 3])
    with pytest.raises(InvalidInput, match="does not support these operators for Core AI: Det"):
        export_graph_coreai(folder, tmp_path / "model.aimodel", {}, shapes={})


def test_a_size_that_is_free_stays_free(tmp_path: Path) -> None:
    folder = saved(tmp_path, "Softmax", [2, "tokens", 4], axis=1)
    export_graph_coreai(
        folder, tmp_path / "model.aimodel", {}, shapes={"x": [(2, 1, 4), (2, 2, 4)]}
    )
    runtime = Runtime(tmp_path / "model.aimodel")
    for tokens in (1, 3):
        x = np.random.default_rng(0).standard_normal((2, tokens, 4)).astype(np.float32)
        (found,) = runtime.run({"x": x}).values()
        np.testing.assert_allclose(found, np.exp(x) / np.exp(x).sum(1, keepdims=True), rtol=1e-5)


def test_a_shape_that_the_model_does_not_take_is_told(tmp_path: Path) -> None:
    folder = saved(tmp_path, "Relu", [2, "tokens"])
    export_graph_coreai(folder, tmp_path / "model.aimodel", {}, shapes={"x": [(2, 1), (2, 2)]})
    runtime = Runtime(tmp_path / "model.aimodel")
    for shape in ((3, 1), (2,), (2, 0)):
        with pytest.raises(InvalidInput, match="it is 2 × any"):
            runtime.run({"x": np.zeros(shape, np.float32)})


@pytest.mark.parametrize("through", [TensorProto.INT64, TensorProto.BOOL])
def test_a_cast_to_integers_drops_the_fraction(tmp_path: Path, through: int) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [6])
    make = helper.make_node
    nodes = [
        make("Cast", ["x"], ["whole"], to=TensorProto.INT64),
        make("Cast", ["whole"], ["other"], to=through),
        make("Cast", ["other"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("y", 1, [6])])
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, tmp_path / MODEL_FILE)
    feeds = {"x": np.array([0, 0.3, -0.3, 1.7, -2.5, 1e4 + 0.5], np.float32)}
    (wanted,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, feeds)
    export_graph_coreai(tmp_path, tmp_path / "model.aimodel", {}, shapes={})
    np.testing.assert_array_equal(Runtime(tmp_path / "model.aimodel").run(feeds)["y"], wanted)


SCENES = np.random.default_rng(0).random((3, 1, 3, 64, 64), np.float32)
SCENES[0, :, 0] *= 3  # has red squares; the others have none


def detector(folder: Path, *more: onnx.NodeProto) -> onnx.ModelProto:
    """A net with NonMaxSuppression, whose output `found` others read."""
    model = onnx.load(save_detector(folder / "source.onnx", suppress=True))
    model.graph.node.extend(more)
    if more:
        del model.graph.output[:]
        model.graph.output.append(onnx.ValueInfoProto(name=more[-1].output[0]))
    return model


def test_a_list_may_be_empty_and_full_again(tmp_path: Path) -> None:
    """Apple's runtime ends its process in most operators of arrays without values."""
    model = detector(tmp_path, helper.make_node("Relu", ["found"], ["above"]))
    onnx.save(model, tmp_path / MODEL_FILE)
    export_graph_coreai(tmp_path, tmp_path / "model.aimodel", {}, shapes={})
    runtime = Runtime(tmp_path / "model.aimodel")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    counts = set()
    for image in (*SCENES, SCENES[0]):
        (wanted,) = session.run(None, {"image": image})
        found = runtime.run({"image": image})["above"]
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        counts.add(wanted.shape[1])
    assert len(counts) > 1
    assert 0 in counts


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("ReduceMax", {"axes": [1], "keepdims": 0}),
        ("Softmax", {"axis": 1}),
        ("Shape", {}),
        ("ArgMax", {"axis": 1}),
    ],
)
def test_what_mixes_or_counts_rows_of_a_list_is_refused(
    tmp_path: Path, kind: str, attributes: dict[str, Any]
) -> None:
    model = detector(tmp_path, helper.make_node(kind, ["found"], ["y"], name="only", **attributes))
    onnx.save(model, tmp_path / MODEL_FILE)
    with pytest.raises(InvalidInput, match=r"only: .* mixes or counts rows of a list"):
        export_graph_coreai(tmp_path, tmp_path / "model.aimodel", {}, shapes={})
