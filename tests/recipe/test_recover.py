"""Where a recipe may ask for recovery, and what the plan says of it. No torch is needed to plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.core.errors import Problem
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.plan.requirements import packages
from edgeq.quantize.adapter import NUMBER_FORMAT, planned_factors
from edgeq.recipe.load import load_recipe
from edgeq.recipe.schema import Recipe

ROOT = Path(__file__).parents[2]
TEXT = """\
edgeq: 1
name: a
model: {{source: {model}, task: {task}}}
data: {data}
quantize: {quantize}
targets: [{targets}]
"""
DATA = "{calibration: {path: calibration.txt}}"
GGUF = "{format: gguf, devices: [here]}"
ONNX = "{format: onnx, devices: [here]}"
COREML = "{format: coreml, devices: [iphone-14]}"


def write(folder: Path, quantize: str, task: str, targets: str, data: str = DATA) -> Path:
    (folder / "calibration.txt").write_text("a text\nanother\n")
    path = folder / "recipe.yaml"
    given = {"model": ROOT / "recipes" / "wren", "task": task, "data": data}
    path.write_text(TEXT.format(quantize=quantize, targets=targets, **given))
    return path


def problems(
    folder: Path,
    quantize: str,
    task: str = "text-generation",
    targets: str = GGUF,
    data: str = DATA,
) -> list[Problem]:
    return load_recipe(write(folder, quantize, task, targets, data))[2]


@pytest.mark.parametrize(
    ("quantize", "names"),
    [
        (
            "{default: {weights: Q2_K, method: gptq, recover: {rank: 4}}}",
            ["gguf-Q2_K-gptq-recover4"],
        ),
        (
            "{default: [Q2_K, {weights: Q2_K, recover: {}}]}",
            ["gguf-Q2_K", "gguf-Q2_K-recover8"],
        ),
        (
            "{default: {name: mine, weights: int4-b32, recover: {steps: 9}}}",
            ["gguf-mine", "onnx-mine"],
        ),
    ],
)
def test_recovery_names_its_artifact(quantize: str, names: list[str], tmp_path: Path) -> None:
    targets = GGUF if len(names) == 1 or "Q2_K" in quantize else f"{GGUF}, {ONNX}"
    assert problems(tmp_path, quantize, targets=targets) == []
    recipe, _, _ = load_recipe(tmp_path / "recipe.yaml")
    assert recipe is not None
    formats = ("gguf", "onnx") if "onnx" in targets else ("gguf",)
    intents = [i for f in formats for i in recipe.quantize.intents(f, "text-generation")]
    assert [intent.name for intent in intents] == names
    assert Recipe.model_validate_json(recipe.model_dump_json(), strict=True) == recipe
    wanted = packages(intents)
    assert wanted["recover"] == ("torch", "transformers")
    assert "recover" not in packages([i for i in intents if not i.variant.recover])


def test_a_budget_leaves_room_for_its_adapter(tmp_path: Path) -> None:
    assert problems(tmp_path, "{fit: {size: 4 MiB, recover: {rank: 4}}}") == []
    recipe, _, _ = load_recipe(tmp_path / "recipe.yaml")
    assert recipe is not None
    (fit,) = recipe.quantize.fit
    (pending,) = recipe.quantize.pending("gguf", "text-generation")
    left = fit.reduced_by(1 << 20)
    assert (left.size, left.recover, left.variant_name) == (3 << 20, None, fit.variant_name)
    assert pending.name == f"gguf-{fit.variant_name}" == "gguf-fit-4mib-recover4"
    assert pending.variant.recover == fit.recover


@pytest.mark.parametrize(
    ("quantize", "given", "what", "remedy"),
    [
        (
            "{default: {weights: int4-b32, recover: {}}}",
            {"task": "sentence-embedding", "targets": ONNX},
            "quantize.default.recover: only a language model has logits",
            "remove it",
        ),
        (
            "{default: {weights: int4-b32, recover: {}}}",
            {"targets": COREML},
            "no target can store it: coreml cannot",
            "Core ML packages have no adapter",
        ),
        (
            "{default: [int8, {weights: int4-b32, recover: {}}]}",
            {"targets": f"{GGUF}, {COREML}"},
            "quantize.default[1].recover: Core ML packages have no adapter",
            "add 'int4-b32' to quantize.default",
        ),
        (
            "{default: {weights: Q2_K, recover: {}}}",
            {"targets": f"{GGUF}, {COREML}"},
            "targets[1]: nothing in quantize.default can be stored in coreml",
            "remove the target",
        ),
        (
            "{fit: {size: 4 MiB, recover: {}}}",
            {"targets": f"{GGUF}, {COREML}"},
            "Core ML packages have no adapter",
            "a separate recipe",
        ),
        (
            "{fit: {quality: {kl: 0.02}, recover: {}}}",
            {},
            "an adapter's gain is not known in advance",
            "set a size or memory",
        ),
        (
            "{default: {weights: Q2_K, method: nearest, recover: {}}}",
            {"data": "{}"},
            "is recovered on calibration data, and there are none",
            "add data.calibration",
        ),
        (
            "{default: {weights: Q6_K, recover: {}}}",
            {"data": "{importance: {path: calibration.txt}}"},
            "is recovered on calibration data, and there are none",
            "add data.calibration",
        ),
        (
            "{default: {weights: float32, recover: {}}}",
            {},
            "weights 'float32' with activations 'float32' cannot have an adapter",
            "remove 'recover'",
        ),
        (
            "{default: {weights: Q2_K, recover: {}}}",
            {"data": "{calibration: {path: calibration.txt, samples: 15}}"},
            "15 windows of text; every eighth is held out to judge recovery by",
            "write 16 or more",
        ),
        ("{default: {weights: Q2_K, recover: {rank: 0}}}", {}, "rank", ""),
        ("{default: {weights: Q2_K, recover: {ranks: 4}}}", {}, "ranks", "rank"),
    ],
)
def test_what_nothing_can_come_of_is_refused(
    quantize: str, given: dict[str, str], what: str, remedy: str, tmp_path: Path
) -> None:
    found = problems(tmp_path, quantize, **given)
    assert [problem for problem in found if what in problem.what and remedy in problem.remedy]
    assert all(problem.where.startswith(f"{tmp_path / 'recipe.yaml'}:") for problem in found)


def test_no_target_is_left_without_an_artifact_in_silence(tmp_path: Path) -> None:
    """Each entry with an adapter is in every format that holds its weights, or the recipe is not
    taken: only GGUF's own file types are GGUF's alone."""
    targets = f"{GGUF}, {ONNX}, {COREML}"
    for weights in ("int4-b32", "int8-b32", "Q2_K", "Q4_0"):
        for reduced_by in ("int8", "int4", "int8-b32", "Q6_K"):
            quantize = f"{{default: [{reduced_by}, {{weights: {weights}, recover: {{}}}}]}}"
            found = problems(tmp_path, quantize, targets=targets)
            recipe = load_recipe(tmp_path / "recipe.yaml")[0]
            assert recipe is not None
            weighed = {
                format: [v.weights for v in recipe.quantize.choices(format, "text-generation") if v]
                for format in ("gguf", "onnx", "coreml")
            }
            lost = not all(weighed.values()) or (
                weights in weighed["onnx"] and weights not in weighed["coreml"]
            )
            assert bool(found) == lost
            assert all(problem.remedy for problem in found)


def test_a_plan_counts_the_adapter(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="gguf is not installed")
    quantize = "{default: [int8-b32, {weights: int8-b32, recover: {rank: 5}}]}"
    planned = make_plan(write(tmp_path, quantize, "text-generation", f"{GGUF}, {ONNX}"))
    own = sum(planned_factors(planned.model.tensors, 5).values())
    assert own == 2 * 5 * 6 * (512 + 384 + 384 + 512 + 3 * 1024)  # wren's layers
    for format in ("gguf", "onnx"):
        plain, more = (a for a in planned.plan.artifacts if a.format == format)
        assert more.weight_bytes - plain.weight_bytes == own
        assert own < more.download_bytes - plain.download_bytes < own + 60_000
        factors = [tensor for tensor in more.tensors if tensor.number_format == NUMBER_FORMAT]
        assert [t.name for t in more.tensors if t not in factors] == [t.name for t in plain.tensors]
        assert len(factors) == 42 and factors[0].name.endswith("q_proj.weight.adapter")
