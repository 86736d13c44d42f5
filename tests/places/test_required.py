"""`EDGEQ_REQUIRE`: what is missing is a failure, for the command, for tests and for nox."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.core.errors import InvalidInput, Missing
from edgeq.places.emulated.required import STAND_INS, require_stand_ins, required


def test_words_are_known_or_refused_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEQ_REQUIRE", raising=False)
    assert required() == frozenset()
    monkeypatch.setenv("EDGEQ_REQUIRE", "arm64, cgroup,")
    assert required() == {"arm64", "cgroup"}
    monkeypatch.setenv("EDGEQ_REQUIRE", "arm46,ssh,vgroup")
    with pytest.raises(InvalidInput) as refused:
        require_stand_ins()
    assert [problem.what.split("'")[1] for problem in refused.value.problems] == ["arm46", "vgroup"]
    for word in STAND_INS:
        assert word in refused.value.problems[0].remedy


def test_each_that_is_missing_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {word: find() for word, find in STAND_INS.items()}
    for word, reason in reasons.items():
        monkeypatch.setenv("EDGEQ_REQUIRE", word)
        if reason is None:
            require_stand_ins()
        else:
            with pytest.raises(Missing) as missing:
                require_stand_ins()
            assert missing.value.problems[0].what == reason
            assert missing.value.exit_code == 3


@pytest.fixture
def nothing_here(tmp_path: Path) -> dict[str, str]:
    """An environment in which neither adb nor an Arm system is."""
    return {
        **os.environ,
        "PATH": str(tmp_path),
        "EDGEQ_CACHE": str(tmp_path),
        "EDGEQ_REQUIRE": "adb",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


@pytest.mark.parametrize(
    "command",
    [
        ["edgeq", "emulate"],
        ["edgeq", "matrix", "recipes/wren.yaml"],
        ["pytest", "tests/test_units.py"],
    ],
    ids=lambda command: command[0] + command[1][:5],
)
def test_a_missing_one_ends_the_command_with_3(
    command: list[str], nothing_here: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        env=nothing_here,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 3
    assert "EDGEQ_REQUIRE: adb: adb, of Android's platform tools, is not on PATH" in (
        done.stdout + done.stderr
    )
