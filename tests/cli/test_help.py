"""Help, and commands that need no recipe."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.recipe.json_schema import recipe_schema
from tests.support.commands import answered, for_a_person, run_edgeq

COMMANDS = ("plan", "build", "check", "bundle", "run", "devices", "schema", "compare", "audit")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command: str, tmp_path: Path) -> None:
    shown = for_a_person(run_edgeq(command, "--help", store=tmp_path, cwd=tmp_path))
    assert re.search(rf"Examples?:\s+edgeq {command}", shown)


def test_the_command_lists_its_verbs_and_exit_statuses(tmp_path: Path) -> None:
    shown = for_a_person(run_edgeq("--help", store=tmp_path, cwd=tmp_path))
    assert all(re.search(rf"\b{command}\b", shown) for command in COMMANDS)
    assert "Exit status" in shown


def test_the_installed_entry_point_answers(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("edgeq")
    if not command.exists():
        pytest.skip("edgeq is not installed beside this Python")
    done = subprocess.run([command, "devices"], capture_output=True, text=True, check=False)
    assert "here" in for_a_person(done)


def test_devices(tmp_path: Path) -> None:
    listed = answered(run_edgeq("devices", "--json", store=tmp_path, cwd=tmp_path))["devices"]
    assert listed[0]["id"] == "here"
    assert {"pi4-4gb", "pi5-8gb", "macbook-air-m2"} <= {device["id"] for device in listed}
    shown = for_a_person(run_edgeq("devices", store=tmp_path, cwd=tmp_path))
    assert "pi5-8gb" in shown
    one = for_a_person(run_edgeq("devices", "pi5-8gb", store=tmp_path, cwd=tmp_path))
    assert "BCM2712" in one
    assert "https://" in one
    assert not list(tmp_path.iterdir())


def test_the_schema_is_the_recipes(tmp_path: Path) -> None:
    assert answered(run_edgeq("schema", store=tmp_path, cwd=tmp_path)) == recipe_schema()
