"""`edgeq min-memory`: one real search by the real command, and its verdicts over every outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.artifact import DATA_FILE
from edgeq.core.errors import InvalidInput
from edgeq.core.units import MIB
from edgeq.devices.catalogue import Device, load_device
from edgeq.pipeline.check.min_memory import MinMemory, find_min_memory, judge
from edgeq.pipeline.compare.runnable import runnable
from edgeq.places.limits.run import DataLimiter, Limiter, available
from edgeq.places.limits.search import Search
from edgeq.report.console import make_console
from edgeq.report.min_memory import print_min_memory
from tests.formats.test_bundle import bundled
from tests.places.test_limits import left_behind
from tests.places.test_limits_search import attempt_at
from tests.support import samples

FOUND = available()
groups = pytest.mark.skipif(
    not isinstance(FOUND, Limiter) or isinstance(FOUND, DataLimiter),
    reason=FOUND if isinstance(FOUND, str) else "no control group can be made here",
)
IPHONE = load_device("iphone-14")
HERE = IPHONE.model_copy(update={"id": "here", "chip": "Another"})


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.sentence_artifact(tmp_path_factory.mktemp("made") / "artifact", width=1024)


def run_min_memory(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeq", "min-memory", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )


def small_device(folder: Path, limit: str) -> Path:
    """A profile of this machine's architecture that lets one app use `limit`."""
    facts = load_device("here").model_dump(mode="json", exclude_none=True)
    facts |= {"id": "small", "name": "Small", "chip": "Some chip"}
    facts["app_memory"] = [{"os": "any", "limit": limit, "basis": "rule of thumb"}]
    del facts["reach"]
    path = folder / "small.yaml"
    path.write_text(json.dumps(facts))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def found(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[MinMemory, int]:
    """What the command says of a bundle on a device that allows less than any Python needs."""
    folder = tmp_path_factory.mktemp("min-memory")
    bundled(artifact, folder / "sample.zip")
    device = small_device(folder, "20 MiB")
    # Slow ones are many passes of 10 s each; what kills is enough of a search here.
    done = run_min_memory(
        "sample.zip", "--device", device, "--slowdown", "30", "--json", cwd=folder
    )
    assert done.stdout, done.stderr
    return MinMemory.model_validate_json(done.stdout), done.returncode


@groups
def test_the_smallest_limit_is_between_what_fails_and_what_is_enough(
    found: tuple[MinMemory, int],
) -> None:
    result, _ = found
    smallest = result.smallest_bytes
    assert smallest is not None
    # Less than its own anonymous memory is not enough, and what it had without a limit is.
    assert result.baseline_bytes < smallest <= 1.1 * result.unlimited_high_water_bytes
    last = {trial.limit_bytes: trial for trial in result.trials}
    below = [limit for limit in last if limit < smallest]
    assert smallest - max(below) <= result.resolution_bytes
    assert last[max(below)].outcome != "fits"
    enough = [trial for trial in result.trials if trial.limit_bytes == smallest]
    assert len(enough) >= 2
    for trial in enough[-1:]:
        assert trial.outcome == "fits"
        assert trial.ratio is not None and trial.ratio <= result.slowdown
        assert trial.group_peak_bytes is None or trial.group_peak_bytes <= smallest
    killed = [trial for trial in result.trials if trial.outcome == "killed"]
    assert all("SIGKILL" in trial.reason for trial in killed)
    assert all(f"{trial.limit_bytes / MIB:.1f} MiB" in trial.reason for trial in killed)
    assert left_behind() == []


@groups
def test_a_device_that_allows_less_is_exit_status_1(found: tuple[MinMemory, int]) -> None:
    result, status = found
    assert (result.status, result.exit_status, status) == ("fail", 1, 1)
    [verdict] = result.verdicts
    assert verdict.how == "emulated"
    assert verdict.margin_bytes == 20 * MIB - (result.smallest_bytes or 0)


@groups
@pytest.mark.parametrize("width", [40, 80, 200])
def test_it_is_printed_in_80_columns(
    found: tuple[MinMemory, int], width: int, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    with path.open("w") as file:
        console = make_console(file)
        console.width = min(width, 80)
        print_min_memory(found[0], console)
    lines = path.read_text().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert found[0].trials
    if width >= 80:
        assert sum("MiB" in line and "killed" in line for line in lines) >= 1
        assert any("used by Python and the runtime" in line for line in lines)


def judged(need: int, device: Device, here: Device = HERE) -> list[Any]:
    search = Search(attempt_at(need), max(need, MIB), need + 64 * MIB)
    search.run()
    return list(judge(search, device, here))


@given(st.integers(1, 8 * 1000**3))
def test_each_limit_of_a_device_is_held_against_the_need(need: int) -> None:
    plain, entitled = judged(need, IPHONE)
    assert (plain.app_limit.entitlement, entitled.app_limit.entitlement) == (
        "none",
        "increased-memory-limit",
    )
    for verdict in (plain, entitled):
        # Exactly: a limit between what fails and what is enough is tried itself.
        assert (verdict.status == "pass") == (need <= verdict.app_limit.bytes)
        assert verdict.how == "emulated"
        assert "mapped files" in verdict.reason


def test_another_architecture_is_not_run() -> None:
    here = HERE.model_copy(update={"arch": "x86_64"})
    for verdict in judged(50 * MIB, IPHONE, here):
        assert (verdict.status, verdict.how) == ("not run", "not run")
        assert "x86_64" in verdict.reason


def test_this_machine_is_measured() -> None:
    here = HERE.model_copy(update={"counts": "high-water"})
    assert {verdict.how for verdict in judged(50 * MIB, here, here)} == {"measured"}


@pytest.mark.skipif(isinstance(FOUND, str), reason=str(FOUND))
def test_what_is_asked_wrongly_is_exit_status_2(artifact: Path, tmp_path: Path) -> None:
    here = load_device("here")
    with pytest.raises(InvalidInput, match="faster"):
        find_min_memory(artifact, here, slowdown=1.0)
    with pytest.raises(InvalidInput, match="has no context"):
        find_min_memory(artifact, here, context=64)
    with pytest.raises(InvalidInput, match="does not exist"):
        find_min_memory(tmp_path / "none", here)
    broken = samples.sentence_artifact(tmp_path / "broken")
    (broken / DATA_FILE).write_bytes(b"")
    with pytest.raises(InvalidInput, match="were recorded"):
        find_min_memory(broken, here)


@pytest.mark.skipif(not isinstance(FOUND, str), reason="memory can be limited here")
def test_without_a_mechanism_it_is_exit_status_3(artifact: Path, tmp_path: Path) -> None:
    done = run_min_memory(artifact, cwd=tmp_path)
    assert done.returncode == 3
    assert "not run" in done.stderr


def test_whatever_is_named_becomes_an_artifact_directory(artifact: Path, tmp_path: Path) -> None:
    archive = bundled(artifact, tmp_path / "sample.zip")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", archive, tmp_path / "open"], check=True)
    records = []
    for name, path in {"a": artifact, "b": archive, "c": tmp_path / "open"}.items():
        folder = tmp_path / name
        folder.mkdir()
        directory, record = runnable(path, folder)
        assert runnable(directory, folder) == (directory, record)
        records.append(record)
    assert records[0] == records[1] == records[2]


def test_a_bare_gguf_file_gets_a_record(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from tests.support.gguf_artifacts import WREN, write_file

    path = write_file(WREN, tmp_path / "wren.gguf", "Q8_0")
    (tmp_path / "made").mkdir()
    directory, record = runnable(path, tmp_path / "made")
    assert (record.format, record.task, record.bytes) == (
        "gguf",
        "text-generation",
        path.stat().st_size,
    )
    assert record.text is not None and record.text.max_tokens > 0
    assert runnable(directory, tmp_path)[1] == record
