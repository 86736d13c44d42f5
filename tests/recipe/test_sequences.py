"""Samples that are sequences: the state that a model makes is what its next step gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from onnx import helper

from edgeq.core.artifact import MODEL_FILE, ValueInfo
from edgeq.core.errors import InvalidInput
from edgeq.measure import arrays
from edgeq.measure.reference import ANSWERS_FILE
from edgeq.models.graphs.imported import import_onnx
from edgeq.pipeline.build.feeds import stepped_feeds
from edgeq.pipeline.proof.onnx_request import OnnxAnswersRequest
from edgeq.pipeline.proof.onnx_worker import perform
from edgeq.recipe.schema import DataRef
from edgeq.recipe.sequences import sequences
from tests.support import onnx_kinds

STATE = {"s": "t"}
X, S = (ValueInfo(name=n, dtype="float32", shape=(1, 64)) for n in "xs")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net that adds what it sees to its state, which it answers with, and three sequences."""
    folder = tmp_path_factory.mktemp("net")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "product"),
        helper.make_node("Add", ["a", "s"], ["b"], "add"),
        helper.make_node("Tanh", ["b"], ["t"], "tanh"),
    ]
    inputs = [onnx_kinds.value(name, [1, 64]) for name in "xs"]
    outputs = [onnx_kinds.value("t", [1, 64])]
    made = onnx_kinds.model(nodes, inputs, outputs, {"w": onnx_kinds.floats(64, 64)})
    (folder / MODEL_FILE).write_bytes(made.SerializeToString())
    steps = np.random.default_rng(0).standard_normal((3, 5, 1, 64)).astype(np.float32)
    np.savez(folder / "data.npz", x=steps)
    return folder


def stepped(net: Path) -> np.ndarray:
    """What onnxruntime answers, step by step, `(samples, steps, 1, 64)`."""
    session = onnxruntime.InferenceSession(net / MODEL_FILE, providers=["CPUExecutionProvider"])
    answers = []
    for sample in np.load(net / "data.npz")["x"]:
        state = np.zeros((1, 64), np.float32)
        for x in sample:
            (state,) = session.run(None, {"x": x, "s": state})
            answers.append(state)
    return np.reshape(answers, (3, 5, 1, 64))


def test_the_original_is_recorded_over_time(net: Path, tmp_path: Path) -> None:
    request = OnnxAnswersRequest(
        model=net / MODEL_FILE, outputs=tmp_path, arrays=net / "data.npz", state=STATE
    )
    perform(request.model_dump_json().encode())
    found = [*arrays.read_arrays(tmp_path / ANSWERS_FILE)]
    np.testing.assert_allclose(found, stepped(net), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": np.ones((3, 1, 64), np.int32)}, "input 'x': has dtype int32"),
        ({"y": np.ones((3, 1, 64), np.float32)}, "no array for the input 'x'"),
    ],
)
def test_samples_that_do_not_fit_name_their_file_once(
    net: Path, tmp_path: Path, given: Any, message: str
) -> None:
    np.savez(tmp_path / "a.npz", s=np.ones((3, 1, 64), np.float32), **given)
    request = OnnxAnswersRequest(
        model=net / MODEL_FILE, outputs=tmp_path, arrays=tmp_path / "a.npz"
    )
    with pytest.raises(InvalidInput) as caught:
        perform(request.model_dump_json().encode())
    assert str(caught.value).startswith(f"{tmp_path / 'a.npz'}: {message}")


def test_calibration_sees_the_states_that_a_model_gets_to(net: Path, tmp_path: Path) -> None:
    import_onnx(net / MODEL_FILE, tmp_path)
    feeds = stepped_feeds(net / "data.npz", DataRef(path="data.npz"), [X, S], STATE, tmp_path)
    states = np.reshape([feed["s"] for feed in feeds], (3, 5, 1, 64))
    assert not states[:, 0].any()
    np.testing.assert_allclose(states[:, 1:], stepped(net)[:, :-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"x": np.zeros((2, 3, 1, 64)), "s": np.zeros((2, 1, 64))}, "holds the state 's'"),
        ({"x": np.zeros((2, 1, 64))}, "no array has steps along its second axis"),
        ({"y": np.zeros((2, 3, 1, 64))}, "the model has no input 'y'"),
        ({"x": np.zeros((2, 64))}, r"'x' has the shape \(2, 64\), for an input of rank 2"),
    ],
)
def test_data_that_are_no_sequences_are_refused(data: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        sequences(Path("data.npz"), data, [X, S], STATE)


def test_a_state_that_the_model_lacks_is_named(net: Path, tmp_path: Path) -> None:
    request = OnnxAnswersRequest(
        model=net / MODEL_FILE, outputs=tmp_path, arrays=net / "data.npz", state={"s": "tt"}
    )
    with pytest.raises(InvalidInput, match=r"model\.state: the model has no output 'tt'"):
        perform(request.model_dump_json().encode())
