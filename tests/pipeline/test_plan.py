"""A plan says what a build would do, or everything that is wrong, without loading a weight."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.core.artifact import read_artifact
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.formats.file_format import TensorPlan
from edgeq.pipeline.check.expected import expected_everywhere
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.pipeline.plan.records import ArtifactPlan
from tests.conftest import Project
from tests.support import onnx_kinds, onnx_models, tiny_bert

LAYER = "encoder.layer.0."
DEVICE = Path(__file__).parents[2] / "devices" / "pi5-8gb.yaml"


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A folder of its own with the small BERT and data, for a recipe."""
    (tmp_path / "tiny").symlink_to(tiny)
    tiny_bert.write_data(tmp_path)
    return tmp_path


def plan(folder: Path, text: str = tiny_bert.GOOD) -> Planned:
    return make_plan(tiny_bert.write_recipe(folder / "recipe.yaml", text))


def problems(folder: Path, text: str) -> list[Problem]:
    """All problems, with places relative to the recipe."""
    with pytest.raises((InvalidInput, Missing)) as error:
        plan(folder, text)
    path = f"{folder / 'recipe.yaml'}:"
    return [Problem(p.where.removeprefix(path), p.what, p.remedy) for p in error.value.problems]


def changed(old: str, new: str) -> str:
    assert old in tiny_bert.GOOD
    return tiny_bert.GOOD.replace(old, new)


def by_name(artifact: ArtifactPlan) -> dict[str, TensorPlan]:
    return {tensor.name: tensor for tensor in artifact.tensors}


def test_every_tensor_gets_a_number_format_and_a_reason(folder: Path) -> None:
    planned = plan(folder).plan
    assert (planned.recipe, planned.source, planned.revision) == ("tiny", "tiny", None)
    assert planned.licence == "mit"
    names = [artifact.name for artifact in planned.artifacts]
    assert names == ["onnx-int8-dynamic", "onnx-int8-static", "onnx-int4-b32"]
    dynamic, _, int4 = map(by_name, planned.artifacts)
    assert dynamic.keys() == int4.keys()
    assert not any("pooler" in name for name in dynamic)

    key = dynamic[f"{LAYER}attention.self.key.weight"]
    assert (key.number_format, key.method, key.reason) == ("int8", "nearest", "default")
    assert key.shape == (tiny_bert.HIDDEN, tiny_bert.HIDDEN)
    assert key.bytes == 64 * 64 + 64 * 4  # ONNX stores the scales of a product as float32

    key, value = (int4[f"{LAYER}attention.self.{name}.weight"] for name in ("key", "value"))
    assert (key.number_format, key.method) == ("int4-b32", "gptq")
    assert key.bytes == 64 * 64 // 2 + 64 * 2 * 4
    assert (value.number_format, value.method) == ("int8", "nearest")
    assert value.reason == "rule 1: *.attention.self.value.weight"
    assert dynamic[value.name].reason == "default"  # the rule is for int4-b32 alone

    bias = int4[f"{LAYER}output.dense.bias"]
    assert (bias.number_format, bias.method, bias.bytes) == ("float32", "none", 4 * 64)
    assert "fewer than 2 axes" in bias.reason


def test_the_first_rule_wins_and_is_numbered(folder: Path) -> None:
    rules = (
        '- {match: "*.layer.0.*", use: float32}\n'
        '    - {match: "*.layer.[01].output.*", use: int8-b32}'
    )
    text = changed(
        '- {match: "*.attention.self.value.weight", use: int8, variants: [int4-b32]}', rules
    )
    tensors = by_name(plan(folder, text).plan.artifacts[0])
    first = tensors[f"{LAYER}output.dense.weight"]
    assert (first.number_format, first.reason) == ("float32", "rule 1: *.layer.0.*")
    second = tensors["encoder.layer.1.output.dense.weight"]
    assert (second.number_format, second.reason) == ("int8-b32", "rule 2: *.layer.[01].output.*")


def test_estimates_hold_for_what_was_built(project: Project) -> None:
    for artifact in make_plan(project.recipe).plan.artifacts:
        built = project.artifacts[artifact.name]
        allowed = max(30 * 1024, 0.03 * built["bytes"])
        assert abs(artifact.download_bytes - built["bytes"]) <= allowed


