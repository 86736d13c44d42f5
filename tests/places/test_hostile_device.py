"""A device may send anything over a real connection: it gets an error of ours, soon and small."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("asyncssh", reason="the extra 'ssh' is not installed")

from edgeq.core.errors import Missing
from edgeq.devices.address import parse_address
from edgeq.places import file_transfer, link
from edgeq.places.agent_wire import pack
from edgeq.places.place import Unreachable
from edgeq.places.process import PassFailed, Request
from edgeq.places.ssh import SshPlace
from tests.support import samples
from tests.support.hostile_device import (
    GREETING,
    VERSIONS,
    HostileDevice,
    Reply,
    answers,
    forever,
    nothing,
    once,
    raw,
)

MIB = 1 << 20
SECONDS = 15.0
NESTED = b"[" * 200_000
REFUSED = (Missing, Unreachable, PassFailed)


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.tensor_artifact(tmp_path_factory.mktemp("tensor") / "artifact", width=16)


@pytest.fixture(scope="module")
def server(user: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileDevice]:
    server = HostileDevice(tmp_path_factory.mktemp("home"), user)
    yield server
    server.stop()


@pytest.fixture
def device(
    server: HostileDevice, user: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[HostileDevice]:
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(link, "PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr(file_transfer, "PATIENCE_SECONDS", 2.0)
    server.be_honest()
    yield server
    server.cut()


def refused(server: HostileDevice, artifact: Path, outputs: Path | None = None) -> str:
    """What a pass on the device ends with: soon, and without much memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    address = parse_address(f"ssh://someone@127.0.0.1:{server.port}")
    with SshPlace(address, silence_seconds=1.0) as place, pytest.raises(REFUSED) as error:
        if outputs is None:
            place.device()
            place.surroundings()
        place.run(Request(work="quality", artifact=artifact, outputs=outputs))
        raise PassFailed("it was believed")
    assert time.monotonic() - begun < SECONDS
    if sys.platform == "linux":
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
    assert "it was believed" not in str(error.value)
    return str(error.value)


def greeted(**changes: object) -> Reply:
    return answers(**{**GREETING, **changes})


@pytest.mark.parametrize(
    "reply",
    [
        forever(b"x" * 4096),
        forever(b"x" * 4096 + b"\n"),
        once(b"edgeq-python 3.11.2 /usr/bin/python3\n" + b"\xff" * 8),
        once(b"edgeq-python 99999999999999999999.1.1 \n" * 3),
        nothing,
    ],
)
def test_a_login_that_talks(device: HostileDevice, artifact: Path, reply: Reply) -> None:
    device.login = reply
    refused(device, artifact)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (once(b"\xff\xff\xff\xff"), "of a size"),
        (forever(b"\x00\x1f\xff\xff" + b" " * (1 << 18)), ""),
        (once(raw(b'{"op": "x", "size": 1099511627776}')), "of a size"),
        (once(raw(b'{"op": "x", "size": -1}')), "of a size"),
        (once(raw(b'{"op": "x", "size": true}')), "of a size"),
        (once(raw(b'{"op": "x", "size": "1"}')), "of a size"),
        (once(raw(b'{"op": "x"}')), "of a size"),
        (once(raw(NESTED)), "not a message"),
        (once(raw(b"[]")), "not a message"),
        (once(raw(b"\xff\xfe")), "not a message"),
        (once(raw(b'{"size": 1' + b"0" * 5000 + b"}")), ""),
        (forever(pack({"op": "beat"})), "talked without end"),
        (forever(pack({"op": "beat"}, b"x" * MIB)), "of a size"),
        (forever(pack(dict(GREETING))), ""),
        (answers(), "answers as no agent"),
        (answers(error={"text": 1, "full": False, "free": None}), "answers as no agent"),
        (answers(error={"text": "no", "full": False, "free": None}), "no"),
        (greeted(packages=[]), "answers as no agent"),
        (greeted(packages={}), "lacks"),
        (greeted(packages={**VERSIONS, "numpy": "\n\x1b]0;x\x07"}), "lacks"),
        (greeted(python=3), "answers as no agent"),
        (greeted(more=1), "answers as no agent"),
    ],
)
def test_a_greeting(device: HostileDevice, artifact: Path, reply: Reply, words: str) -> None:
    device.replies["hello"] = reply
    assert words in refused(device, artifact)


@pytest.mark.parametrize(
    ("operation", "reply"),
    [
        ("have", answers(have={}, free=-1)),
        ("have", answers(have=[], free=1)),
        ("have", answers(have={"x": 1}, free=0)),
        ("have", answers(free=1)),
        ("put", answers(ok="yes")),
        ("unpack", forever(pack({"ok": True}))),
        ("load", answers(load_average="nan")),
        ("load", once(raw(b'{"load_average": NaN, "size": 0}'))),
        ("lay", answers(path=1)),
        ("lay", answers(ok=True)),
        ("run", answers(status=0, output=1, errors="")),
        ("run", answers(status=10**30, output="", errors="")),
        ("run", answers(status=-63, output="", errors="")),
        ("run", answers(status=0, output="", errors="")),
        ("run", answers(status=0, output="[]", errors="")),
        ("run", answers(status=0, output='{"chip": NaN}', errors="")),
        ("run", answers(status=0, output="{}", errors="")),
        ("run", answers(status=2, output='[{"where": 1}]', errors="")),
        ("run", answers(status=3, output="[" * 100_000, errors="")),
        ("run", answers(status=1, output="", errors="\x1b[2J" * 100_000)),
        ("run", forever(pack({"op": "beat"}))),
    ],
)
def test_an_answer(device: HostileDevice, artifact: Path, operation: str, reply: Reply) -> None:
    device.replies[operation] = reply
    refused(device, artifact)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (forever(pack({"op": "piece"}, b"x" * (1 << 18))), "is larger than 2.0 MiB"),
        (forever(pack({"op": "piece"})), "was too slow"),
        (once(pack({"op": "piece"}, b"x"), pack({"sha256": "0"})), "damaged in transfer"),
        (answers(ok=True), "answers as no agent"),
    ],
)
def test_a_file_without_end(
    device: HostileDevice,
    artifact: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reply: Reply,
    words: str,
) -> None:
    monkeypatch.setattr(file_transfer, "_LARGEST_FILE", 2 * MIB)
    monkeypatch.setattr(file_transfer, "PATIENCE_SECONDS", 1.0)
    device.replies["get"] = reply
    assert words in refused(device, artifact, tmp_path / "outputs")
    assert list(tmp_path.iterdir()) == []


def test_words_without_end_on_standard_error(device: HostileDevice, artifact: Path) -> None:
    device.login, device.errors = nothing, forever(b"no " * 1000)
    refused(device, artifact)
