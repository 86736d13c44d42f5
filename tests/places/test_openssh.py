"""The same against OpenSSH's own server, where there is one."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

pytest.importorskip("asyncssh", reason="the extra 'ssh' is not installed")

import asyncssh

from edgeq.devices.address import Address, parse_address
from edgeq.places.place import Unreachable
from edgeq.places.process import Request
from edgeq.places.ssh import SshPlace
from tests.support import samples
from tests.support.remote_machine import Started, wait_for

SSHD = shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))


class Server(NamedTuple):
    """Where it is reached, the directory that is all it may write to, and its process."""

    address: Address
    room: Path
    process: subprocess.Popen[bytes]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """OpenSSH's server, which lets this user in."""
    if SSHD is None:
        pytest.skip("OpenSSH's server, sshd, is not installed")
    ssh, room = tmp_path / ".ssh", tmp_path / "room"
    ssh.mkdir(mode=0o700)
    room.mkdir()
    for name in ("host_key", "id_ed25519"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(ssh / name)
        (ssh / name).chmod(0o600)
        key.write_public_key(ssh / f"{name}.pub")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    public = (ssh / "host_key.pub").read_text()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    options = {
        "HostKey": ssh / "host_key",
        "AuthorizedKeysFile": ssh / "id_ed25519.pub",
        "ListenAddress": f"127.0.0.1:{port}",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "PidFile": "none",
    }
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    log = (tmp_path / "log").open("wb")
    command = [SSHD, "-D", "-e", "-f", "/dev/null", *settings]
    with subprocess.Popen(command, stderr=log) as process:
        query = f"?python={sys.executable}&directory={room}"
        try:
            told = tmp_path / "log"
            wait_for(lambda: process.poll() is not None or b"listening on" in told.read_bytes())
            if process.poll() is not None:  # e.g. where root has no user and directory for it
                pytest.skip(f"sshd does not start: {told.read_text().strip()}")
            text = f"ssh://{getpass.getuser()}@127.0.0.1:{port}{query}"
            yield Server(parse_address(text), room, process)
        finally:
            process.terminate()
            log.close()


def test_a_pass_through_openssh_leaves_nothing(server: Server, tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=16)
    with SshPlace(server.address) as place:
        assert place.run(Request(work="latency", artifact=artifact))["runs"] == 128
        assert list(server.room.iterdir())
    assert server.room.is_dir() and not list(server.room.iterdir())


def test_a_session_that_ends_takes_its_worker_along(server: Server, tmp_path: Path) -> None:
    artifact = samples.tensor_artifact(tmp_path / "artifact", width=16)
    request = Request(work="latency", artifact=artifact, effort="full")
    with SshPlace(server.address, linger_seconds=0.5) as place:
        running = Started(lambda: place.run(request))
        wait_for(lambda: list(server.room.glob("*/*/runs/*")))
        (agent,) = (psutil.Process(int(p.read_text())) for p in server.room.glob("*/*.lock"))
        (worker,) = wait_for(agent.children)
        session = agent.parent()  # sshd's, which holds the connection
        assert session is not None
        server.process.terminate()
        server.process.wait()
        session.kill()
        with pytest.raises(Unreachable, match="was cut; tried once more"):
            running.result()
    wait_for(lambda: not worker.is_running() and not list(server.room.iterdir()))
