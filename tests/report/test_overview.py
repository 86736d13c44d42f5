"""What a person is shown of a plan with Core ML packages, and of a bundle's limits."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from edgeq.report.console import Console

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.core.errors import InvalidInput
from edgeq.devices.catalogue import load_device
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.bundle.app_store_limits import store_lines
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.quantize.decide import ALREADY
from edgeq.report.overview import print_built, print_limits, print_plan
from tests.support import onnx_models, report_samples, tiny_bert

TARGET = "{format: onnx, devices: [here]}"


def planned(folder: Path, default: str, devices: str, coreml: str = "") -> Planned:
    text = tiny_bert.GOOD.replace(TARGET, f"{{format: coreml, devices: [{devices}]}}")
    start, end = text.index("  default:"), text.index("targets:")
    text = f"{text[:start]}  default: [{default}]\n{coreml}{text[end:]}"
    return make_plan(tiny_bert.write_recipe(folder / "coreml.yaml", text))


def shown(*lines: Planned) -> str:
    out = io.StringIO()
    console = Console(file=out, width=200)
    for each in lines:
        print_plan(each.plan, list(each.devices.values()), console)
    return out.getvalue()


def test_a_core_ml_plan_tells_release_units_and_the_type_of_small_weights(tiny: Path) -> None:
    made = planned(tiny.parent, "float16, int4", "iphone-15-pro, macbook-air-m2")
    half, int4 = made.plan.artifacts
    for artifact in (half, int4):
        told = {line.split(": ")[0] for line in artifact.advice}
        assert told == {"iphone-15-pro", "macbook-air-m2"}
    text = shown(made)
    for artifact in (half, int4):
        assert f"for {artifact.deployment_target} and later" in text
        assert all(line in text for line in artifact.advice)
    rows = [line for line in text.splitlines() if line.startswith("biases, norms")]
    assert [row.split()[6] for row in rows] == ["float16", "float16"]
    assert made.plan.model_dump(mode="json")["artifacts"][1]["advice"] == list(int4.advice)


def test_operators_in_float32_are_said_to_leave_the_neural_engine(tiny: Path) -> None:
    made = planned(tiny.parent, "int8", "iphone-13", "coreml: {float32: ['*.softmax']}\n")
    (artifact,) = made.plan.artifacts
    assert "iphone-13: operators kept in float32 (*.softmax) leave the Neural Engine" in (
        artifact.advice
    )


def test_an_older_phone_is_refused_with_the_release_that_can(tiny: Path) -> None:
    with pytest.raises(InvalidInput, match=r"iphone-13 has ios 17, .* needs iOS 18 / macOS 15"):
        planned(tiny.parent, "int4", "iphone-13")


def test_other_formats_get_no_advice(tiny: Path) -> None:
    text = tiny_bert.GOOD.replace("[here]", "[iphone-15-pro]")
    made = make_plan(tiny_bert.write_recipe(tiny.parent / "onnx.yaml", text))
    assert all(artifact.advice == () for artifact in made.plan.artifacts)


def test_weights_that_were_quantized_before_are_said_to_be_kept(tmp_path: Path) -> None:
    made = report_samples.artifact("onnx-int4-b32", "int4-b32")
    kept = {
        name: tensor.model_copy(update={"note": f"{ALREADY}: int8 in the file"})
        for name, tensor in list(made.tensors.items())[:2]
    }
    out = io.StringIO()
    for each in (made, made.model_copy(update={"tensors": {**made.tensors, **kept}})):
        print_built([Built(tmp_path, each)], Console(file=out, width=200))
    (note,) = [line for line in out.getvalue().splitlines() if "note" in line]
    assert f"2 of {len(made.tensors)} weights were quantized in the file already" in note


def test_limits_are_printed_line_by_line() -> None:
    lines = store_lines(10**6, load_device("iphone-14"))
    out = io.StringIO()
    print_limits(lines, Console(file=out, width=300))
    assert [line.strip() for line in out.getvalue().splitlines()] == [line.text for line in lines]


def test_a_reason_is_said_once_and_an_impossible_artifact_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnx_ir", reason="the build side is not installed")
    onnx_models.convolutional(tmp_path / "net.onnx")
    np.savez(tmp_path / "c.npz", image=np.zeros((1, 3, 32, 32), np.float32))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "edgeq: 1\nname: net\nmodel: {source: ./net.onnx, task: tensor}\n"
        "quantize: {default: [int8-dynamic, int8-static], rules: [{match: fc.w, use: float32}]}\n"
        "data: {calibration: {path: c.npz}}\n"
        "targets: [{format: onnx, devices: [x86-laptop-8gb]}]\n",
        encoding="utf-8",
    )
    made = make_plan(recipe)
    text = shown(made)
    assert text.count("fast int8 kernels only for static ranges") == 1
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("c")][:2] == ["1"] * 2
    (name, problem), *_ = made.impossible.items()
    assert name == "onnx-int8-dynamic" and f"{recipe}:4:" in problem.where
