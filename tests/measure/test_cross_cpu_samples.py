"""Answers across CPUs are compared on inputs that the model takes: the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edgeq.core.artifact import ValueInfo, read_artifact
from edgeq.core.errors import InvalidInput
from edgeq.core.known_settings import SAMPLE_KEY, STATE_KEY
from edgeq.measure.cross_cpu.compare import compare_cpus
from edgeq.measure.cross_cpu.samples import graph_feeds
from edgeq.measure.inputs import Evaluation
from edgeq.places.place import Here
from tests.support import samples

ROWS, WIDTH = 64, 128


def looked_up_artifact(directory: Path) -> Path:
    """Rows of a table at positions that a caller computes, as floats; others do not exist."""
    rng = np.random.default_rng(0)
    tables = {
        "table": rng.standard_normal((ROWS, WIDTH)).astype(np.float32),
        "count": np.array(1000 * ROWS, np.float32),
        "w": rng.standard_normal((WIDTH, WIDTH)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Mul", ["places", "count"], ["positions"]),
        helper.make_node("Cast", ["positions"], ["ids"], to=7),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["y"]),
    ]
    inputs = (ValueInfo(name="places", dtype="float32", shape=("places",)),)
    outputs = (ValueInfo(name="y", dtype="float32", shape=("places", WIDTH)),)
    directory.mkdir(parents=True)
    samples._save_model(directory, nodes, inputs, outputs, tables)
    facts = {"task": "tensor", "settings": {SAMPLE_KEY: {"places": {"shape": [16]}}}}
    return samples._save_artifact(directory, "onnx-int8", inputs, outputs, tables, facts)


def places_data(path: Path) -> Path:
    """Samples that `looked_up_artifact` takes."""
    np.savez(path, places=np.random.default_rng(1).uniform(0, 1e-3, (8, 16)))
    return path


def test_a_model_that_runs_on_no_invented_input_is_compared_on_the_users(tmp_path: Path) -> None:
    artifact = looked_up_artifact(tmp_path / "artifact")
    with pytest.raises(InvalidInput, match=r"(?s)fails on made-up inputs: .*--data FILE\.npz"):
        compare_cpus(artifact, [Here()], lambda words: None)
    data = places_data(tmp_path / "data.npz")
    found = compare_cpus(artifact, [Here()], lambda words: None, evaluation=Evaluation(data))
    assert found.places[0].status == "same" and found.places[0].compared == 4
    assert found.places[0].whole is not None and found.places[0].whole.elements == 4 * 16 * WIDTH
    feeds = graph_feeds(artifact, read_artifact(artifact), Evaluation(data, 4))
    given = np.load(data)["places"].astype(np.float32)
    assert len(feeds) == 4 and all(
        any(np.array_equal(feed["places"], sample) for sample in given) for feed in feeds
    )


def test_data_that_does_not_fit_is_named(tmp_path: Path) -> None:
    artifact = looked_up_artifact(tmp_path / "artifact")
    np.savez(tmp_path / "other.npz", places=np.zeros((3, 2, 4, 4), np.float32))
    with pytest.raises(InvalidInput, match=r"other\.npz: 'places' has the shape \(3, 2, 4, 4\)"):
        compare_cpus(artifact, [], lambda w: None, evaluation=Evaluation(tmp_path / "other.npz"))


def summing_artifact(directory: Path) -> Path:
    """A state that sums its inputs, and a product of it."""
    tables = {"w": np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "state"], ["next"]),
        helper.make_node("MatMul", ["next", "w"], ["y"]),
    ]
    inputs, outputs = (
        tuple(ValueInfo(name=name, dtype="float32", shape=(1, WIDTH)) for name in names)
        for names in (("x", "state"), ("y", "next"))
    )
    directory.mkdir(parents=True)
    samples._save_model(directory, nodes, inputs, outputs, tables)
    facts = {"task": "tensor", "settings": {STATE_KEY: {"state": "next"}}}
    return samples._save_artifact(directory, "onnx-int8", inputs, outputs, tables, facts)


def test_a_model_with_a_state_is_compared_on_states_that_it_reaches(tmp_path: Path) -> None:
    artifact = summing_artifact(tmp_path / "artifact")
    data = tmp_path / "data.npz"
    steps = np.random.default_rng(1).standard_normal((2, 20, 1, WIDTH)).astype(np.float32)
    np.savez(data, x=steps)
    feeds = graph_feeds(artifact, read_artifact(artifact), Evaluation(data))
    before = steps[0, :12].sum(axis=0)  # the state is the sum of what came before
    np.testing.assert_allclose(feeds[0]["state"], before, rtol=1e-5)
    (found,) = compare_cpus(
        artifact, [Here()], lambda words: None, evaluation=Evaluation(data)
    ).places
    assert found.status == "same" and found.whole is not None
