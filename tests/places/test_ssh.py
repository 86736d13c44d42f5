"""Passes on a machine reached over a real SSH server, and what is left there: nothing."""

from __future__ import annotations

import os
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput, Missing
from edgeq.devices import detect
from edgeq.devices.catalogue import matches
from edgeq.devices.profile import Device
from edgeq.measure.arrays import write_arrays
from edgeq.places.place import Unreachable
from edgeq.places.process import Request, run_worker
from edgeq.places.transports import place_for
from edgeq.recipe.budgets import Workload
from tests.support import samples
from tests.support.remote_machine import Machine, serving

TEXTS = ("a cat sat", "the dog sat on the red mat", "birds")


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.sentence_artifact(tmp_path_factory.mktemp("sentence") / "artifact")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with serving(tmp_path, monkeypatch) as machine:
        yield machine


@pytest.mark.parametrize("work", ["memory", "latency"])
def test_a_pass_there_replies_as_one_here(machine: Machine, sentence: Path, work: str) -> None:
    request = Request(work=work, artifact=sentence, text="a cat sat", threads=1)
    with machine.place() as place:
        there = place.run(request)
    local = run_worker(request)
    assert there.keys() == local.keys()
    fixed = ("runs", "inputs", "runtime", "instructions", "threads", "prepared", "warnings")
    assert [there[word] for word in fixed] == [local[word] for word in fixed]
    if work == "latency":
        assert len(there["seconds"]) == len(local["seconds"]) and min(there["seconds"]) > 0


def test_answers_there_are_the_bits_of_those_here(
    machine: Machine, sentence: Path, tmp_path: Path
) -> None:
    request = Request(work="quality", artifact=sentence, texts=TEXTS, outputs=tmp_path / "here")
    run_worker(request)
    with machine.place() as place:
        reply = place.run(request.model_copy(update={"outputs": tmp_path / "there"}))
    assert reply["inputs"] == "3 texts, one at a time"
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()
    assert not list(tmp_path.glob("*.part"))


def test_files_beside_the_artifact_travel_too(machine: Machine, tmp_path: Path) -> None:
    tensor = samples.tensor_artifact(tmp_path / "tensor", width=16)
    feeds = samples.tensor_feeds(batch=4, width=16)
    np.savez(tmp_path / "data.npz", **feeds)
    write_arrays(tmp_path / "feed", [array[:1] for array in feeds.values()])
    with machine.place() as place:
        timed = place.run(Request(work="latency", artifact=tensor, feed=tmp_path / "feed"))
        answered = Request(work="quality", artifact=tensor, arrays=tmp_path / "data.npz", samples=2)
        reply = place.run(answered.model_copy(update={"outputs": tmp_path / "there"}))
    assert timed["inputs"] == "first sample of the data: features 1×16, kind 1"
    assert reply["inputs"] == "2 evaluation samples"
    run_worker(answered.model_copy(update={"outputs": tmp_path / "here"}))
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


