"""edgeq-runner against the Python worker: the same bytes, and replies of the same kind.

Over a real SSH server on this machine, which starts it on this CPU or on an emulated Arm one, and
over `adb`: a script that runs commands here.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("asyncssh", reason="the extra 'ssh' is not installed")

from edgeq.core.errors import InvalidInput, Missing
from edgeq.core.terms import Progress
from edgeq.devices import detect
from edgeq.devices.address import parse_address
from edgeq.devices.catalogue import matches
from edgeq.measure import arrays
from edgeq.measure.order_statistics import quantile
from edgeq.measure.replies import MemoryReply, Reply, RunTimesReply, TextTimesReply
from edgeq.measure.sequential import Limit, is_decided
from edgeq.measure.text_answers import run_quality
from edgeq.places.place import Place, Unreachable
from edgeq.places.process import PassStopped, Request, run_worker
from edgeq.places.runner import build
from edgeq.places.runner.facts import parse_facts
from edgeq.places.transports import place_for
from edgeq.recipe.budgets import Workload
from tests.support import native, samples, stand_ins
from tests.support.remote_machine import Machine, Started, serving, wait_for

TEXTS = ("a cat", "the cat sat on the mat", "two dogs")
WORKLOAD = Workload(context=32, prompt=8, generate=2)
TOOLS = ("sh", "cat", "chmod", "grep", "mkdir", "rm", "uname", "wc")
ADB = """#!/bin/sh
if [ "$1" = -s ]; then shift 2; fi
case "$1" in
    get-state) cat {state}; [ "$(cat {state})" = device ];;
    shell) shift 2; exec sh -c "$*";;
    *) exit 9;;
