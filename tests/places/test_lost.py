"""What breaks while a pass runs on another machine: retried or an honest error, never a hang."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("asyncssh", reason="the extra 'ssh' is not installed")

from edgeq.core.errors import InvalidInput, Missing
from edgeq.devices.address import parse_address
from edgeq.places import ssh
from edgeq.places.place import Unreachable
from edgeq.places.process import PassFailed, Request
from edgeq.places.ssh import SshPlace
from tests.support import samples
from tests.support.remote_machine import Machine, Started, serving, wait_for

MIB = 1 << 20
WIDTH = 16


@pytest.fixture(scope="module")
def tensor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So small that no copy is prepared for the CPU, which takes longer than the pass."""
    return samples.tensor_artifact(tmp_path_factory.mktemp("tensor") / "artifact", width=WIDTH)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with serving(tmp_path, monkeypatch) as machine:
        yield machine


def quick(artifact: Path) -> Request:
    return Request(work="latency", artifact=artifact)


def endless(artifact: Path) -> Request:
    """A pass of a minute, which no test waits for."""
    return Request(work="latency", artifact=artifact, effort="full")


def much(artifact: Path, folder: Path, mebibytes: int) -> Request:
    """A pass on the first two of many samples, all of which must be copied."""
    count = mebibytes * MIB // (4 * WIDTH)
    features = np.random.default_rng(0).standard_normal((count, WIDTH)).astype(np.float32)
    np.savez(folder / "much.npz", features=features, kind=np.zeros(count, np.int64))
    outputs = folder / "outputs"
    arrays = folder / "much.npz"
    return Request(work="quality", artifact=artifact, arrays=arrays, samples=2, outputs=outputs)


def test_a_cut_connection_is_set_up_again(machine: Machine, tensor: Path) -> None:
    with machine.place() as place:
        place.surroundings()
        running = Started(lambda: place.run(quick(tensor)))
        first = wait_for(machine.workers)
        copied = place.copied_bytes
        machine.server.cut()
        assert running.result()["runs"] == 128
        assert machine.server.connections == 2
        assert place.copied_bytes == copied  # what was there was not copied again
        assert not any(process.is_running() for process in first)
    assert machine.left() == []


def test_a_machine_that_stays_away_is_unreachable(machine: Machine, tensor: Path) -> None:
    with machine.place() as place:
        running = Started(lambda: place.run(endless(tensor)))
        wait_for(machine.workers)
        machine.server.refuse()
        machine.server.cut()
        with pytest.raises(Unreachable) as raised:
            running.result()
    (problem,) = raised.value.problems
    assert problem.where == place.name
    assert "was cut; tried once more" in problem.what
    assert "refuses the connection" in problem.what
    # Nobody comes back to tidy up: the other side does so by itself.
    wait_for(lambda: machine.left() == [])


