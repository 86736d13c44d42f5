"""Verdicts on small real models, measured by the whole path."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from edgeq.core.errors import InvalidInput
from edgeq.devices.catalogue import load_device
from edgeq.devices.profile import Device
from edgeq.pipeline.check.check import CheckRequest, Evaluation, check
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.check.workflow import chosen_names
from edgeq.pipeline.plan.plan import make_plan
from edgeq.places.place import Here
from edgeq.recipe.budgets import Budgets
from tests.support import samples
from tests.support.verdicts import (
    ALL_BUDGETS,
    line,
)


@pytest.fixture
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))


def run_check(targets: dict[Path, list[Device]], float_dir: Path, data: Path) -> list[Verdict]:
    request = CheckRequest(
        targets=targets,
        float_dir=float_dir,
        # No budget of time: a busy machine would take many runs to decide it.
        budgets=Budgets.model_validate({**ALL_BUDGETS, "latency": {}}),
        evaluation=Evaluation(data),
        alternatives={},
    )
    return check(request, Here(), lambda step: None)


@pytest.mark.usefixtures("_own_cache")
def test_a_real_sentence_encoder_is_judged(tmp_path: Path) -> None:
    full = samples.sentence_artifact(tmp_path / "float", width=512)
    worse = samples.sentence_artifact(tmp_path / "worse", width=512, seed=1)
    data = tmp_path / "data.tsv"
    pairs = itertools.permutations(samples.WORDS[:7], 2)
    rows = [f"the {a} on {b}\t{b} over a {a}\t{i % 5}" for i, (a, b) in enumerate(pairs)]
    data.write_text("\n".join(["sentence1\tsentence2\tscore", *rows]))
    here, board = load_device("here"), load_device("pi5-8gb")
    found = run_check({full: [here, board], worse: [here]}, full, data)
    assert [(v.device, line(v, "quality.cosine").status) for v in found] == [
        ("here", "pass"),
        ("pi5-8gb", "pass"),
        ("here", "fail"),
    ]
    same, _, other_weights = found
    assert line(same, "quality.cosine").value == pytest.approx(1, abs=1e-6)
    error = line(other_weights, "quality.error").value
    assert error is not None and error > 0.5
    spearman = line(other_weights, "quality.spearman")
    assert spearman.float_value == line(same, "quality.spearman").value
    for one in found:
        assert one.measurement.failures == one.float_measurement.failures == {}
        assert one.measurement.latency is not None
        assert len(one.measurement.latency.samples_seconds) >= 128
    # Full precision is timed again beside each artifact, and judged by its memory of once.
    assert same.float_measurement.latency != other_weights.float_measurement.latency
    assert same.float_measurement.memory == other_weights.float_measurement.memory


@pytest.mark.usefixtures("_own_cache")
def test_one_sentence_passes_nothing_however_often_it_is_there(tmp_path: Path) -> None:
    full = samples.sentence_artifact(tmp_path / "float")
    data = tmp_path / "data.txt"
    data.write_text("the cat sat\n" * 50)
    (found,) = run_check({full: [load_device("here")]}, full, data)
    cosine = line(found, "quality.cosine")
    assert cosine.value == pytest.approx(1)
    assert (cosine.status, cosine.samples, cosine.samples_wanted) == ("inconclusive", 1, 20)
    assert "about 20 samples (now 1)" in cosine.remedy
    assert found.exit_status == 4


@pytest.mark.usefixtures("_own_cache")
def test_a_real_tensor_model_is_judged(tmp_path: Path) -> None:
    full = samples.tensor_artifact(tmp_path / "float")
    worse = samples.tensor_artifact(tmp_path / "worse", seed=1)
    data = tmp_path / "data.npz"
    np.savez(data, **samples.tensor_feeds(batch=24))
    (found,) = run_check({worse: [load_device("here")]}, full, data)
    assert line(found, "quality.top1").status == "fail"
    assert line(found, "quality.spearman").status == "not run"
    assert found.measurement.latency is not None
    inputs = found.measurement.latency.conditions.inputs
    assert inputs == "first sample of the data: features 1×512, kind 1"


@pytest.mark.usefixtures("_own_cache")
def test_evaluation_data_of_another_model_are_refused(tmp_path: Path) -> None:
    full = samples.tensor_artifact(tmp_path / "float")
    data = tmp_path / "data.npz"
    np.savez(data, pixels=np.zeros((3, 4)))
    with pytest.raises(InvalidInput, match="no array for the input 'features'"):
        run_check({full: []}, full, data)


def test_an_artifact_that_a_recipe_does_not_make_is_refused_with_the_name_that_was_meant() -> None:
    pytest.importorskip("gguf", reason="gguf is not installed")
    planned = make_plan(Path(__file__).parents[2] / "recipes" / "wren.yaml")
    assert chosen_names(planned, []) is None
    assert chosen_names(planned, ["gguf-Q4_K_M"]) == ["gguf-Q4_K_M"]
    with pytest.raises(InvalidInput, match="'gguf-Q4_K_MM'") as refused:
        chosen_names(planned, ["gguf-Q4_K_M", "gguf-Q4_K_MM"])
    assert "gguf-Q4_K_M" in refused.value.problems[0].remedy
