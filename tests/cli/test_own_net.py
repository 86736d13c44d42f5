"""The real command on a net that nobody here made."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import edgeq
from tests.support import onnx_models, samples, tiny_bert
from tests.support.commands import Done, answered, for_a_person, refused, run_edgeq

NET = """\
edgeq: 1
name: net
model: {source: net.onnx, task: tensor}
data:
  calibration: {path: calibration.npz}
  evaluation: {path: evaluation.npz}
quantize: {default: int8-static}
targets: [{format: onnx, devices: [here]}]
budgets: {quality: {error: 0.1, top1: 0.5}}
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a convolutional net, its data and a recipe."""
    folder = tmp_path_factory.mktemp("net")
    onnx_models.convolutional(folder / "net.onnx")
    rng = np.random.default_rng(0)
    for name in ("calibration", "evaluation"):
        images = rng.standard_normal((24, 3, 32, 32)).astype(np.float32)
        np.savez(folder / f"{name}.npz", image=images)
    tiny_bert.write_recipe(folder / "recipe.yaml", NET)
    return folder


def test_a_net_of_ones_own_is_quantized_checked_and_run(net: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"

    def edge(*arguments: str | Path) -> Done:
        return run_edgeq(*arguments, store=store, cwd=net)

    assert "onnx-int8-static" in for_a_person(edge("plan", "recipe.yaml"))
    (built,) = answered(edge("build", "recipe.yaml", "--json"))["artifacts"]
    assert built["number_formats"].keys() == {
        "int8",
        "int8-stored",
    }  # 3 channels are faster in floats
    (verdict,) = answered(edge("check", "recipe.yaml", "--json"))["verdicts"]
    lines = {line["budget"]: line for line in verdict["lines"]}
    assert 0 < lines["quality.error"]["value"] < 0.1
    assert lines["quality.top1"]["status"] == "pass"

    assert answered(edge("bundle", "recipe.yaml", "--out", "net.zip", "--json"))["checked"]
    arguments = ["run", "net.zip", "--inputs", "evaluation.npz", "--out", "answers.npz"]
    shown = for_a_person(edge(*arguments))
    assert "logits: float32 24 × 1 × 10" in shown
    with np.load(net / "answers.npz") as found, np.load(net / "evaluation.npz") as given:
        model = edgeq.load(net / "net.zip")
        for image, logits in zip(given["image"], found["logits"], strict=True):
            np.testing.assert_array_equal(model.run({"image": image[None]})["logits"], logits)
    said = refused(edge("run", "net.zip", "a sentence"), 2)
    assert "not text" in said


def test_evaluation_of_another_shape_is_refused(net: Path, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    shutil.copytree(net, folder)
    np.savez(folder / "evaluation.npz", image=np.zeros((4, 3, 32, 31), np.float32))
    done = run_edgeq("check", "recipe.yaml", store=tmp_path / "store", cwd=folder)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "image" in " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("make", "preset", "operator"),
    [
        (onnx_models.gru, "{weights: int4-b32, method: nearest}", "GRU"),
        (onnx_models.gru, "int8-b32", "GRU"),
    ],
)
def test_what_cannot_be_quantized_is_refused_with_its_operator(
    tmp_path: Path, make: Any, preset: str, operator: str
) -> None:
    make(tmp_path / "net.onnx")
    text = re.sub(r"data:\n.*\n.*\n", "", NET).replace("int8-static", preset)
    text = text.replace("budgets: {quality: {error: 0.1, top1: 0.5}}\n", "")
    tiny_bert.write_recipe(tmp_path / "recipe.yaml", text)
    store = tmp_path / "store"
    said = refused(run_edgeq("build", "recipe.yaml", store=store, cwd=tmp_path), 2)
    assert operator in said
    assert "no quantized kernel" in said
    assert not [path for path in store.glob("artifact/*") if path.is_dir()]


def test_a_bundle_that_was_there_survives_a_failure(tmp_path: Path) -> None:
    """Whatever stops a bundle from being written leaves the old one as it was."""
    out = tmp_path / "old.zip"
    out.write_bytes(b"old")
    samples.tensor_artifact(tmp_path / "artifact", width=16)
    tiny_bert.write_recipe(tmp_path / "recipe.yaml", NET)
    done = run_edgeq("bundle", "recipe.yaml", "--out", out, store=tmp_path / "s", cwd=tmp_path)
    refused(done, 2)
    assert out.read_bytes() == b"old"