class Proxy:
    """Forwards one connection to `port` until `silence`; then says nothing and takes no other."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._target = port
        self._quiet = threading.Event()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        self._quiet.set()
        self._listener.close()

    def close(self) -> None:
        for end in self._sockets:
            end.close()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        far = socket.create_connection(("127.0.0.1", self._target))
        self._sockets += [near, far]
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if not self._quiet.is_set():
                    sink.sendall(piece)


def test_silence_ends_both_sides(machine: Machine, tensor: Path, tmp_path: Path) -> None:
    proxy = Proxy(machine.server.port)
    known = tmp_path / "user" / ".ssh" / "known_hosts"
    known.write_text(known.read_text().replace(str(machine.server.port), str(proxy.port)))
    address = parse_address(f"ssh://someone@127.0.0.1:{proxy.port}")
    with SshPlace(address, silence_seconds=3.0, linger_seconds=0.5) as place:
        running = Started(lambda: place.run(endless(tensor)))
        wait_for(machine.workers)
        proxy.silence()
        with pytest.raises(Unreachable, match=r"was silent for 3 s; tried once more"):
            running.result()
        wait_for(lambda: machine.left() == [])  # with the connection still open
    proxy.close()


def size_of(request: Request) -> int:
    """Bytes of all that must be copied for it."""
    assert request.arrays is not None
    files = [*request.artifact.iterdir(), request.arrays]
    return sum(file.stat().st_size for file in files)


def test_a_port_that_never_answers_is_given_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as dumb:
        address = parse_address(f"ssh://someone@127.0.0.1:{dumb.getsockname()[1]}")
        with SshPlace(address) as place, pytest.raises(Unreachable, match=r"no answer within 0\.5"):
            place.device()


def test_a_cut_copy_goes_on_where_it_was(machine: Machine, tensor: Path, tmp_path: Path) -> None:
    request = much(tensor, tmp_path, 8)
    size = size_of(request)
    with machine.place() as place:
        place.surroundings()
        before = place.copied_bytes

        def cut_once(_: str) -> None:
            if machine.server.connections == 1 and place.copied_bytes - before > size / 2:
                machine.server.cut()

        machine.on_progress = cut_once
        place.run(request)
        assert machine.server.connections == 2
        # The last pieces before the cut may have been on their way.
        assert size <= place.copied_bytes - before <= size + MIB
    assert machine.left() == []


def test_a_part_that_was_damaged_meanwhile_is_copied_anew(
    machine: Machine, tensor: Path, tmp_path: Path
) -> None:
    request = much(tensor, tmp_path, 8)

    def damage(_: str) -> None:
        for part in machine.home.rglob("*.part"):
            if part.stat().st_size > MIB and machine.server.connections == 1:
                machine.server.cut()
                with part.open("r+b") as file:
                    file.write(b"other bytes")

    machine.on_progress = damage
    with machine.place() as place:
        place.surroundings()
        before = place.copied_bytes
        assert place.run(request)["inputs"] == "2 evaluation samples"
        assert place.copied_bytes - before > size_of(request) + MIB


def test_a_file_that_changes_while_it_is_copied_is_named(
    machine: Machine, tensor: Path, tmp_path: Path
) -> None:
    request = much(tensor, tmp_path, 1)
    assert request.arrays is not None
    arrays = request.arrays

    def change(message: str) -> None:
        if f"copying {arrays.name}" in message:
            with arrays.open("r+b") as file:
                file.write(b"other bytes")

    machine.on_progress = change
    with machine.place() as place, pytest.raises(InvalidInput, match="changed while") as raised:
        place.run(request)
    assert raised.value.problems[0].where == str(arrays)


def test_a_killed_worker_names_its_signal(machine: Machine, tensor: Path) -> None:
    with machine.place() as place:
        running = Started(lambda: place.run(endless(tensor)))
        for worker in wait_for(machine.workers):
            worker.kill()
        with pytest.raises(PassFailed, match="latency pass was killed by SIGKILL"):
            running.result()
        # The next pass is not harmed by it.
        assert place.run(quick(tensor))["runs"] == 128
        assert machine.server.connections == 1


def test_a_pass_that_takes_too_long_is_stopped(machine: Machine, tensor: Path) -> None:
    with machine.place() as place:
        with pytest.raises(PassFailed, match=r"did not finish within 2\.5 s and was stopped"):
            place.run(endless(tensor), timeout_seconds=2.5)
        assert not machine.workers()
        assert place.surroundings().system


def test_a_killed_agent_is_started_again(machine: Machine, tensor: Path) -> None:
    with machine.place() as place:
        running = Started(lambda: place.run(quick(tensor)))
        (worker,) = wait_for(machine.workers)
        for agent in machine.agents():
            agent.kill()
        if sys.platform == "linux":
            wait_for(lambda: not worker.is_running() or worker.status() == "zombie")
        assert running.result()["runs"] == 128
    assert machine.left() == []


def test_what_a_dead_session_left_goes_with_the_next(machine: Machine, tensor: Path) -> None:
    dead = machine.place()
    running = Started(lambda: dead.run(endless(tensor)))
    wait_for(machine.workers)
    machine.server.refuse()
    for agent in machine.agents():
        agent.kill()
    with pytest.raises(Unreachable, match="killed by SIGKILL"):
        running.result()
    dead.close()
    assert machine.left()
    again = Machine(machine.home.parent)
    try:
        with again.place() as place:
            place.surroundings()
        assert again.left() == []
    finally:
        again.server.stop()


def test_two_sessions_at_once_leave_each_other_alone(machine: Machine, tensor: Path) -> None:
    with machine.place() as one, machine.place() as other:
        running = Started(lambda: one.run(quick(tensor)))
        wait_for(machine.workers)
        other.surroundings()
        other.close()
        assert running.result()["runs"] == 128
    assert machine.left() == []


def test_interrupted_it_ends_what_it_started(
    machine: Machine, tensor: Path, tmp_path: Path
) -> None:
    program = (
        "import signal, sys; from pathlib import Path;"
        "from edgeq.places.process import Request; from edgeq.places.transports import place_for\n"
        # Started in the background, tests inherit that the signal is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "request = Request(work='latency', artifact=Path(sys.argv[2]), effort='full')\n"
        "with place_for(sys.argv[1]) as place: place.run(request)"
    )
    reach = f"ssh://someone@127.0.0.1:{machine.server.port}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", program, reach, str(tensor)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as client:
        wait_for(machine.workers)
        client.send_signal(signal.SIGINT)
        assert client.wait(20) != 0
    wait_for(lambda: machine.left() == [])


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine whose home is a file system of 8 MiB."""
    home = tmp_path / "disk"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "edgeq-test", str(home)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small file system can only be mounted by root on Linux")
    try:
        with serving(tmp_path, monkeypatch, home=home) as machine:
            yield machine
    finally:
        subprocess.run(["umount", "--lazy", str(home)], check=True)


