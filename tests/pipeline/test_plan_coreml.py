"""A plan refuses what a release of Apple's systems cannot run, and says how large packages get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq.core.errors import InvalidInput
from edgeq.pipeline.plan.coreml import activations_advice, needed_target
from edgeq.pipeline.plan.plan import make_plan
from edgeq.quantize.presets import PRESETS
from tests.support import tiny_bert

RECIPE = """\
edgeq: 1
name: tiny
model: {source: tiny, task: sentence-embedding}
data: {calibration: {path: calibration.txt}}
quantize:
  default: [%s]
targets:
  - {format: coreml, devices: [%s]}
coreml: {%s}
"""
SHIPPED = Path(__file__).parents[2] / "devices" / "iphone-15-pro.yaml"


@pytest.fixture
def folder(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny").symlink_to(tiny)
    tiny_bert.write_data(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(
    folder: Path, default: str, release: str, more: str = "", rules: str = ""
) -> dict[str, Any]:
    """Deployment targets by variant, for a phone on a release of iOS."""
    (folder / "devices").mkdir(exist_ok=True)
    profile = SHIPPED.read_text().replace('os_version: "18"', f'os_version: "{release}"')
    profile = profile.replace("id: iphone-15-pro", "id: phone").replace('os: ">=17"', 'os: ">=16"')
    (folder / "devices" / "phone.yaml").write_text(profile)
    text = RECIPE % (default, "phone", more)
    text = text.replace("targets:", f"  rules: [{rules}]\ntargets:")
    plan = make_plan(tiny_bert.write_recipe(folder / "recipe.yaml", text)).plan
    return {a.variant.name: a.deployment_target for a in plan.artifacts}


def refusal(*arguments: str, folder: Path, **settings: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        planned(folder, *arguments, **settings)
    assert all("recipe.yaml:" in problem.where for problem in caught.value.problems)
    return str(caught.value)


def test_a_phone_too_old_is_refused_with_the_release_that_can(folder: Path) -> None:
    told = refusal("int8, int4", "17", folder=folder)
    assert "phone has ios 17, coreml-int4-b32 needs iOS 18 / macOS 15, for int4-b32" in told
    assert "coreml-int8 " not in told and "int8, palette4, palette6" in told
    told = refusal("int8-static", "16", folder=folder)
    assert "needs iOS 17 / macOS 14, for 8-bit activations" in told
    told = refusal("int8", "17", folder=folder, more="lengths: [8, 32]")
    assert "needs iOS 18 / macOS 15, for inputs of more than one length" in told


def test_what_a_release_can_run_is_planned_for_it(folder: Path) -> None:
    oldest, newer = "iOS 16 / macOS 13", "iOS 17 / macOS 14"
    found = planned(folder, "float16, int8, palette4, palette6", "16", "lengths: [32]")
    assert set(found.values()) == {oldest}
    assert planned(folder, "int8-static, int8", "17") == {"int8-static": newer, "int8": oldest}
    assert planned(folder, "int8", "18", "lengths: [8, 32]") == {"int8": "iOS 18 / macOS 15"}


def test_a_deployment_target_too_old_is_refused_where_it_stands(folder: Path) -> None:
    told = refusal("int4", "18", folder=folder, more="deployment_target: iOS17")
    assert "recipe.yaml:9:" in told or "recipe.yaml:10:" in told
    assert "iOS17 does not support int4-b32" in told and "deployment_target: iOS18" in told
    told = refusal("int8-static", "18", folder=folder, more="deployment_target: iOS16")
    assert "iOS16 does not support 8-bit activations" in told
    more = "deployment_target: iOS16, lengths: [8, 32]"
    assert "inputs of more than one length" in refusal("int8", "18", folder=folder, more=more)


def test_number_format_of_rules_count_too(folder: Path) -> None:
    rule = '{match: "*.attention.self.key.weight", use: int4-b32}'
    assert "needs iOS 18" in refusal("int8", "17", folder=folder, rules=rule)
    assert planned(folder, "int8", "18", rules=rule) == {"int8": "iOS 18 / macOS 15"}


def test_ranges_taken_at_run_time_are_refused_with_what_there_is(folder: Path) -> None:
    told = refusal("int8-dynamic", "18", folder=folder)
    assert "has no dynamic ranges" in told and "int8-static" in told


def test_the_release_is_that_of_the_most_demanding_part() -> None:
    assert needed_target([])[0].ios == 16
    assert needed_target(["int8"], has_coded_inputs=True)[0].ios == 17
    assert needed_target(["int8"], has_coded_inputs=True, has_states=True)[0].ios == 18


def test_advice_is_for_coded_activations_alone() -> None:
    assert "coremltools can do so on macOS only" in (
        activations_advice(PRESETS["int8-static"]) or ""
    )
    assert activations_advice(PRESETS["int4-b32"]) is None


NET = """\
edgeq: 1
name: net
model: {source: net.onnx, task: tensor}
quantize: {default: [float16]}
coreml: {float32: []}
targets: [{format: coreml, devices: [iphone-15-pro]}]
"""


def net(folder: Path, middle: str) -> None:
    """Two products with an operator between them."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
    rng = np.random.default_rng(0)
    stored = {"first": rng.normal(size=(8, 64)), "last": rng.normal(size=(64, 64))}
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], name="/a"),
        helper.make_node(middle, ["a"], ["b"], name=f"/head/{middle}"),
        helper.make_node("MatMul", ["b", "last"], ["y"], name="/y"),
    ]
    constants = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in stored.items()]
    graph = helper.make_graph(nodes, "net", [x], [y], constants)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "net.onnx")


def test_numbers_beyond_float16_and_small_weights_are_told(tmp_path: Path) -> None:
    net(tmp_path, "Exp")
    recipe = tiny_bert.write_recipe(tmp_path / "recipe.yaml", NET)
    (artifact,) = make_plan(recipe).plan.artifacts
    said = "\n".join(artifact.advice)
    assert "float16 cannot hold results Exp above 11" in said
    assert 'coreml: {float32: ["head_Exp"]}' in said
    assert "1 weight of fewer than 4096 values stay float, 512 values in all: first" in said
    tiny_bert.write_recipe(recipe, NET.replace("float32: []", 'float32: ["head_Exp"]'))
    (artifact,) = make_plan(recipe).plan.artifacts
    assert "float16 cannot hold" not in "\n".join(artifact.advice)


@pytest.mark.parametrize(
    ("format", "device"), [("coreml", "iphone-15-pro"), ("coreai", "iphone-15-pro-ios27")]
)
def test_operators_that_are_not_written_are_refused_before_a_build(
    tmp_path: Path, format: str, device: str
) -> None:
    net(tmp_path, "Det")
    target = f"{{format: {format}, devices: [{device}]}}"
    text = NET.replace("{format: coreml, devices: [iphone-15-pro]}", target)
    recipe = tiny_bert.write_recipe(tmp_path / "recipe.yaml", text)
    with pytest.raises(InvalidInput, match=r"net\.onnx: .*these operators for Core .*: Det"):
        make_plan(recipe)