def test_what_was_planned_is_what_was_built(project: Project) -> None:
    for artifact in make_plan(project.recipe).plan.artifacts:
        record = read_artifact(Path(project.artifacts[artifact.name]["path"]))
        planned = by_name(artifact)
        assert {
            n for n, t in planned.items() if t.number_format != "float32"
        } <= record.tensors.keys()
        for name, tensor in record.tensors.items():
            assert tensor.number_format == planned[name].number_format
            reason, method = planned[name].reason, planned[name].method
            notes = {method: reason}
            if "embeddings" in name and method == "gptq":  # a table may be better off, and says so
                notes["nearest"] = (
                    f"{reason}; nearest, for gptq was worse on held-out calibration data"
                )
            assert tensor.note == notes[tensor.method]


def test_a_rule_that_matches_nothing_names_the_nearest_tensor(folder: Path) -> None:
    text = changed("*.attention.self.value.weight", "encoder.layer.0.atention.self.key.weight")
    (problem,) = problems(folder, text)
    assert problem.where == "10:15"
    assert "matches no tensor" in problem.what
    assert f"'{LAYER}attention.self.key.weight'" in problem.remedy


def test_an_unknown_device_is_refused_with_the_nearest(folder: Path) -> None:
    (problem,) = problems(folder, changed("[here]", "[here, pi5-8bg]"))
    assert problem.where == "12:36"
    assert "'pi5-8gb'" in problem.remedy


def test_a_device_that_cannot_run_the_format_is_refused(folder: Path) -> None:
    text = DEVICE.read_text().replace("runtimes: [onnx, gguf]", "runtimes: [gguf]")
    device = folder / "board.yaml"
    device.write_text(text.replace("id: pi5-8gb", "id: board"))
    (problem,) = problems(folder, changed("[here]", f"[{device}]"))
    assert problem.where == "12:30"
    assert "cannot run the format 'onnx'" in problem.what
    assert problem.remedy == "it runs: gguf"


def test_a_device_may_be_a_file_next_to_the_recipe(folder: Path) -> None:
    """By a path from the recipe's directory, like data; the plan has its id."""
    (folder / "boards").mkdir()
    text = DEVICE.read_text().replace("id: pi5-8gb", "id: my-board")
    (folder / "boards" / "my-board.yaml").write_text(text)
    planned = plan(folder, changed("[here]", "[./boards/my-board.yaml]"))
    assert list(planned.devices) == ["my-board"]
    assert {a.devices for a in planned.plan.artifacts} == {("my-board",)}
    assert all(set(each) == {"my-board"} for each in expected_everywhere(planned).values())


def test_a_mistake_in_a_device_file_is_placed_in_that_file(folder: Path) -> None:
    device = folder / "board.yaml"
    text = DEVICE.read_text().replace("id: pi5-8gb", "id: board")
    device.write_text(text.replace("kind: board", "kind: bord"))
    (problem,) = problems(folder, changed("[here]", f"[{device}]"))
    assert f"{device}:3:7" in f"{problem.where} {problem.what}"
    assert "board" in problem.remedy


def test_all_independent_problems_are_told_at_once(folder: Path) -> None:
    text = changed("[here]", "[no-such-device]").replace("self.value", "self.vallue")
    text = text.replace("quality: {cosine: 0.5}", "quality: {cosin: 0.5}")
    text = text.replace("size: {download: 2 MiB}", "size: {download: 2}")
    text = text.replace("evaluation.tsv", "evaluatoin.tsv")
    found = problems(folder, text)
    assert [problem.where for problem in found] == ["6:22", "10:15", "12:30", "14:20", "15:13"]
    assert all(problem.remedy for problem in found)


def test_a_missing_model_is_told_with_other_problems(folder: Path) -> None:
    text = changed("source: tiny", "source: tinny").replace("[here]", "[no-such-device]")
    model, device = problems(folder, text)
    assert (model.where, device.where) == ("3:17", "12:30")
    assert "'tiny'" in model.remedy


def test_a_missing_package_is_exit_3(folder: Path) -> None:
    text = changed("source: tiny", "source: package:no-such-model")
    with pytest.raises(Missing) as error:
        plan(folder, text)
    assert error.value.exit_code == 3