def test_a_language_model_is_compared_there_as_here(machine: Machine, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra 'gguf' is not installed")
    pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")
    from tests.support.gguf_artifacts import WREN, gguf_artifact

    corpus = next((WREN.parent / "data").glob("wren-evaluation*"))
    request = Request(
        work="quality",
        artifact=gguf_artifact(WREN, tmp_path / "small", "Q4_0"),
        reference=gguf_artifact(WREN, tmp_path / "float", "F16"),
        corpus=corpus,
        samples=2,
        threads=1,
        workload=Workload(context=128, prompt=64, generate=8),
    )
    with machine.place() as place:
        assert place.run(request) == run_worker(request)


def test_only_what_is_missing_is_copied(machine: Machine, sentence: Path, tmp_path: Path) -> None:
    def size(path: Path) -> int:
        return sum(file.stat().st_size for file in path.rglob("*"))

    other = samples.sentence_artifact(tmp_path / "other", seed=1)
    same = {
        path.name
        for path in other.iterdir()
        if path.read_bytes() == (sentence / path.name).read_bytes()
    }
    assert same
    with machine.place() as place:
        place.surroundings()
        source = place.copied_bytes
        assert 0 < source < 2**20
        place.run(Request(work="memory", artifact=sentence))
        assert place.copied_bytes - source == size(sentence)
        place.run(Request(work="latency", artifact=sentence))
        assert place.copied_bytes - source == size(sentence)
        place.run(Request(work="memory", artifact=other))
        new = size(other) - sum((other / name).stat().st_size for name in same)
        assert place.copied_bytes - source == size(sentence) + new
    assert machine.server.connections == 1


def test_nothing_is_left_there(machine: Machine, sentence: Path) -> None:
    (machine.home / "own").write_text("theirs")
    with machine.place() as place:
        place.run(Request(work="latency", artifact=sentence))
        assert any(path.startswith(".cache/edgeq/reach/") for path in machine.left())
    assert machine.left() == ["own"]
    place.close()


def test_a_directory_can_be_named(machine: Machine, sentence: Path, tmp_path: Path) -> None:
    other = tmp_path / "another disk"
    other.mkdir()
    with machine.place(f"?directory={other}") as place:
        place.run(Request(work="memory", artifact=sentence))
        assert [path.name for path in other.iterdir()] == ["edgeq-reach"]
        assert not list(machine.home.iterdir())
    assert other.is_dir() and not list(other.iterdir())


def test_its_facts_are_read_there(machine: Machine) -> None:
    with machine.place() as place:
        found, local = place.device(), detect.detect()
        assert matches(found, local)
        assert found.id == f"ssh-someone-127-0-0-1-{machine.server.port}"
        assert found.reach == found.name == place.name
        assert Device.model_validate_json(found.model_dump_json()) == found
        system, busy, warnings = place.surroundings()
        assert system.split()[0] == os.uname().sysname
        assert busy is not None and busy >= 0
        assert warnings == ()


def test_what_is_wrong_with_a_request_names_the_file_here(machine: Machine, tmp_path: Path) -> None:
    changed = samples.sentence_artifact(tmp_path / "changed")
    with (changed / MODEL_FILE).open("ab") as file:
        file.write(b"x")
    with machine.place() as place, pytest.raises(InvalidInput) as raised:
        place.run(Request(work="memory", artifact=changed))
    (problem,) = raised.value.problems
    assert problem.where == f"{place.name}: {changed / MODEL_FILE}"
    assert "were recorded" in problem.what
    assert machine.left() == []


def test_a_python_without_the_packages_is_told_what_to_type(
    machine: Machine, sentence: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    bare = tmp_path / "bare" / "bin" / "python"
    with machine.place(f"?python={bare}") as place, pytest.raises(Missing) as raised:
        place.run(Request(work="memory", artifact=sentence))
    (problem,) = raised.value.problems
    assert problem.where == place.name
    assert str(bare) in problem.what and "onnxruntime>=1.23" in problem.what
    assert f"run there: {bare} -m pip install" in problem.remedy
    assert "'numpy>=1.26,<2.4'" in problem.remedy
    assert machine.left() == []


_OLD = '#!/bin/sh\nprintf "edgeq-python 3.8.10 /usr/bin/python3\\n"\ncat >/dev/null\n'


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("", "neither python3 nor python is on its PATH"),
        (_OLD, "its Python is 3.8.10 (/usr/bin/python3)"),
        ("#!/bin/sh\necho broken >&2\nexit 1\n", "no Python was started: broken"),
    ],
    ids=["none", "old", "broken"],
)
def test_a_machine_without_python_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat"):
        (tools / name).symlink_to(f"/bin/{name}")
    if script:
        (tools / "python").write_text(script)
        (tools / "python").chmod(0o755)
    with serving(tmp_path, monkeypatch, path=str(tools)) as machine:
        with machine.place() as place, pytest.raises(Missing, match=r"3\.10 or later") as raised:
            place.device()
        (problem,) = raised.value.problems
        assert said in problem.what
        assert f"{place.name}?library=/path/here" in problem.remedy


def test_a_login_that_talks_first_is_heard_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    script = (
        f'#!/bin/sh\nprintf "Welcome!\\nedgeq-python is new\\n> "\nexec {sys.executable} "$@"\n'
    )
    (tools / "python3").write_text(script)
    (tools / "python3").chmod(0o755)
    path = os.pathsep.join([str(tools), os.environ["PATH"]])
    with serving(tmp_path, monkeypatch, path=path) as machine, machine.place() as place:
        assert place.device().arch == detect.detect().arch


def test_who_cannot_be_reached_is_told_why(machine: Machine, tmp_path: Path) -> None:
    known = tmp_path / "user" / ".ssh" / "known_hosts"
    lines = known.read_text()
    url = f"ssh://someone@127.0.0.1:{machine.server.port}"
    login = f"-p {machine.server.port} someone@127.0.0.1"

    def problem(reach: str) -> tuple[str, str]:
        with place_for(reach) as place, pytest.raises(Unreachable) as raised:
            place.device()
        (found,) = raised.value.problems
        assert found.where == place.name
        return found.what, found.remedy

    known.write_text("")
    what, remedy = problem(url)
    assert "host key" in what and remedy.endswith(f"ssh {login}")
    known.write_text(lines)
    key = tmp_path / "user" / ".ssh" / "id_ed25519"
    key.rename(key.with_suffix(".away"))
    what, remedy = problem(url)
    assert what == "it accepts none of your SSH keys"
    assert f"ssh-copy-id {login}; " in remedy
    key.with_suffix(".away").rename(key)
    assert "cannot be resolved" in problem("ssh://no-such-host.invalid")[0]
    machine.server.refuse()
    assert "refuses the connection" in problem(url)[0]
    assert machine.left() == []


def test_the_settings_of_the_user_count(machine: Machine, tmp_path: Path) -> None:
    config = tmp_path / "user" / ".ssh" / "config"
    config.write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {machine.server.port}\n  User me\n"
    )
    with place_for("ssh://board") as place:
        assert place.device().id == "ssh-board"
