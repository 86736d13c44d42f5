"""Every check compares answers on the CPU classes that can be had here, once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeq.core.artifact import MODEL_FILE, read_artifact, record_files, write_artifact
from edgeq.core.errors import InvalidInput
from edgeq.core.store import Store
from edgeq.devices.catalogue import load_device
from edgeq.measure.cross_cpu.records import Differences, PlaceDifferences
from edgeq.measure.inputs import Evaluation
from edgeq.pipeline.check.cross_cpu import Comparison, reachable
from edgeq.pipeline.check.reference import evaluation_of
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.plan.plan import make_plan
from edgeq.places.emulated import x86_place
from edgeq.places.emulated.catalogue import stand_ins
from tests.measure.test_cross_cpu import products_artifact
from tests.measure.test_cross_cpu_samples import looked_up_artifact, places_data
from tests.pipeline.test_cross_cpu_lines import judged
from tests.support import samples
from tests.support.stand_ins import need
from tests.support.verdicts import verdict


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("store")
        patch.setenv("EDGEQ_STORE", str(root))
        patch.delenv("EDGEQ_COMPARE_CPUS")
        yield root


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return products_artifact(tmp_path_factory.mktemp("products") / "artifact")


@pytest.fixture(scope="module")
def found(store: Path, artifact: Path) -> Differences:
    need(x86_place.available("avx2"))
    said: list[str] = []
    with Comparison(artifact, said.append) as comparison:
        result = comparison.of(artifact)
    assert result is not None and len(said) > 1
    return result


def test_every_class_is_there_with_its_reason(found: Differences) -> None:
    reasons = stand_ins()
    assert sorted(place.place for place in found.places) == sorted(["here", *reasons])
    for place in found.places:
        reason = reasons.get(place.place)
        if reason is not None:
            assert (place.status, place.reason) == ("not run", reason)
        else:
            assert place.status in ("same", "cured")
    (avx2,) = (place for place in found.places if place.place == "x86: avx2")
    assert avx2.status == "cured" and avx2.whole is not None


def test_it_is_done_once(store: Path, artifact: Path, found: Differences) -> None:
    said: list[str] = []
    kept = set(store.glob("differences/*/differences.json"))
    with Comparison(artifact, said.append) as comparison:
        assert comparison.of(artifact) == found
    assert said == [] and kept
    assert set(store.glob("differences/*/differences.json")) == kept


def test_classes_can_be_left_out(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_COMPARE_CPUS", "sse4")
    with_one = set(reachable())
    monkeypatch.setenv("EDGEQ_COMPARE_CPUS", "none")
    assert with_one <= {"x86: sse4"} and reachable() == []
    with Comparison(artifact, lambda words: None) as comparison:
        found = comparison.of(artifact)
    assert found is not None
    here, *others = found.places
    assert here.status in ("same", "cured") and len(others) == len(stand_ins())
    assert {place.reason for place in others} == {"EDGEQ_COMPARE_CPUS leaves it out"}


def test_an_unknown_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_COMPARE_CPUS", "sse4,avx3")
    with pytest.raises(InvalidInput, match="'avx3' is not a CPU class"):
        reachable()


def test_it_is_part_of_a_verdict_that_is_read_back(found: Differences) -> None:
    with_it = verdict({}).model_copy(update={"differences": found})
    assert Verdict.model_validate_json(with_it.model_dump_json()) == with_it


Keep = Callable[[PlaceDifferences], None]


class Dying(Comparison):
    """One whose passes die on the last of its places."""

    def __init__(self, float_dir: Path) -> None:
        super().__init__(float_dir, lambda words: None)
        self.asked: list[list[str]] = []

    def _find(self, artifact_dir: Path, names: Sequence[str], keep: Keep) -> Differences:
        self.asked.append([*names])
        same = {"how": "emulated", "status": "same", "reason": ""}
        died = {**same, "status": "differs", "reason": "killed by SIGKILL", "settled": False}
        found = [
            PlaceDifferences.model_validate(
                {"place": name, **(died if name == names[-1] else same)}
            )
            for name in names
        ]
        for each in found:
            keep(each)
        return Differences(artifact="a", artifact_sha256="", reference="here", places=tuple(found))


def test_what_died_is_compared_again_alone(store: Path, tmp_path: Path) -> None:
    directory = samples.tensor_artifact(tmp_path / "artifact", width=64)
    comparison = Dying(directory)
    first, second = (comparison.of(directory) for _ in range(2))
    wanted = ["here", *reachable()]
    assert comparison.asked == [wanted, wanted[-1:]]
    assert first == second and first is not None
    assert first.places[len(wanted) - 1].reason == "killed by SIGKILL"


def test_an_interrupt_keeps_what_was_compared(store: Path, tmp_path: Path) -> None:
    need(x86_place.available("avx2"))
    directory = samples.tensor_artifact(tmp_path / "artifact", width=65)
    said: list[str] = []

    def interrupt(step: str) -> None:
        said.append(step)
        if len(said) == 3:  # the reference, this machine, and the first stand-in
            raise KeyboardInterrupt

    with Comparison(directory, interrupt) as comparison, pytest.raises(KeyboardInterrupt):
        comparison.of(directory)
    again: list[str] = []
    with Comparison(directory, again.append) as comparison:
        found = comparison.of(directory)
    assert found is not None and len(reachable()) > 0
    assert not any("here" in step for step in again[1:]) and said[2] in again


def test_what_does_not_run_here_either_is_compared_nowhere(store: Path, tmp_path: Path) -> None:
    directory = samples.tensor_artifact(tmp_path / "artifact", width=64)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / MODEL_FILE).write_bytes(b"no graph")
    files = record_files(broken, [MODEL_FILE])
    write_artifact(broken, read_artifact(directory).model_copy(update={"files": files}))
    with Comparison(directory, lambda words: None) as comparison:
        found = comparison.of(broken)
    assert found is not None and found.exit_status == 3
    reason = "model.onnx: cannot be opened: is not a valid ONNX model"
    assert reason in found.places[0].reason
    verdict_here = judged(load_device("here"), *found.places)
    assert all(line.budget != "device.answers" for line in verdict_here.lines)
    assert any(reason in note for note in verdict_here.notes)


def test_the_recipes_samples_are_compared(store: Path, tmp_path: Path) -> None:
    """Of a model that runs on no invented input; other samples are another comparison."""
    directory, data = looked_up_artifact(tmp_path / "artifact"), places_data(tmp_path / "a.npz")
    with Comparison(directory, lambda words: None) as comparison:
        invented = comparison.of(directory)
    with Comparison(directory, lambda words: None, Evaluation(data)) as comparison:
        found = comparison.of(directory)
    assert invented is not None and "fails on made-up inputs" in invented.places[0].reason
    assert found is not None and {place.status for place in found.places} <= {"same", "not run"}
    assert found.places[0].status == "same"


@pytest.mark.parametrize("given", ["evaluation", "calibration"])
def test_either_data_of_a_recipe_gives_samples(given: str, tmp_path: Path) -> None:
    directory = samples.tensor_artifact(tmp_path / "artifact", width=64)
    feed = samples.tensor_feeds(batch=2, width=64)
    np.savez(tmp_path / "data.npz", **{name: array[:, None] for name, array in feed.items()})
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"edgeq: 1\nname: own\nmodel: {{source: {directory / MODEL_FILE}, task: tensor}}\n"
        f"data: {{{given}: {{path: data.npz, samples: 1}}}}\nquantize: {{default: [float32]}}\n"
        "targets: [{format: onnx, devices: [here]}]\n"
    )
    found = evaluation_of(make_plan(recipe), Store(), lambda words: None)
    assert found is not None and (found.arrays, found.samples) == (tmp_path / "data.npz", 1)
    assert found.only_timed == (given == "calibration")


def test_a_core_ml_package_is_not_compared(store: Path, tmp_path: Path) -> None:
    directory = samples.tensor_artifact(tmp_path / "artifact", width=64)
    other = tmp_path / "other"
    other.mkdir()
    record = read_artifact(directory)
    for name in record.files:
        (other / name).write_bytes((directory / name).read_bytes())
    write_artifact(other, record.model_copy(update={"format": "coreml"}))
    with Comparison(directory, lambda words: None) as comparison:
        assert comparison.of(other) is None
    assert os.environ["EDGEQ_STORE"] and Store().root == store