def test_a_plain_onnx_file_is_planned_by_its_own_names(tmp_path: Path) -> None:
    onnx_models.convolutional(tmp_path / "net.onnx")
    text = """\
        edgeq: 1
        name: net
        model: {source: net.onnx, task: tensor}
        quantize: {default: int8-dynamic}
        targets: [{format: onnx, devices: [here]}]
        """
    (artifact,) = plan(tmp_path, text).plan.artifacts
    tensors = by_name(artifact)
    assert tensors["fc.w"].number_format == "int8"
    assert tensors["fc.w"].shape == (10, 1024)


def test_a_plan_does_not_promise_what_no_kernel_can_run(tmp_path: Path) -> None:
    """int8-dynamic leaves convolutions in float32, and the sizes have to say so."""
    onnx_models.convolutional(tmp_path / "net.onnx")
    text = """\
        edgeq: 1
        name: net
        model: {source: net.onnx, task: tensor}
        quantize: {default: int8-dynamic}
        targets: [{format: onnx, devices: [here]}]
        """
    (artifact,) = plan(tmp_path, text).plan.artifacts
    convolution = by_name(artifact)["c2.w"]
    assert convolution.number_format == "float32"
    assert "Conv" in convolution.reason


@pytest.mark.parametrize(
    ("kind", "said", "remedy"),
    [
        ("norm", "Conv has fast int8 kernels only for static ranges", "write one of: int8-static"),
        ("recurrent", "LSTM has quantized kernels only for int8", "write one of: int8-dynamic, "),
        ("quantized_already", "", ""),
    ],
)
def test_a_variant_that_would_quantize_nothing_is_refused(
    tmp_path: Path, kind: str, said: str, remedy: str
) -> None:
    onnx_kinds.save(kind, tmp_path)
    text = """\
        edgeq: 1
        name: net
        model: {source: source.onnx, task: tensor}
        quantize: {default: {weights: int4-b32, method: nearest}}
        targets: [{format: onnx, devices: [here]}]
        """
    if not said:
        plan(tmp_path, text)
        return
    (problem,) = problems(tmp_path, text)
    assert problem.what.startswith("int4-b32-nearest quantizes no weight of source.onnx: ")
    assert said in problem.what and problem.remedy.startswith(remedy)
    assert problem.where == "4:21"


def test_two_targets_of_one_format_are_one_artifact(folder: Path) -> None:
    text = changed(
        "- {format: onnx, devices: [here]}",
        "- {format: onnx, devices: [here]}\n  - {format: onnx, devices: [pi5-8gb]}",
    )
    artifacts = plan(folder, text).plan.artifacts
    names = [artifact.name for artifact in artifacts]
    assert len(names) == len(set(names)) == 3
    assert {device for artifact in artifacts for device in artifact.devices} == {"here", "pi5-8gb"}


HEAVY = ("torch", "transformers", "optimum", "safetensors")


def loaded_by(code: str, *arguments: str | Path) -> list[str]:
    """Which heavy packages a process has imported after `code`."""
    report = f"\nimport json, sys; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    command = [sys.executable, "-c", code + report, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    found: list[str] = json.loads(done.stdout)
    return found


def test_planning_imports_nothing_heavy(folder: Path) -> None:
    recipe = tiny_bert.write_recipe(folder / "recipe.yaml")
    code = "import sys, pathlib\nfrom edgeq.pipeline.plan.plan import make_plan\n"
    found = loaded_by(f"{code}make_plan(pathlib.Path(sys.argv[1]))", recipe)
    assert found == []


def test_planning_reads_no_weight(folder: Path) -> None:
    """With a hole of the same size for the payload of its weights, a plan stays the same."""
    wanted = plan(folder).plan
    source = folder / "tiny"
    real = source.resolve()
    source.unlink()
    shutil.copytree(real, source)
    weights = source / "model.safetensors"
    content = weights.read_bytes()
    weights.chmod(0o644)
    header = 8 + int.from_bytes(content[:8], "little")
    weights.write_bytes(content[:header])
    with weights.open("rb+") as file:
        file.truncate(len(content))
    assert plan(folder).plan == wanted
