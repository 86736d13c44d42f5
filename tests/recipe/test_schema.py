"""Recipes: the shipped one is right, every mistake is told with its place and its remedy."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from edgeq.core.errors import Problem
from edgeq.models.source import Source, parse_source
from edgeq.recipe.data_sets import overlap, read_pairs, read_texts
from edgeq.recipe.json_schema import recipe_schema
from edgeq.recipe.load import load_recipe
from edgeq.recipe.schema import Recipe

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "recipes" / "minilm.yaml"
DATA = ROOT / "recipes" / "data"

GOOD = """\
edgeq: 1
name: mini
model: {source: package:some-model, task: sentence-embedding}
data:
  calibration: {path: calibration.txt}
  evaluation: {path: evaluation.tsv, samples: 2}
quantize:
  default: int8
  rules:
    - {match: "*.bias", use: float32}
targets:
  - {format: onnx, devices: [here]}
budgets:
  latency: {p90: 40 ms}
"""


def load(folder: Path, text: str) -> tuple[Recipe | None, list[Problem]]:
    """Load a recipe that has its data beside it; places without the path."""
    (folder / "calibration.txt").write_text("one\ntwo\nthree\n")
    (folder / "evaluation.tsv").write_text("sentence1\tsentence2\tscore\na\tb\t1\nc\td\t2\n")
    path = folder / "recipe.yaml"
    path.write_text(textwrap.dedent(text))
    recipe, _, problems = load_recipe(path)
    return recipe, [
        Problem(problem.where.removeprefix(f"{path}:"), problem.what, problem.remedy)
        for problem in problems
    ]


def test_the_shipped_recipe_has_no_problem() -> None:
    recipe, document, problems = load_recipe(SHIPPED)
    assert problems == []
    assert recipe is not None
    intents = recipe.quantize.intents("onnx", "sentence-embedding")
    assert [intent.variant.name for intent in intents] == [
        "int8-dynamic",
        "int8-static",
        "int4-b32",
    ]
    assert recipe.budgets.size.download == 25 << 20
    assert document.place(("budgets", "size", "download")).startswith(f"{SHIPPED}:")


def test_the_shipped_data_are_varied_graded_and_apart() -> None:
    calibration, evaluation = DATA / "calibration.txt", DATA / "evaluation.tsv"
    texts, pairs = read_texts(calibration), read_pairs(evaluation)
    assert len(texts) == len({text.casefold() for text in texts}) == 800
    assert sum(60 <= len(text.split()) <= 120 for text in texts) == 110
    assert pairs.scores is not None
    assert (len(pairs.scores), min(pairs.scores), max(pairs.scores)) == (200, 0, 5)
    assert len(set(zip(pairs.first, pairs.second, strict=True))) == 200
    assert overlap(calibration, evaluation) == []


def test_the_shipped_schema_is_the_schema() -> None:
    assert json.loads((SHIPPED.parent / "recipe.schema.json").read_text()) == recipe_schema()


def test_a_recipe_survives_json(tmp_path: Path) -> None:
    recipe, problems = load(tmp_path, GOOD)
    assert (recipe is not None, problems) == (True, [])
    assert recipe is not None
    assert Recipe.model_validate_json(recipe.model_dump_json(), strict=True) == recipe


@pytest.mark.parametrize(
    ("old", "new", "where", "what", "remedy"),
    [
        (
            "edgeq: 1",
            "edgeq: 2",
            "1:8",
            "edgeq: this edgeq reads recipes of version 1, not 2",
            "'edgeq: 1'",
        ),
        ("edgeq: 1\n", "", "1:1", "the key 'edgeq' is missing", "write e.g. 'edgeq: 1'"),
        ("name: mini", "name: Mini Model", "2:7", "'Mini Model' cannot be a name", "a-z, 0-9"),
        (
            "  default: int8",
            "  defualt: int8\n  default: int8",
            "8:3",
            "quantize: unknown key 'defualt'",
            "did you mean 'default'?",
        ),
        (
            "default: int8",
            "default: int9",
            "8:12",
            "quantize.default: 'int9' is not a valid value here",
            "did you mean 'int8'?",
        ),
        (
            "default: int8",
            "default: []",
            "8:12",
            "quantize.default: the list is empty",
            "at least one",
        ),
        (
            "default: int8",
            "default: 8",
            "8:12",
            "8 is not a valid value here",
            "valid here: float32",
        ),
        (
            "default: int8",
            "default: [int8, int8-dynamic]",
            "8:19",
            "'int8-dynamic' is listed twice",
            "remove one",
        ),
        (
            "default: int8",
            "default: {weights: int4-b32, activations: static-uint8}",
            "8:12",
            "do not run with",
            "write: float32",
        ),
        (
            "default: int8",
            "default: {wieghts: int8, weights: int8}",
            "8:13",
            "unknown key 'wieghts'",
            "'weights'",
        ),
        (
            "p90: 40 ms",
            "p90: 40",
            "14:18",
            "budgets.latency.p90: '40' has no unit",
            "write e.g. '40 ms'",
        ),
        ("{p90: 40 ms}", "40 ms", "14:12", "budgets.latency: expected a mapping", ""),
        (
            "task: sentence-embedding",
            "task: 5",
            "3:43",
            "5 is not a valid value",
            "valid here: sentence-embedding",
        ),
        ("use: float32", "use: int4-b23", "10:30", "'int4-b23' is not a valid value", "'int4-b32'"),
        (
            "use: float32",
            "use: int4, variants: [int8]",
            "10:47",
            "no variant 'int8' in quantize.default",
            "int8-dynamic",
        ),
        (
            "format: onnx",
            "format: onxx",
            "12:14",
            "'onxx' is not a valid value here",
            "did you mean 'onnx'?",
        ),
        ("[here]", "[]", "12:29", "targets[0].devices: the list is empty", "at least one"),
        ("[here]", "[here, here]", "12:36", "'here' is listed twice", "remove one"),
        ("[here]", "here", "12:29", "expected a list, found the text 'here'", "write [here]"),
        (
            "package:some-model",
            "pakage:some-model",
            "3:17",
            "'pakage' is not a known kind",
            "'package'",
        ),
        ("package:some-model", "hub:owner/name", "3:17", "needs a revision", "hub:owner/name@"),
        ("package:some-model", "./absent", "3:17", "no directory", "relative to the recipe"),
        ("calibration.txt", "calibrations.txt", "5:23", "no such file", "'calibration.txt'"),
        ("samples: 2", "samples: 3", "6:22", "has 2 samples, 3 are requested", "samples: 2"),
        ("samples: 2", "samples: 0", "6:47", "must be greater than or equal to 1", "samples: 256"),
        (
            "calibration.txt",
            "evaluation.tsv",
            "6:22",
            "4 of its samples are in the calibration data too",
            "unseen",
        ),
        ("calibration.txt", "a.npz", "5:23", "does not read 'a.npz'", ".txt or .tsv"),
        ("  latency", "  quality: {spearman: 0.8}\n  latency", "14:23", "× 100", "spearman: 80"),
        (
            "  latency",
            "  quality: {top1: 0.9}\n  latency",
            "14:13",
            "not measured for the task",
            "cosine",
        ),
    ],
)
def test_one_mistake_is_one_problem(
    tmp_path: Path, old: str, new: str, where: str, what: str, remedy: str
) -> None:
    assert old in GOOD
    _, problems = load(tmp_path, GOOD.replace(old, new, 1))
    assert [problem.where for problem in problems] == [where], problems
    assert what in problems[0].what
    assert remedy in problems[0].remedy


def test_missing_data_are_missed_where_they_are_needed(tmp_path: Path) -> None:
    text = GOOD.replace("default: int8", "default: [int8, int8-static, int4]")
    start, end = text.index("data:"), text.index("quantize:")
    text = text[:start] + text[end:] + "  quality: {cosine: 0.9}\n"
    _, problems = load(tmp_path, text)
    assert [problem.what.split(":")[0] for problem in problems] == [
        "quantize.default[1]",
        "quantize.default[2]",
        "budgets.quality.cosine",
    ]


@pytest.mark.parametrize(
    ("rules", "decided"),
    [
        (["{match: a, use: int8}", "{match: a, use: int4}"], True),
        (["{match: '*', use: int8}", "{match: b, use: int4}"], True),
        (["{match: a, use: int8, variants: [int8-dynamic]}", "{match: a, use: int4}"], False),
        (["{match: a, use: int8}", "{match: a, use: int4, variants: [int8-dynamic]}"], True),
        (["{match: a, use: int8}", "{match: '*', use: int4}"], False),
        (
            [
                "{match: a, use: int8, variants: [int8-dynamic]}",
                "{match: a, use: int4, variants: [int4-b32]}",
            ],
            False,
        ),
    ],
)
def test_a_rule_that_can_never_apply(tmp_path: Path, rules: list[str], decided: bool) -> None:
    lines = "".join(f"    - {rule}\n" for rule in rules)
    text = GOOD.replace("default: int8", "default: [int8, int4]")
    _, problems = load(tmp_path, text.replace('    - {match: "*.bias", use: float32}\n', lines))
    assert [problem.where for problem in problems] == (["11:7"] if decided else [])
    assert all("decided by an earlier rule" in problem.what for problem in problems)


INDEPENDENT = {
    "name: mini": ("nmae: mini\nname: mini", "unknown key 'nmae'"),
    "default: int8": ("default: int9", "'int9' is not a valid value"),
    "format: onnx": ("format: onxx", "did you mean 'onnx'?"),
    "calibration.txt": ("evaluation.tsv", "in the calibration data too"),
    "40 ms": ("40", "'40' has no unit"),
    "task: sentence-embedding": ("task: sentence-embeding", "did you mean 'sentence-embedding'?"),
    "[here]": ("[here, here]", "'here' is listed twice"),
}


@given(st.sets(st.sampled_from(sorted(INDEPENDENT))))
def test_independent_mistakes_are_told_at_once(tmp_path_factory: Any, chosen: set[str]) -> None:
    # A format that is not known cannot tell whether a device is listed twice for it.
    chosen -= {"[here]"} if "format: onnx" in chosen else set()
    text = GOOD
    for old in chosen:
        text = text.replace(old, INDEPENDENT[old][0], 1)
    _, problems = load(tmp_path_factory.mktemp("recipe"), text)
    told = "\n".join(map(str, problems))
    assert len(problems) == len(chosen), told
    assert all(INDEPENDENT[old][1] in told for old in chosen)


def test_the_first_rule_that_matches_decides(tmp_path: Path) -> None:
    rules = """\
    - {match: "*.bias", use: float32, variants: [int4-b32]}
    - {match: "a.*", use: int8-b32}
