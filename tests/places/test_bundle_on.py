"""A bundle whose verdict another machine gave, reached over a real SSH server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")
pytest.importorskip("asyncssh", reason="the extra [ssh] is not installed")

from edgeq.formats.bundle import read_bundle, read_verdicts
from tests.support import onnx_models, tiny_bert
from tests.support.commands import Done, answered, refused, run_edgeq
from tests.support.remote_machine import Machine, serving

RECIPE = """\
edgeq: 1
name: net
model: {source: net.onnx, task: tensor}
data: {evaluation: {path: evaluation.npz}}
quantize: {default: float32}
targets: [{format: onnx, devices: [pi5-8gb]}]
budgets: {quality: {error: 0.1}}
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with serving(tmp_path, monkeypatch) as machine:
        yield machine


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    onnx_models.convolutional(tmp_path / "net.onnx")
    images = np.random.default_rng(0).standard_normal((24, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "evaluation.npz", image=images)
    return tiny_bert.write_recipe(tmp_path / "recipe.yaml", RECIPE)


def bundle(recipe: Path, machine: Machine, out: Path, *more: str) -> Done:
    address = f"ssh://someone@127.0.0.1:{machine.server.port}"
    words: tuple[str | Path, ...] = ("bundle", recipe, "--on", address, "--out", out, *more)
    return run_edgeq(*words, store=recipe.parent / "store", cwd=recipe.parent)


def test_a_bundle_holds_the_verdict_of_the_machine(machine: Machine, recipe: Path) -> None:
    out = recipe.parent / "net.zip"
    assert answered(bundle(recipe, machine, out, "--json"))["checked"]
    (verdict,) = read_verdicts(out, read_bundle(out))
    assert verdict["device_name"] == f"ssh://someone@127.0.0.1:{machine.server.port}"


def test_what_is_measured_nowhere_is_not_measured_there(machine: Machine, recipe: Path) -> None:
    out = recipe.parent / "net.zip"
    assert "leave out one of the two" in refused(
        bundle(recipe, machine, out, "--allow-unchecked"), 2
    )
    assert not out.exists()


def test_a_machine_that_cannot_be_reached_is_named_before_anything_is_built(
    machine: Machine, recipe: Path
) -> None:
    machine.server.refuse()
    out = recipe.parent / "net.zip"
    for more in ((), ("--device", "pi5-8gb")):
        said = refused(bundle(recipe, machine, out, *more), 3)
        assert str(machine.server.port) in said
    assert not [*(recipe.parent / "store").glob("artifact/*")]
