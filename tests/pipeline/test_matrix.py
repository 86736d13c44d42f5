"""Matrices with real workers: those started here, and those of a cluster that was there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import psutil
import pytest
from typer.testing import CliRunner

pytest.importorskip("distributed", reason="the extra 'matrix' is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.cli.main import app
from edgeq.core.errors import InvalidInput, Problem
from edgeq.pipeline.build.build import Partly
from edgeq.pipeline.check.verdict import Verdict, exit_status
from edgeq.pipeline.matrix import cluster, job, run
from edgeq.pipeline.matrix.files import manifest_of
from edgeq.pipeline.matrix.run import Judged, run_matrix
from edgeq.places.place import Unreachable
from tests.support.matrix_recipes import DATA, write_recipe

ROOT = Path(__file__).parents[2]
LAPTOP, BOARD = "x86-laptop-8gb", "pi5-8gb"
DASK = Path(sys.executable).with_name("dask")
STARTED = 60.0  # seconds in which a process must have begun, on a busy machine


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def _own_store_and_nothing_left(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Also without a compiler, so that no time goes into comparisons with masked CPUs."""
    monkeypatch.setenv("EDGEQ_STORE", str(store))
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "unshare", "mount", "true"):
        found = shutil.which(name)
        if found is not None:
            (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    before = {child.pid for child in children()}
    yield
    assert [child for child in children() if child.pid not in before] == []


def children() -> list[psutil.Process]:
    """What runs below this process, but for Python's own tracker, which ends with it."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STARTED
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_a_worker(killed: list[psutil.Process]) -> None:
    """Kill the worker of the first process that measures below this one, and remember both."""

    def begun() -> bool:
        for child in children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "edgeq.measure.worker" in child.cmdline():
                    worker = child.parent()
                    assert worker is not None
                    os.kill(worker.pid, signal.SIGKILL)
                    killed.extend([worker, child])
                    return True
        return False

    wait_until(begun)


def ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)  # nobody waits for it any more
    except psutil.NoSuchProcess:
        return True


def quiet(step: str) -> None:
    pass


def lines(judged: Judged) -> dict[str, tuple[str, str, str]]:
    return {line.budget: (line.status, line.how, line.reason) for line in judged.verdict.lines}


def test_a_killed_workers_cells_are_measured_again_and_each_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    recipe, out = write_recipe(tmp_path, devices=f"{LAPTOP}, {BOARD}"), tmp_path / "out"
    killed: list[psutil.Process] = []
    killer = threading.Thread(target=kill_a_worker, args=[killed])
    killer.start()
    found = run_matrix([recipe], [], quiet, on="here", out=out)
    killer.join()
    worker, child = killed
    assert ended(worker)
    assert ended(child)
    assert list(temporary.iterdir()) == []

    assert [(each.recipe, each.verdict.device) for each in found] == [
        ("small", LAPTOP),
        ("small", BOARD),
    ]
    assert all(each.verdict.measurement.quality is not None for each in found)
    assert all(each.verdict.measurement.failures == {} for each in found)
    names = {path.name: path for path in out.rglob("*") if path.is_file()}
    assert set(names) == {f"onnx-int8-static--{id}.json" for id in (LAPTOP, BOARD)}

    # What is there is taken as it is; a record that was lost is made again, alone.
    board = names[f"onnx-int8-static--{BOARD}.json"]
    before = board.read_bytes()
    names[f"onnx-int8-static--{LAPTOP}.json"].unlink()
    again = run_matrix([recipe], [], quiet, on="here", out=out)
    assert board.read_bytes() == before
    assert again[1] == found[1]
    assert again[0] != found[0]  # other samples of time
    command = ["matrix", str(recipe), "--on", "here", "--out", str(out), "--json"]
    done = CliRunner().invoke(app, [*command, "--junit", str(tmp_path / "junit.xml")])
    printed = json.loads(done.stdout)
    assert [Judged("small", Verdict.model_validate(each)) for each in printed["verdicts"]] == again
    assert printed["recipes"] == ["small", "small"]
    assert done.exit_code == printed["exit_status"] == 3
    suites = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert [suite.get("name") for suite in suites] == [
        f"small: onnx-int8-static on {id}" for id in (LAPTOP, BOARD)
    ]


def test_what_kills_every_worker_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cluster._LOCAL, "distributed.scheduler.allowed-failures", 0)
    recipe, out = write_recipe(tmp_path), tmp_path / "out"
    killer = threading.Thread(target=kill_a_worker, args=[[]])
    killer.start()
    (found,) = run_matrix([recipe], [], quiet, on="here", out=out)
    killer.join()
    assert lines(found)["quality.error"] == (
        "not run",
        "not run",
        "1 workers died while they measured it",
    )
    assert lines(found)["size.download"][:2] == ("pass", "measured")
    assert exit_status(line.status for line in found.verdict.lines) == 3
    (record,) = out.rglob("*.json")
    assert json.loads(record.read_text())["verdict"] == found.verdict.model_dump(mode="json")


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a scheduler on loopback, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [str(DASK), "scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
    with (tmp_path / "scheduler.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        yield f"tcp://127.0.0.1:{port}", process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def worker_elsewhere(address: str, home: Path, hidden: list[Path]) -> Iterator[None]:
    """A worker that offers the laptop, has a home of its own, and sees nothing in `hidden`."""
    home.mkdir()
    mounts = " && ".join(f"mount -t tmpfs none '{path}'" for path in hidden)
    apart = ["unshare", "--map-root-user", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("files can be hidden from a process by root or in user namespaces only")
    command = [*apart, str(DASK), "worker", address, "--resources", f"{LAPTOP}=1"]
    command += ["--no-dashboard", "--nthreads", "2", "--local-directory", str(home)]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(home),
        "EDGEQ_CACHE": str(home / "cache"),
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, env=environment, stderr=log)
    try:
        with cluster.given_cluster(address) as workers:
            wait_until(lambda: workers.offered() == [{LAPTOP}])
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_files_travel_to_a_clusters_worker_and_what_nobody_offers_is_not_run(
    scheduler: tuple[str, subprocess.Popen[bytes]], tmp_path: Path, store: Path
) -> None:
    address, process = scheduler
    ours, home = tmp_path / "ours", tmp_path / "home"
    ours.mkdir()
    recipe = write_recipe(ours)
    with worker_elsewhere(address, home, [ours, store]):
        laptop, board = run_matrix(
            [recipe], [LAPTOP, BOARD], quiet, scheduler=address, patience_seconds=4
        )
    assert lines(laptop)["quality.error"][:2] == ("pass", "emulated")
    assert laptop.verdict.measurement.failures == {}
    status, how, reason = lines(board)["quality.error"]
    assert (status, how) == ("not run", "not run")
    assert f'dask worker {address} --resources "{BOARD}=1"' in reason
    # All that the worker was sent is what it had to have, by content.
    carried = {path.name for path in (home / "cache" / "carried").iterdir() if path.is_file()}
    assert set(manifest_of(recipe.with_name(DATA)).files.values()) < carried
    assert laptop.verdict.artifact_sha256 in carried
    assert laptop.verdict.float_measurement.artifact_sha256 in carried
    assert list((home / "cache" / "carried" / "rooms").iterdir()) == []

    # Nobody is left. Without a scheduler too, waiting comes to an end.
    ending = threading.Timer(2.0, process.kill)
    ending.start()
    (lost,) = run_matrix([recipe], [LAPTOP], quiet, scheduler=address, patience_seconds=100)
    assert lines(lost)["quality.error"][0] == "not run"
    assert "lost" in lines(lost)["quality.error"][2]
    with pytest.raises(Unreachable, match="no scheduler answers"):
        run_matrix([recipe], [LAPTOP], quiet, scheduler=address)


def test_what_is_asked_for_wrongly_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    with pytest.raises(InvalidInput, match="--on: not with --scheduler"):
        run_matrix([recipe], [], quiet, on="here", scheduler="tcp://127.0.0.1:1")
    with pytest.raises(InvalidInput, match="'here' would be whichever machine"):
        run_matrix([recipe], ["here"], quiet, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(InvalidInput, match="two recipes have this name"):
        run_matrix([recipe, recipe], [], quiet)
    with pytest.raises(InvalidInput, match="is a file"):
        run_matrix([recipe], [], quiet, out=recipe)
    broken = tmp_path / "broken.yaml"
    broken.write_text(recipe.read_text().replace("budgets", "budget"))
    with pytest.raises(InvalidInput, match=r"broken\.yaml"):
        run_matrix([recipe, broken], [], quiet)


def test_what_is_possible_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stub instead of a build; the report of what is impossible is the command's own."""
    problem = Problem("recipe.yaml:6:13", "int8-dynamic quantizes no weight", "write another")
    row = SimpleNamespace(
        name="net", devices={}, built=[], refused=[problem], works=lambda *given, **more: ()
    )
    monkeypatch.setattr(run, "make_rows", lambda *given: [row])
    with pytest.raises(Partly) as caught:
        run_matrix([Path("recipe.yaml")], [], quiet)
    assert (caught.value.done, caught.value.problems) == ([], (problem,))
    told = CliRunner().invoke(app, ["matrix", "recipe.yaml", "--json"])
    assert told.exit_code == 2
    assert json.loads(told.stdout)["problems"][0]["what"] == problem.what


def test_what_dask_sets_for_its_workers_does_not_reach_what_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as a nanny sets it
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")  # by somebody else
    job._restore_environment()
    assert "OMP_NUM_THREADS" not in os.environ
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_the_command_line_loads_nothing_of_dask() -> None:
    code = "import sys, edgeq, edgeq.cli.main; print({'dask', 'distributed'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