"""
    text = GOOD.replace('    - {match: "*.bias", use: float32}\n', rules)
    recipe, problems = load(tmp_path, text.replace("default: int8", "default: [int8, int4]"))
    assert recipe is not None
    assert problems == []
    int8, int4 = recipe.quantize.intents("onnx", "sentence-embedding")
    assert int4.exception("a.bias") == ("rule 1: *.bias", "float32")
    assert int8.exception("a.bias") == ("rule 2: a.*", "int8-b32")
    assert int8.exception("b.bias") is None


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("package:gt-all", Source(kind="package", value="gt-all")),
        ("hub:a/b.c@v1.0", Source(kind="hub", value="a/b.c", revision="v1.0")),
        ("./model.onnx", Source(kind="file", value="./model.onnx")),
        ("models/x", Source(kind="directory", value="models/x")),
        ("C:\\models", Source(kind="directory", value="C:\\models")),
    ],
)
def test_sources(text: str, source: Source) -> None:
    assert parse_source(text) == source
    assert str(source) == text


@given(st.text(max_size=30))
def test_any_source_is_understood_or_refused(text: str) -> None:
    try:
        source = parse_source(text)
    except PydanticCustomError as refusal:
        assert refusal.context is not None
        assert refusal.context["remedy"]
    else:
        assert parse_source(str(source)) == source


def test_the_schema_serves_editors() -> None:
    schema = recipe_schema()
    models = [each for each in schema["$defs"].values() if each["type"] == "object"]
    for branch, model in (("then", "PartsRecipe"), ("else", "Recipe")):
        assert schema[branch] == {"$ref": f"#/$defs/{model}"}
    assert all(model["additionalProperties"] is False for model in models)
    fields = [field for model in models for field in model["properties"].values()]
    assert all(field.get("description") for field in fields)
    single, several = schema["$defs"]["QuantizeSpec"]["properties"]["default"]["anyOf"]
    assert single == several["items"]
    words = next(branch["enum"] for branch in single["oneOf"] if "enum" in branch)
    assert {"int8", "int4", "int8-dynamic", "int8-static", "int4-b32"} <= set(words)
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("recipe", "known"),
    [
        ({"edgeq": 1, "name": "a", "parts": {"eye": "eye.yaml"}}, True),
        ({"edgeq": 1, "name": "a", "parts": {"eye": {"recipe": "eye.yaml", "runs": 2}}}, True),
        ({"edgeq": 1, "name": "a", "parts": {"eye": "eye.yaml"}, "targets": []}, False),
        ({"edgeq": 1, "name": "a", "targets": []}, False),
    ],
)
def test_editors_know_recipes_of_parts(recipe: dict[str, Any], known: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(recipe_schema())
    assert validator.is_valid(recipe) == known
