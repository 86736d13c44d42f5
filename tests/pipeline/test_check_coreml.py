"""Checks of Core ML packages where there is no Core ML, and what is made of its compute plan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

pytest.importorskip("coremltools", reason="coremltools is not installed")

from edgeq.core.canonical import sha256_of_file
from edgeq.devices.catalogue import load_device
from edgeq.devices.profile import Device
from edgeq.measure.bench import Bench
from edgeq.measure.inputs import Evaluation
from edgeq.measure.records import Measurement, Placement, UnitShares
from edgeq.pipeline.check.check import _units
from edgeq.pipeline.check.verdict import Verdict
from edgeq.places.place import Here
from edgeq.recipe.budgets import Workload
from edgeq.recipe.load import load_recipe
from tests.support import tiny_bert
from tests.support.commands import run_edgeq
from tests.support.verdicts import (
    CONDITIONS,
    OUTPUT,
    full_precision,
    line,
    measurement,
    quality,
    verdict,
)

RECIPE = """\
edgeq: 1
name: tiny
model: {source: tiny, task: sentence-embedding}
data:
  evaluation: {path: evaluation.tsv, samples: 12}
quantize: {default: {weights: int4-b32, method: nearest}}
coreml: {lengths: [16, 48]}
targets:
  - {format: coreml, devices: [macbook-air-m2, iphone-15-pro]}
budgets:
  size: {download: 2 MiB}
  quality: {cosine: 0.5}
  latency: {p50: 20 ms}
  memory: {growth: 50 MiB}
  placement: {npu: 0.9}