def test_a_disk_that_is_too_small_is_told_before_copying(
    small_disk: Machine, tensor: Path, tmp_path: Path
) -> None:
    with small_disk.place() as place, pytest.raises(Missing) as raised:
        place.surroundings()
        before = place.copied_bytes
        place.run(much(tensor, tmp_path, 8))
    assert place.copied_bytes == before
    (problem,) = raised.value.problems
    assert problem.where == place.name
    assert "no room on its disk; 9.0 MiB more are needed, " in problem.what
    assert problem.what.endswith("MiB are free")
    assert f"{place.name}?directory=/path/there" in problem.remedy
    assert small_disk.left() == []


def test_a_disk_that_fills_up_while_copying(
    small_disk: Machine, tensor: Path, tmp_path: Path
) -> None:
    def fill(message: str) -> None:
        if "copying much.npz" in message and not (small_disk.home / "filler").exists():
            with contextlib.suppress(OSError), (small_disk.home / "filler").open("wb") as file:
                file.write(bytes(8 * MIB))

    small_disk.on_progress = fill
    with small_disk.place() as place, pytest.raises(Missing) as raised:
        place.run(much(tensor, tmp_path, 2))
    (problem,) = raised.value.problems
    assert "no room on its disk: [Errno 28]" in problem.what
    assert "MiB more are needed" in problem.what
    assert small_disk.left() == ["filler"]


def test_a_disk_that_fills_up_with_outputs(
    small_disk: Machine, tensor: Path, tmp_path: Path
) -> None:
    request = much(tensor, tmp_path, 2).model_copy(update={"samples": None})
    with small_disk.place() as place:
        with pytest.raises(PassFailed, match="No space left on device"):
            place.run(request)
        assert not list(tmp_path.glob("outputs*"))
        # The room of the failed pass was given back.
        assert place.run(quick(tensor))["runs"] == 128
    assert small_disk.left() == []
