"""edgeq-runner against the Python worker: the same bytes, and replies of the same kind.

`adb` is a script that copies files and runs commands on this machine, or on an emulated Arm CPU.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq.core.errors import InvalidInput, Missing
from edgeq.core.terms import Progress
from edgeq.devices.address import parse_address
from edgeq.measure import arrays
from edgeq.measure.order_statistics import quantile
from edgeq.measure.replies import MemoryReply, Reply, RunTimesReply
from edgeq.measure.sequential import Limit, is_decided
from edgeq.places.place import Place, Unreachable
from edgeq.places.process import PassStopped, Request, run_worker
from edgeq.places.runner.build import build_runner
from edgeq.places.runner.facts import parse_facts
from edgeq.places.transports import place_for
from tests.support import native, samples, stand_ins

PHONE = "a phone's; echo"
TEXTS = ("a cat", "the cat sat on the mat", "two dogs")
ADB = """#!/bin/sh
echo "$1 $2" >> {log}
if [ "$1" = -s ]; then shift 2; fi
case "$1" in
    get-state) cat {state}; [ "$(cat {state})" = device ];;
    push|pull) cp "$2" "$3";;
    shell) shift 2; exec sh -c "$*";;
    *) exit 9;;
esac
"""


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner for this machine."""
    if sys.platform != "linux" or os.uname().machine != "x86_64" or not shutil.which("g++"):
        pytest.skip("not run: needs g++ on Linux on x86-64")
    path = tmp_path_factory.mktemp("runner") / "edgeq-runner"
    build_runner("linux-x86_64", path)
    return path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`adb` on the PATH; the file that says what it says about the device."""
    tools, state = tmp_path / "tools", tmp_path / "state"
    tools.mkdir()
    (tmp_path / PHONE).mkdir()
    state.write_text("device")
    script = ADB.format(log=tmp_path / "log", state=state)
    (tools / "adb").write_text(script)
    (tools / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return state


def place_of(
    runner: Path,
    folder: Path,
    library: Path | None = None,
    progress: Progress = lambda _: None,
) -> Place:
    options = f"runner={runner}&library={library or native.library()}&directory={folder / PHONE}"
    return place_for(f"adb:R58M?{options}", progress=progress)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return samples.sentence_artifact(tmp_path / "artifact")


def test_its_answers_are_the_workers_byte_for_byte(
    runner: Path, state: Path, artifact: Path, tmp_path: Path
) -> None:
    request = Request(work="quality", artifact=artifact, texts=TEXTS, outputs=tmp_path / "a")
    with place_of(runner, tmp_path) as place:
        reply = place.run(request)
        assert list((tmp_path / PHONE).iterdir())
    assert not list((tmp_path / PHONE).iterdir()), "nothing stays there"
    wanted = run_worker(request.model_copy(update={"outputs": tmp_path / "b"}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len(list(arrays.read_arrays(tmp_path / "a"))) == len(TEXTS)
    assert Reply.model_validate(reply) == Reply.model_validate(wanted)


def test_times_and_memory_are_replied_as_the_worker_does(
    runner: Path, state: Path, artifact: Path, tmp_path: Path
) -> None:
    limits = {"p50": 30.0, "p90": 1e-9}
    with place_of(runner, tmp_path) as place:
        for work in ("latency", "memory"):
            request = Request(work=work, artifact=artifact, threads=1, limits=limits)
            reply, wanted = place.run(request), run_worker(request)
            kind = MemoryReply if work == "memory" else RunTimesReply
            kind.model_validate(reply)
            for key in ("inputs", "runtime", "threads", "prepared", "reference", "instructions"):
                assert reply[key] == wanted[key]
            if work == "memory":
                assert "without a tokenizer" in reply["warnings"][0]
                assert reply["runs"] == wanted["runs"]
                assert reply["baseline"].keys() == wanted["baseline"].keys()
                assert reply["baseline"]["anonymous_bytes"] < wanted["baseline"]["anonymous_bytes"]
            else:
                seconds, looks = reply["seconds"], tuple(reply["looks"])
                assert looks[0] == wanted["looks"][0] == 128
                assert len(seconds) == looks[-1] == reply["runs"]
                assert all(
                    is_decided(seconds, Limit(q, limits[key]), looks)
                    for key, q in (("p50", 0.5), ("p90", 0.9))
                )


def test_weights_are_packed_once_and_mapped(
    runner: Path, state: Path, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.places.runner.place.PREPARE_FROM", 0)
    request = Request(work="quality", artifact=artifact, texts=TEXTS, outputs=tmp_path / "a")
    with place_of(runner, tmp_path) as place:
        replies = [place.run(request) for _ in range(2)]
        (copy,) = (tmp_path / PHONE).glob("*/*/model-packed.onnx")
        made = copy.stat().st_mtime_ns
        place.run(request.model_copy(update={"work": "memory"}))
        assert copy.stat().st_mtime_ns == made
    assert all(reply["prepared"] is True for reply in replies)
    run_worker(request.model_copy(update={"outputs": tmp_path / "b"}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_it_takes_the_runs_that_a_decision_needs(
    runner: Path, state: Path, artifact: Path, tmp_path: Path
) -> None:
    request = Request(work="latency", artifact=artifact, threads=1)
    with place_of(runner, tmp_path) as place:
        seconds = place.run(request)["seconds"]
        near = quantile(seconds, 0.9).seconds  # a limit that a few samples cannot decide
        reply = place.run(request.model_copy(update={"limits": {"p90": near}}))
    looks = reply["looks"]
    sizes = [len(reply["seconds"][:size]) for size in looks]
    assert sizes == looks
    for count in range(1, len(looks)):
        before = tuple(looks[:count])
        assert not is_decided(reply["seconds"][: before[-1]], Limit(0.9, near), before)


def test_the_device_is_described_by_what_it_prints(
    runner: Path, state: Path, tmp_path: Path
) -> None:
    with place_of(runner, tmp_path) as place:
        found, around = place.device(), place.surroundings()
        assert place.reach == found.reach
    assert parse_address(place.reach).runner == str(runner)
    assert (found.id, found.os, found.arch) == ("adb-r58m", "linux", "x86_64")
    assert found.cores.threads == os.cpu_count()
    assert around.system.split() == [os.uname().sysname, os.uname().release, os.uname().machine]
    with pytest.raises(Missing, match="its facts cannot be read"):
        parse_facts("sh: not found", "adb", "adb", "adb")


def test_what_it_cannot_run_is_refused_by_name(
    runner: Path, state: Path, artifact: Path, tmp_path: Path
) -> None:
    request = Request(work="quality", artifact=artifact, texts=TEXTS, outputs=tmp_path / "a")
    with place_of(tmp_path / "none", tmp_path) as place, pytest.raises(InvalidInput) as raised:
        place.run(request)
    assert "edgeq runner android-arm64" in str(raised.value)
    with place_of(runner, tmp_path, library=runner) as place, pytest.raises(Missing) as missing:
        place.run(request)
    assert "libonnxruntime.so" in str(missing.value)
    with pytest.raises(InvalidInput, match="go together"):
        place_for("adb?runner=/tmp/edgeq-runner")


def test_a_device_that_goes_and_a_pass_that_hangs(
    runner: Path, state: Path, artifact: Path, tmp_path: Path
) -> None:
    request = Request(work="latency", artifact=artifact, effort="full")
    steps: list[str] = []
    place = place_of(runner, tmp_path, progress=steps.append)
    with pytest.raises(PassStopped, match="did not finish within 1 s"):
        place.run(request, 1.0)
    state.write_text("error: device 'R58M' not found")
    with pytest.raises(Unreachable, match="not found"):
        place.run(request, 1.0)
    place.close()
    assert "is left there" in steps[-1]


def test_on_emulated_arm_it_answers_as_the_worker_there(
    state: Path, artifact: Path, tmp_path: Path
) -> None:
    """Built for 64-bit Arm, with an Arm build of the library; times mean nothing there."""
    from edgeq.places.emulated.arm_place import ArmPlace

    program = tmp_path / "edgeq-runner"
    with stand_ins.users_cache():
        stand_ins.need_arm()
        try:
            build_runner("linux-arm64", program)
        except Missing as error:
            pytest.skip(f"not run: {error}")
        library = native.arm_library(tmp_path)
        request = Request(work="quality", artifact=artifact, texts=TEXTS, outputs=tmp_path / "a")
        with ArmPlace("dotprod") as arm:
            arm.run(request)
            # The device's program is a script that emulates the Arm one next to it.
            emulated = tmp_path / "emulated"
            words = native.emulator_words(arm)
            emulated.write_text(f'#!/bin/sh\nexec {shlex.join(words)} {program} "$@"\n')
            with place_of(emulated, tmp_path, library) as place:
                reply = place.run(request.model_copy(update={"outputs": tmp_path / "b"}))
    assert reply["inputs"] == "3 texts, one at a time"
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    here = tmp_path / "c"
    run_worker(request.model_copy(update={"outputs": here}))
    for ours, theirs in zip(
        arrays.read_arrays(here), arrays.read_arrays(tmp_path / "b"), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_its_table_of_functions_is_onnxruntimes(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against the header of a release: the program itself is built without one."""
    folder = native.release(tmp_path_factory)
    source = Path(build_runner.__code__.co_filename).parent / "source" / "runtime.hpp"
    slots = [
        line.strip().rstrip(",").removeprefix("k").split(" = ")
        for line in source.read_text(encoding="utf-8").splitlines()
        if line.startswith("  k") and " = " in line and line.endswith(",")
    ]
    assert len(slots) > 20
    checks = "\n".join(
        f'static_assert(offsetof(OrtApi, {name}) == {slot} * sizeof(void*), "{name}");'
        for name, slot in slots
    )
    program = tmp_path / "slots.cpp"
    program.write_text(f"#include <cstddef>\n#include <onnxruntime_c_api.h>\n{checks}\n")
    command = ["g++", "-fsyntax-only", "-I", str(folder / "include"), str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