esac
"""


@pytest.fixture(autouse=True)
def compiler() -> None:
    if sys.platform != "linux" or os.uname().machine != "x86_64" or not shutil.which("g++"):
        pytest.skip("not run: needs g++ on Linux on x86-64")


@contextlib.contextmanager
def bare_machine(folder: Path) -> Iterator[Machine]:
    """A machine with a shell and these tools, and nothing else: no Python."""
    tools = folder / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(str(shutil.which(name)))
    with pytest.MonkeyPatch.context() as patch, serving(folder, patch, path=str(tools)) as machine:
        yield machine


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with bare_machine(tmp_path) as machine:
        yield machine


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`adb` on the PATH; the file that says what it says about the device."""
    tools, state = tmp_path / "adb", tmp_path / "state"
    tools.mkdir()
    state.write_text("device")
    (tools / "adb").write_text(ADB.format(state=state))
    (tools / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return state


def over_ssh(
    machine: Machine, library: Path | None = None, progress: Progress = lambda _: None
) -> Place:
    options = f"library={library or native.library()}"
    return place_for(f"ssh://someone@127.0.0.1:{machine.server.port}?{options}", progress=progress)


def over_adb(folder: Path, library: Path | None = None) -> Place:
    options = f"library={library or native.library()}&directory={folder / 'a phone; echo'}"
    return place_for(f"adb:R58M?{options}")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return samples.sentence_artifact(tmp_path / "artifact")


def test_its_answers_are_the_workers_byte_for_byte(
    machine: Machine, artifact: Path, tmp_path: Path
) -> None:
    request = Request(work="quality", artifact=artifact, texts=TEXTS, outputs=tmp_path / "a")
    (machine.home / "own").write_text("theirs")
    with over_ssh(machine) as place:
        reply = place.run(request)
        assert len(machine.left()) > 5
    assert machine.left() == ["own"]
    wanted = run_worker(request.model_copy(update={"outputs": tmp_path / "b"}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert len(list(arrays.read_arrays(tmp_path / "a"))) == len(TEXTS)
    assert Reply.model_validate(reply) == Reply.model_validate(wanted)
    assert machine.server.connections == 1
    assert not list(tmp_path.glob("*.part"))


@dataclass(frozen=True)
class Language:
    """Two artifacts of a language model in one file format: `small`, and `float`."""

    folder: Path
    library: Path | None  # None: onnxruntime's

    @property
    def small(self) -> Path:
        return self.folder / "small"

    def over_adb(self, folder: Path) -> Place:
        """By adb: to encrypt and decrypt 100 MB takes long."""
        return over_adb(folder, self.library)


@pytest.fixture(scope="module")
def in_gguf(tmp_path_factory: pytest.TempPathFactory) -> Language:
    pytest.importorskip("gguf", reason="the extra 'gguf' is not installed")
    xllamacpp = pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")
    from tests.support.gguf_artifacts import WREN, gguf_artifact

    folder = tmp_path_factory.mktemp("language")
    gguf_artifact(WREN, folder / "small", "Q4_0")
    gguf_artifact(WREN, folder / "float", "F16")
    return Language(folder, Path(xllamacpp.__file__).with_name("xllamacpp.abi3.so"))


@pytest.fixture(scope="module")
def in_onnx(tmp_path_factory: pytest.TempPathFactory) -> Language:
    pytest.importorskip("onnx_ir", reason="the extra 'language' is not installed")
    from tests.support import decoder_artifacts

    folder = tmp_path_factory.mktemp("language-onnx")
    graph = decoder_artifacts.float_graph(decoder_artifacts.WREN, folder / "graph")
    codes = decoder_artifacts.nearest_codes(graph, "int4-b32")
    decoder_artifacts.decoder_artifact(decoder_artifacts.WREN, graph, folder / "small", codes)
    decoder_artifacts.decoder_artifact(decoder_artifacts.WREN, graph, folder / "float")
    return Language(folder, None)


@pytest.fixture(params=["in_gguf", "in_onnx"])
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.getfixturevalue(request.param)
    return found


def test_a_language_model_gives_the_workers_logits(
    state: Path, language: Language, tmp_path: Path
) -> None:
    ids = tuple(range(3, 300))
    asked = Request(work="quality", artifact=language.small, threads=1, workload=WORKLOAD, ids=ids)
    with language.over_adb(tmp_path) as place:
        with pytest.raises(InvalidInput, match="compares nothing"):
            place.run(asked.model_copy(update={"ids": ()}))
        for more in ({}, {"last": 20}, {"last": 5, "piece": 1}):
            request = asked.model_copy(update={**more, "outputs": tmp_path / "here"})
            wanted = run_worker(request)
            reply = place.run(request.model_copy(update={"outputs": tmp_path / "there"}))
            assert Reply.model_validate(reply) == Reply.model_validate(wanted)
            assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


def test_a_text_that_outgrows_its_angles_is_computed_again(state: Path, tmp_path: Path) -> None:
    """Behind 32 tokens, other angles turn what is in the cache."""
    from tests.support import decoder_artifacts, tiny_decoders

    lengths = {"original_max_position_embeddings": 32, "max_position_embeddings": 128}
    source = tiny_decoders.make(tmp_path / "model", "phi3-longrope", **lengths)
    graph = decoder_artifacts.float_graph(source, tmp_path / "graph")
    small = decoder_artifacts.decoder_artifact(source, graph, tmp_path / "small")
    asked = Request(
        work="quality",
        artifact=small,
        threads=1,
        workload=WORKLOAD,
        ids=tuple(range(3, 50)),
        piece=7,
        outputs=tmp_path / "here",
    )
    run_worker(asked)
    with over_adb(tmp_path) as place:
        place.run(asked.model_copy(update={"outputs": tmp_path / "there"}))
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


def test_a_language_model_is_compared_as_the_worker_does(
    state: Path, language: Language, tmp_path: Path
) -> None:
    from tests.support.gguf_artifacts import WREN

    request = Request(
        work="quality",
        artifact=language.small,
        reference=language.folder / "float",
        corpus=next((WREN.parent / "data").glob("wren-evaluation*")),
        samples=2,
        threads=1,
        workload=WORKLOAD,
    )
    asked = request.model_copy(
        update={"asked": ((((5, 6, 7), 2), ((5, 6, 8), 2)),), "outputs": tmp_path / "there"}
    )
    with language.over_adb(tmp_path) as place:
        assert run_quality(place, request, tmp_path) == run_worker(request)
        run_quality(place, asked, tmp_path)
    run_worker(asked.model_copy(update={"outputs": tmp_path / "here"}))
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()
    assert not list((tmp_path / "a phone; echo").iterdir())


def test_times_and_memory_of_a_language_model(
    state: Path, language: Language, tmp_path: Path
) -> None:
    limits = {"first_token": 30.0, "prompt": 1e9, "generation": 1e9}
    with language.over_adb(tmp_path) as place:
        for work in ("latency", "memory"):
            request = Request(
                work=work,
                artifact=language.small,
                threads=1,
                workload=WORKLOAD,
                limits=limits,
                text="The wren sang in the hedge.",
            )
            reply, wanted = place.run(request), run_worker(request)
            kind = MemoryReply if work == "memory" else TextTimesReply
            kind.model_validate(reply)
            for key in ("inputs", "runtime", "threads", "instructions", "prepared"):
                assert reply[key] == wanted[key]
            if work == "memory":
                for key in ("runs", "context", "cache_bytes"):
                    assert reply[key] == wanted[key]
                (warning,) = reply["warnings"]
                assert warning.startswith("measured by edgeq-runner, without Python")
                assert ("tokenizer" in warning) == (language.library is None)
                assert reply["loaded"]["anonymous_bytes"] < wanted["loaded"]["anonymous_bytes"]
            else:
                assert len(reply["tokens"][0]) == len(wanted["tokens"][0]) == WORKLOAD.generate
                assert len(reply["first"]) == reply["looks"][-1]
                assert len(reply["tokens"]) == reply["text_looks"][-1]


def test_adb_gives_the_same(state: Path, artifact: Path, tmp_path: Path) -> None:
    request = Request(work="quality", artifact=artifact, texts=TEXTS, outputs=tmp_path / "a")
    with over_adb(tmp_path) as place:
        place.run(request)
        assert place.device().id == "adb-r58m"
        assert list((tmp_path / "a phone; echo").iterdir())
    assert not list((tmp_path / "a phone; echo").iterdir()), "nothing stays there"
    run_worker(request.model_copy(update={"outputs": tmp_path / "b"}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_times_and_memory_are_replied_as_the_worker_does(machine: Machine, artifact: Path) -> None:
    limits = {"p50": 30.0, "p90": 1e-9}
    with over_ssh(machine) as place:
        for work in ("latency", "memory"):
            request = Request(work=work, artifact=artifact, threads=1, limits=limits)
            reply, wanted = place.run(request), run_worker(request)
            kind = MemoryReply if work == "memory" else RunTimesReply
            kind.model_validate(reply)
            for key in ("inputs", "runtime", "threads", "prepared", "reference", "instructions"):
                assert reply[key] == wanted[key]
            if work == "memory":
                assert "edgeq-runner, without Python" in reply["warnings"][0]
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
    machine: Machine, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.places.runner.place.PREPARE_FROM", 0)
    request = Request(work="quality", artifact=artifact, texts=TEXTS, outputs=tmp_path / "a")
    with over_ssh(machine) as place:
        replies = [place.run(request) for _ in range(2)]
        (copy,) = machine.home.glob("*/*/model-packed.onnx")
        made = copy.stat().st_mtime_ns
        place.run(request.model_copy(update={"work": "memory"}))
        assert copy.stat().st_mtime_ns == made
    assert all(reply["prepared"] is True for reply in replies)
    run_worker(request.model_copy(update={"outputs": tmp_path / "b"}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_it_takes_the_runs_that_a_decision_needs(machine: Machine, artifact: Path) -> None:
    request = Request(work="latency", artifact=artifact, threads=1)
    with over_ssh(machine) as place:
        seconds = place.run(request)["seconds"]
        near = quantile(seconds, 0.9).seconds  # a limit that a few samples cannot decide
        reply = place.run(request.model_copy(update={"limits": {"p90": near}}))
    looks = reply["looks"]
    sizes = [len(reply["seconds"][:size]) for size in looks]
    assert sizes == looks
    for count in range(1, len(looks)):
        before = tuple(looks[:count])
        assert not is_decided(reply["seconds"][: before[-1]], Limit(0.9, near), before)


def test_the_device_is_described_by_what_it_prints(machine: Machine) -> None:
    with over_ssh(machine) as place:
        found, around = place.device(), place.surroundings()
        assert place.reach == found.reach
    assert parse_address(place.reach).library == str(native.library())
    assert matches(found, detect.detect())
    assert found.cores.threads == os.cpu_count()
    assert around.system.split() == [os.uname().sysname, os.uname().release, os.uname().machine]
    with pytest.raises(Missing, match="its facts cannot be read"):
        parse_facts("sh: not found", "adb", "adb", "adb")


def test_the_library_is_taken_out_of_its_package(machine: Machine, tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "tensor", width=16)
    request = Request(work="memory", artifact=artifact)
    wheel = tmp_path / "onnxruntime.whl"
    with over_ssh(machine, wheel) as place, pytest.raises(InvalidInput, match="pip download"):
        place.run(request)
    with zipfile.ZipFile(wheel, "w") as package:
        package.write(native.library(), f"onnxruntime/capi/{native.library().name}")
    with over_ssh(machine, wheel) as place:
        assert place.run(request)["runtime"].startswith("onnxruntime ")
    with zipfile.ZipFile(wheel, "w") as package:
        package.writestr("onnxruntime/capi/onnxruntime.dll", "")
    with (
        over_ssh(machine, wheel) as place,
        pytest.raises(InvalidInput, match=r"libonnxruntime\.so"),
    ):
        place.run(request)
    with over_ssh(machine, tmp_path / "state") as place, pytest.raises(InvalidInput):
        place.run(request)
    assert machine.left() == []


def test_a_library_of_another_kind_is_refused_by_name(machine: Machine, artifact: Path) -> None:
    request = Request(work="memory", artifact=artifact)
    (other,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime_providers_shared.so")
    with over_ssh(machine, other) as place, pytest.raises(Missing) as raised:
        place.run(request)
    (problem,) = raised.value.problems
    assert problem.what == "is not a library of onnxruntime"
    assert "pip download onnxruntime==" in problem.remedy


def test_a_pass_that_hangs_is_stopped(machine: Machine, artifact: Path) -> None:
    request = Request(work="latency", artifact=artifact, effort="full")
    with (
        over_ssh(machine) as place,
        pytest.raises(PassStopped, match="did not finish within 1 s"),
    ):
        place.run(request, 1.0)
    assert machine.left() == []


def test_a_connection_that_is_cut_is_opened_once_more(machine: Machine, artifact: Path) -> None:
    request = Request(work="latency", artifact=artifact)
    told: list[str] = []
    with over_ssh(machine, progress=told.append) as place:
        running = Started(lambda: place.run(request.model_copy(update={"effort": "full"})))
        first = wait_for(lambda: machine.processes("./edgeq-runner"))
        machine.server.cut()
        wait_for(lambda: not first[0].is_running())
        wait_for(lambda: machine.processes("./edgeq-runner"))
        machine.server.cut()
        with pytest.raises(Unreachable, match="was cut; tried once more: was cut"):
            running.result()
        assert wait_for(lambda: not machine.left())
        assert place.run(request)["runs"] == 128
    assert machine.left() == []
    assert any("the connection was cut" in step for step in told)


def test_a_device_that_goes(state: Path, artifact: Path, tmp_path: Path) -> None:
    with over_adb(tmp_path) as place:
        place.device()
        state.write_text("error: device 'R58M' not found")
        with pytest.raises(Unreachable, match="not found"):
            place.run(Request(work="memory", artifact=artifact))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "starts no POSIX shell"),
        ("exec cat /dev/zero", "starts no POSIX shell"),
        ("echo edgeq-shell; exec cat /dev/zero", "prints more than"),
        ("echo edgeq-shell; echo '{}'", "its facts cannot be read"),
    ],
    ids=["nothing", "noise", "endless", "other"],
)
def test_what_a_device_may_print_is_limited(
    state: Path, tmp_path: Path, artifact: Path, script: str, said: str
) -> None:
    adb = tmp_path / "adb" / "adb"
    adb.write_text(adb.read_text().replace('exec sh -c "$*"', script))
    with over_adb(tmp_path) as place, pytest.raises(Missing, match=said):
        place.run(Request(work="memory", artifact=artifact))


def test_a_directory_that_cannot_be_written(state: Path, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "a phone; echo").write_text("a file")
    with over_adb(tmp_path) as place, pytest.raises(Missing, match="directory=/path/there"):
        place.run(Request(work="memory", artifact=artifact))


def test_on_emulated_arm_it_answers_as_the_worker_there(
    artifact: Path, in_gguf: Language, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built for 64-bit Arm, with Arm builds of the libraries; times mean nothing there."""
    from edgeq.places.emulated.arm import find_arm
    from edgeq.places.emulated.arm_place import ArmPlace

    with stand_ins.users_cache():
        stand_ins.need_arm()
        try:
            built = build.find_runner(build.TARGETS["linux", "aarch64"])
        except Missing as error:
            pytest.skip(f"not run: {error}")
        library = native.arm_library(tmp_path)
        request = Request(work="quality", artifact=artifact, texts=TEXTS, outputs=tmp_path / "a")
        asked = Request(
            work="quality",
            artifact=in_gguf.small,
            threads=1,
            workload=WORKLOAD,
            ids=tuple(range(3, 20)),
            outputs=tmp_path / "d",
        )
        system = find_arm()
        assert system is not None
        with ArmPlace("dotprod") as arm:
            arm.run(request)
            arm.run(asked)
            # The machine's program is a script that emulates the Arm one.
            emulated = tmp_path / "emulated"
            emulated.mkdir()
            words = [*native.emulator_words(arm), str(built / build.RUNNER)]
            (emulated / build.RUNNER).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
            (emulated / build.NAMES).symlink_to(built / build.NAMES)
            monkeypatch.setattr("edgeq.places.runner.place.find_runner", lambda _: emulated)
            with bare_machine(tmp_path) as machine:
                with over_ssh(machine, library) as place:
                    reply = place.run(request.model_copy(update={"outputs": tmp_path / "b"}))
                with over_ssh(machine, system.packages / "xllamacpp/xllamacpp.abi3.so") as place:
                    place.run(asked.model_copy(update={"outputs": tmp_path / "e"}))
                assert machine.left() == []
    assert reply["inputs"] == "3 texts, one at a time"
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "d").read_bytes() == (tmp_path / "e").read_bytes()
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
    source = Path(build.__file__).parent / "source" / "runtime.hpp"
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