"""
NOT_RUN = {"device.memory", "memory.growth", "latency.p50", "placement.npu"}
MACOS = load_device("here").model_copy(
    update={"os": "macos", "runtimes": ("onnx", "gguf", "coreml"), "counts": "footprint"}
)


@dataclass(frozen=True)
class Checked:
    """What `edgeq check` said of RECIPE: its exit status, verdicts by device and JUnit file."""

    status: int
    verdicts: dict[str, Verdict]
    junit: ElementTree.Element
    said: str


@pytest.fixture(scope="module")
def checked(tiny: Path, tiny_store: Path) -> Checked:
    folder = tiny.parent
    (folder / "check-coreml.yaml").write_text(RECIPE)
    report = folder / "coreml.xml"
    done = run_edgeq(
        "check", "check-coreml.yaml", "--json", "--junit", report, store=tiny_store, cwd=folder
    )
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    verdicts = [Verdict.model_validate(each) for each in found["verdicts"]]
    return Checked(
        found["exit_status"],
        {each.device: each for each in verdicts},
        ElementTree.parse(report).getroot(),
        done.stderr,
    )


@pytest.mark.parametrize(
    ("device", "remedy"),
    [
        ("macbook-air-m2", "run `edgeq check --device here` on MacBook Air"),
        ("iphone-15-pro", "measure it in an app on iPhone 15 Pro"),
    ],
)
def test_quality_is_judged_and_the_rest_is_not_run(
    checked: Checked, device: str, remedy: str
) -> None:
    found = checked.verdicts[device]
    assert (checked.status, found.status, found.exit_status) == (3, "not run", 3)
    statuses = {each.budget: (each.status, each.how) for each in found.lines}
    assert {name for name, seen in statuses.items() if seen[0] == "not run"} == NOT_RUN
    assert statuses["device.memory"] == ("not run", "estimated")
    assert statuses["size.download"] == ("pass", "measured")
    assert statuses["quality.cosine"] == ("pass", "emulated")
    assert "executor for ML Programs" in line(found, "quality.cosine").reason
    for name in NOT_RUN:
        assert line(found, name).reason.startswith("apps run Core ML on Apple's systems only")
        assert line(found, name).remedy.startswith(remedy)


def test_what_has_nothing_to_run_on_is_not_a_failure(checked: Checked) -> None:
    for found in checked.verdicts.values():
        for seen in (found.measurement, found.float_measurement):
            assert seen.failures == {} and set(seen.absent) == {"memory", "latency"}
            assert (seen.memory, seen.latency, seen.placement) == (None, None, None)
            assert seen.format == "coreml"
        assert found.measurement.quality is not None
        assert found.measurement.quality.conditions.reference
    assert "memory" not in checked.said and "latency" not in checked.said  # nor were they begun


def test_build_servers_see_skipped_cases(checked: Checked) -> None:
    for suite in checked.junit:
        skipped = {case.attrib["name"] for case in suite if case.find("skipped") is not None}
        assert skipped == NOT_RUN and suite.attrib["failures"] == "0"


class AMac(Here):
    """This machine, as if it were one that has Core ML."""

    def device(self) -> Device:
        return MACOS


def test_where_there_is_core_ml_every_pass_is_run(
    checked: Checked, tiny_store: Path, tiny: Path, tmp_path: Path
) -> None:
    """Here the worker's runtime is the executor all the same, which no device's line may hide."""
    sealed = next(iter(checked.verdicts.values())).measurement.artifact_sha256
    built = next(
        record.parent
        for record in (tiny_store / "artifact").glob("*/artifact.json")
        if sha256_of_file(record) == sealed
    )
    bench = Bench(
        built,
        Evaluation(tiny.parent / "evaluation.tsv", 4),
        place=AMac(),
        effort="quick",
        progress=lambda step: None,
        folder=tmp_path,
        workload=Workload(),
        compute_units="cpu_and_gpu",
    )
    measured, _ = bench.measure(built)
    assert measured.failures == {} and measured.absent == {}
    assert measured.memory is not None and measured.latency is not None
    assert measured.latency.conditions.inputs == "sequence length 48, batch 1"
    assert measured.latency.compiled_load_seconds is None and measured.placement is None
    assert measured.quality is not None
    assert measured.quality.outputs["sentence_embedding"].cosine_min > 0.9999


def placed(npu: float, **changes: Any) -> Measurement:
    share = UnitShares(cpu=0.02, gpu=0.98 - npu, npu=npu)
    placement = Placement(
        compute_units="all", operators=100, share=share, cost=None, conditions=CONDITIONS
    )
    return measurement(**{"format": "coreml", "placement": placement, **changes})


def test_a_share_of_operators_is_a_budget() -> None:
    budgets = {"placement": {"npu": 0.9, "gpu": 0.1}}
    found = verdict(budgets, measured=placed(0.95), baseline=placed(0.97))
    npu = line(found, "placement.npu")
    assert (npu.status, npu.how, npu.value, npu.float_value) == ("pass", "measured", 0.95, 0.97)
    assert npu.margin == pytest.approx(0.05) and "100 operators" in npu.reason
    gpu = line(found, "placement.gpu")
    assert gpu.status == "fail" and "blocks" in gpu.remedy and "0.03000" in gpu.remedy


def test_other_formats_have_no_line_for_it() -> None:
    found = verdict({"placement": {"npu": 0.9}})
    assert [each.budget for each in found.lines] == ["device.memory"]


def test_a_plan_of_another_chip_says_nothing() -> None:
    found = verdict(
        {"placement": {"npu": 0.9}}, measured=placed(0.95), device=load_device("iphone-15-pro")
    )
    assert line(found, "placement.npu").status == "not run"


def test_a_latency_pass_that_died_takes_the_plan_with_it() -> None:
    dead = placed(0.95, placement=None, latency=None, failures={"latency": "it was killed"})
    seen = line(verdict({"placement": {"npu": 0.9}}, measured=dead), "placement.npu")
    assert seen.status == "fail" and "it was killed" in seen.reason


def test_a_reference_never_counts_as_measured() -> None:
    conditions = CONDITIONS.model_copy(update={"reference": True, "runtime": "a reference"})
    judged = quality(y=OUTPUT).model_copy(update={"conditions": conditions})
    seen = line(
        verdict(
            {"quality": {"cosine": 0.9}},
            measured=placed(0.9, quality=judged),
            baseline=full_precision(format="coreml"),
        ),
        "quality.cosine",
    )
    assert (seen.status, seen.how) == ("pass", "emulated") and "a reference" in seen.reason


def test_a_recipe_without_core_ml_cannot_ask_where_it_runs(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_bert.GOOD + "  placement: {npu: 0.9}\n")
    *_, problems = load_recipe(recipe)
    (only,) = [problem for problem in problems if "placement" in problem.what]
    assert only.where.endswith(":16:15") and "format: coreml" in only.remedy


def test_this_machine_has_core_ml_only_on_macos() -> None:
    here = load_device("here")
    assert ("coreml" in here.runtimes) == (here.os == "macos")


def test_core_ml_may_use_what_the_profile_of_this_machine_says() -> None:
    profile = load_device("macbook-air-m2")
    here = MACOS.model_copy(
        update={
            **{name: getattr(profile, name) for name in ("arch", "chip", "ram")},
            "instruction_sets": profile.instruction_sets,
            "compute_units": "all",
        }
    )
    other = load_device("iphone-15-pro").model_copy(update={"compute_units": "cpu_only"})
    own = profile.model_copy(update={"compute_units": "cpu_and_ne"})
    assert _units(here, [other, own]) == "cpu_and_ne"
    assert _units(here, [other]) == "all"
    assert _units(load_device("here"), [other, own]) == load_device("here").compute_units
