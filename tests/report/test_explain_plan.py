"""What is explained of a recipe that is only planned: every recipe of the project, by the rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("gguf", reason="the extra [gguf] is not installed")

from edgeq.core.errors import EdgeqError, InvalidInput, Missing
from edgeq.pipeline.allocate.options import find_options, intent_of
from edgeq.pipeline.check.expected import expected_everywhere
from edgeq.pipeline.plan.plan import make_plan
from edgeq.report.explain.facts import budget_words
from edgeq.report.explain.parts import parts_of
from edgeq.report.explain.piece import write
from edgeq.report.explain.planned import facts_of_plan, planned_facts
from edgeq.report.explain.rules import problems
from tests.pipeline.test_hub_recipes import PARAMETERS, planned
from tests.support.tiny_bert import write_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
FIT = """
edgeq: 1
name: wren
model: {{source: {model}, task: text-generation}}
data: {{calibration: {{path: {model}/../data/wren-calibration.txt}}}}
quantize: {{{quantize}}}
targets: [{{format: gguf, devices: [pi5-8gb]}}]
budgets: {{size: {{download: {size}}}}}
"""


def silent(step: str) -> None:
    pass


@pytest.mark.parametrize("name", NAMES)
def test_every_artifact_of_every_recipe_keeps_the_rules(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES / f"{name}.yaml"
    monkeypatch.setenv("EDGEQ_STORE", str(tmp_path / "store"))
    if name in PARAMETERS:  # models of a hub, of which the configuration is enough
        planned(name, PARAMETERS[name][0], tmp_path / "hub", monkeypatch)
    try:
        whole = make_plan(recipe)
    except EdgeqError as error:
        pytest.skip(str(error))
    waits = all(artifact.pending for artifact in whole.plan.artifacts)
    if waits:  # what a budget comes to is known when it is built: some of everything here
        open = write(facts_of_plan(recipe, [], silent))
        assert problems(open) == []
        assert open.facts.waiting is not None
        assert "How many bits each weight takes is not decided yet" in open.piece.text
        assert open.facts.waiting.least in open.piece.text
        for fit in whole.recipe.quantize.fit:
            found = find_options(whole.model, whole.recipe, "gguf").items()
            some = {tensor: own[i % len(own)].use for i, (tensor, own) in enumerate(found)}
            whole = whole.settled([intent_of(whole.recipe, "gguf", fit.variant_name, some)])
    estimates = expected_everywhere(whole)
    every = whole.plan.artifacts
    assert every
    for artifact in every:
        for device in artifact.devices:
            plan = whole.plan.model_copy(update={"artifacts": (artifact,)})
            facts = planned_facts(replace(whole, plan=plan), estimates, device)
            written = write(facts)
            assert problems(written) == []
            text = written.piece.text
            assert written.piece.title.endswith(": the plan")
            assert facts.size in text
            assert "an estimate is not a pass" in text
            assert {each.budget for each in facts.budgets} <= set(budget_words())
            assert ("a budget in place of fixed bits" in text) == waits
    if waits:
        return
    own = facts_of_plan(recipe, [], silent)
    assert own.artifact in {artifact.name for artifact in every}
    assert own.methods


def test_what_a_plan_would_miss_is_said(tmp_path: Path) -> None:
    text = FIT.format(model=RECIPES / "wren", quantize="default: [int8, Q6_K]", size="5 MiB")
    facts = facts_of_plan(write_recipe(tmp_path / "r.yaml", text), [], silent)
    assert facts.artifact == "gguf-Q6_K"  # the one that keeps the limit
    piece = write(facts).piece
    assert "the download would come to 22.0 MiB, and 5.0 MiB is the limit" in piece.text
    tight = write_recipe(tmp_path / "t.yaml", text.replace("5 MiB", "2 MiB"))
    written = write(facts_of_plan(tight, [], silent))
    assert "would not stay within every limit: the download is" in written.piece.text
    assert "MiB too far" in written.piece.text
    assert problems(written) == []
    with pytest.raises(InvalidInput, match="one of the recipe's devices"):
        facts_of_plan(tight, ["iphone-14"], silent)


def test_a_budget_that_waits_for_its_build_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_STORE", str(tmp_path / "store"))
    both = "default: Q4_K_M, fit: {size: 3.2 MiB}"
    text = FIT.format(model=RECIPES / "wren", quantize=both, size="8 MiB")
    written = write(facts_of_plan(write_recipe(tmp_path / "r.yaml", text), [], silent))
    assert "a budget in place of bits, for gguf-fit-3.2mib" in written.piece.text
    assert problems(written) == []


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("size: 3.2 MiB", "The budget is a file of at most 3.2 MiB. The"),
        ("size: 40 MiB", "at most 40.0 MiB, more than this model takes with any choice"),
        ("quality: {kl: 0.02}", "The budget is predictions at most 0.02 away from the"),
        ("memory: 100 MiB", "The budget is at most 100.0 MiB of memory. The"),
        ("size: 3.2 MiB, recover: {rank: 4}", "The budget is a file of at most 3.2 MiB. The"),
    ],
)
def test_a_recipe_of_budgets_alone_is_explained(
    asked: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy", reason="the extra [fit] is not installed")
    monkeypatch.setenv("EDGEQ_STORE", str(tmp_path / "store"))
    text = FIT.format(model=RECIPES / "wren", quantize=f"fit: {{{asked}}}", size="8 MiB")
    written = write(facts_of_plan(write_recipe(tmp_path / "a.yaml", text), [], silent))
    assert problems(written) == []
    assert told in written.piece.text
    waiting = written.facts.waiting
    assert waiting is not None
    assert f"between {waiting.least} and {waiting.most} instead of 22.0 MiB" in written.piece.text
    assert waiting.is_spare == ("40" in asked)


def test_without_what_works_budgets_out_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_STORE", str(tmp_path / "store"))
    text = FIT.format(model=RECIPES / "wren", quantize="fit: {size: 3.2 MiB}", size="8 MiB")
    whole = make_plan(write_recipe(tmp_path / "a.yaml", text))  # nothing is foretold
    with pytest.raises(Missing, match="cannot be estimated without"):
        planned_facts(whole, expected_everywhere(whole))


def test_parts_of_a_model_in_words() -> None:
    every = [
        f"model.layers.{layer}.{kind}.weight"
        for layer in range(6)
        for kind in ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")
    ]
    every += ["model.embed_tokens.weight", "lm_head.weight"]
    assert parts_of(every[:3], every) == (
        "attention (q_proj, v_proj) in layer 0 of 6 and the layers' inner part (down_proj) in "
        "layer 0 of 6"
    )
    assert parts_of(every[1:18:3], every) == "attention (v_proj) in every layer"
    assert parts_of(every[1:14:3], every) == "attention (v_proj) in 5 of 6 layers"
    assert parts_of(["model.embed_tokens.weight"], every) == "the table of words (embed_tokens)"
    assert parts_of(every[2::3], every).endswith(" and others") is False
    assert parts_of(["encoder.layer.0.output.dense.weight"], every) == (
        "the layers' inner part (output) in layer 0 of 6"
    )
