"""What is asked of `adb`, with a script in its place that runs commands on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgeq.core.errors import Missing
from edgeq.devices import detect
from edgeq.places.place import Unreachable
from edgeq.places.process import Request, run_worker
from edgeq.places.transports import place_for
from tests.support import samples

_ADB = """#!/bin/sh
echo "$1 $2 $3 $4" | head -n 1 >> "$ADB_LOG"
if [ "$1" = -s ]; then shift 2; fi
case "$1" in
    get-state) echo "$ADB_SAYS"; [ "$ADB_SAYS" = device ];;
    shell) shift; [ "$1" = -T ] || exit 9; shift; cd "$ADB_HOME"; HOME="$ADB_HOME" exec sh -c "$*";;
    *) exit 9;;
esac
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`adb` on the PATH; the file that its arguments are written to."""
    tools, home = tmp_path / "tools", tmp_path / "phone"
    tools.mkdir()
    home.mkdir()
    (tools / "adb").write_text(_ADB)
    (tools / "adb").chmod(0o755)
    path = [str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    monkeypatch.setenv("ADB_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("ADB_HOME", str(home))
    monkeypatch.setenv("ADB_SAYS", "device")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path / "log"


def test_a_pass_goes_through_one_shell_and_leaves_nothing(log: Path, tmp_path: Path) -> None:
    artifact = samples.sentence_artifact(tmp_path / "artifact")
    request = Request(work="quality", artifact=artifact, texts=("a cat",), outputs=tmp_path / "a")
    with place_for("adb:R58M") as place:
        assert place.name == "adb:R58M"
        assert place.run(request)["inputs"] == "1 texts, one at a time"
        found = place.device()
    assert (found.id, found.chip) == ("adb-r58m", detect.detect().chip)
    assert log.read_text().splitlines() == ["-s R58M get-state ", "-s R58M shell -T"]
    assert not list((tmp_path / "phone").iterdir())
    run_worker(request.model_copy(update={"outputs": tmp_path / "b"}))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_without_a_serial_adb_chooses(log: Path) -> None:
    with place_for(f"adb?python={sys.executable}") as place:
        assert place.surroundings().system
    lines = log.read_text().splitlines()
    assert lines[0].split() == ["get-state"]
    assert lines[1].startswith(f"shell -T exec {sys.executable} -c")


@pytest.mark.parametrize(
    ("says", "remedy"),
    [
        ("error: device unauthorized.", "allow USB debugging"),
        ("error: no devices/emulators found", "plug it in"),
        ("error: more than one device/emulator", "adb:SERIAL"),
    ],
)
def test_a_device_that_is_not_there(
    log: Path, monkeypatch: pytest.MonkeyPatch, says: str, remedy: str
) -> None:
    monkeypatch.setenv("ADB_SAYS", says)
    with place_for("adb") as place, pytest.raises(Unreachable) as raised:
        place.device()
    (problem,) = raised.value.problems
    assert says in problem.what and remedy in problem.remedy
    assert "shell" not in log.read_text()


def test_adb_itself_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with place_for("adb") as place, pytest.raises(Missing, match="apt-get install adb"):
        place.device()
