"""A tagger from its directory to labelled parts: those of transformers' pipeline."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("optimum", reason="the build side is not installed")

import torch
import transformers

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.formats.registry import file_format
from edgeq.pipeline.check import workflow
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.first_recipe import write_first_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.run import Tagged, run_texts
from edgeq.pipeline.workflow import BundleRequest, build_recipe, bundle_recipe
from edgeq.report.answers import print_tags
from edgeq.report.console import Console
from tests.support.tiny_bert import LONGEST, config, save_bert, sentence, write_recipe

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
RECIPE = """\
edgeq: 1
name: names
model: {source: names, task: token-classification}
data:
  calibration: {path: calibration.txt}
  evaluation: {path: evaluation.jsonl}
quantize:
  default: [float32, int8-dynamic]
targets:
  - {format: onnx, devices: [here]}
budgets:
  quality: {agreement: 70 %, f1_drop: 30 %}
"""
# The last is longer than the model's limit.
TEXTS = [sentence(300 + seed, 4 + seed % 9) for seed in range(30)] + [sentence(7, 90)]
Part = tuple[int, int, str]


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def parts(directory: Path, texts: list[str], aggregation: str = "simple") -> list[list[Any]]:
    """By transformers' own pipeline."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, model_max_length=LONGEST)
    network = transformers.AutoModelForTokenClassification.from_pretrained(directory).eval()
    pipeline = transformers.TokenClassificationPipeline(
        model=network, tokenizer=tokenizer, framework="pt", aggregation_strategy=aggregation
    )
    return [pipeline(text) for text in texts]


def places(found: list[Any]) -> set[Part]:
    return {(part["start"], part["end"], part["entity_group"]) for part in found}


def token_labels(directory: Path, text: str) -> np.ndarray:
    """Of the text's own tokens, by transformers' own classes."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    network = transformers.AutoModelForTokenClassification.from_pretrained(directory).eval()
    feed = tokenizer(text, truncation=True, max_length=LONGEST, padding=False, return_tensors="pt")
    with torch.inference_mode():
        return np.asarray(network(**feed).logits[0, 1:-1].argmax(-1))


@dataclass(frozen=True)
class Names:
    """A recipe of a tagger, and what was built of it by variant."""

    recipe: Path
    source: Path
    wanted: list[set[Part]]
    truth: list[set[Part]]
    built: dict[str, Path]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    root = tmp_path_factory.mktemp("names")
    torch.manual_seed(4)
    named = dict(enumerate(LABELS))
    settings = config(id2label=named, label2id={name: i for i, name in named.items()})
    model = transformers.BertForTokenClassification(settings)
    source = save_bert(root / "names", model=model)
    wanted = [places(found) for found in parts(source, TEXTS)]
    assert {label for each in wanted for *_, label in each} == {"PER", "LOC"}
    # Every fourth part is not a right one.
    truth = [{part for part in each if sum(part[:2]) % 4} for each in wanted]
    rows = [
        {"text": text, "entities": [{"start": a, "end": b, "label": c} for a, b, c in each]}
        for text, each in zip(TEXTS, truth, strict=True)
    ]
    (root / "evaluation.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (root / "calibration.txt").write_text("\n".join(sentence(i, 9) for i in range(24)) + "\n")
    recipe = write_recipe(root / "names.yaml", RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        # Emulated CPUs take a minute, and tests of their own.
        patch.setattr(workflow, "_comparison", lambda *_: contextlib.nullcontext())
        built = {item.artifact.variant: item.path for item in build_recipe(recipe, None, quiet)}
        yield Names(recipe, source, wanted, truth, built)


def own_parts(path: Path, texts: list[str] = TEXTS) -> list[set[Part]]:
    return [
        {(part.start, part.end, part.label) for part in each}
        for each in edgeq.load(path).tag(texts)
    ]


def f1(found: list[set[Part]], truth: list[set[Part]]) -> float:
    hits = sum(len(a & b) for a, b in zip(found, truth, strict=True))
    return 2 * hits / (sum(map(len, found)) + sum(map(len, truth)))


def test_float_parts_are_those_of_the_pipeline(names: Names) -> None:
    model = edgeq.load(names.built["float32"])
    for text, found in zip(TEXTS, parts(names.source, TEXTS, "average"), strict=True):
        (own,) = model.tag([text], aggregation="average")
        assert [(each.start, each.end, each.label) for each in own] == [
            (each["start"], each["end"], each["entity_group"]) for each in found
        ]
        scores = [float(each["score"]) for each in found]
        assert [each.score for each in own] == pytest.approx(scores, abs=1e-5)
    assert own_parts(names.built["float32"]) == names.wanted


def test_a_verdict_counts_tokens_and_parts(names: Names) -> None:
    (verdict,) = check_recipe(names.recipe, ["here"], False, quiet, names=("onnx-int8-dynamic",))
    path = names.built["int8-dynamic"]
    model, own = edgeq.load(path), own_parts(path)
    same = total = 0
    for text in TEXTS:
        feeds = model.tokenize(text)
        found = model.run(feeds)["logits"][0, 1:-1].argmax(-1)
        wanted = token_labels(names.source, text)
        same, total = same + int((found == wanted).sum()), total + len(wanted)
    lines = {line.budget: line for line in verdict.lines}
    assert lines["quality.agreement"].value == pytest.approx(same / total)
    drop = f1(names.wanted, names.truth) - f1(own, names.truth)
    assert lines["quality.f1_drop"].value == pytest.approx(drop)
    quality = verdict.measurement.quality
    assert quality is not None
    assert quality.scores["agreement"].samples == total
    assert quality.scores["f1"].original == pytest.approx(f1(names.wanted, names.truth))
    differ = [text for text, a, b in zip(TEXTS, own, names.wanted, strict=True) if a != b]
    assert [change.text for change in quality.changed] == differ[:8]


def test_the_bundle_says_how_tokens_become_parts(names: Names) -> None:
    out = names.recipe.parent / "names.zip"
    bundle_recipe(
        BundleRequest(names.recipe, out, artifact="onnx-int8-dynamic", allow_unchecked=True), quiet
    )
    assert own_parts(out, TEXTS[:5]) == own_parts(names.built["int8-dynamic"], TEXTS[:5])
    with zipfile.ZipFile(out) as archive:
        readme = archive.read("README.md").decode()
    assert "one score for each token and label" in readme
    assert "`O`, `B-PER`, `I-PER`, `B-LOC`, `I-LOC`" in readme
    found = run_texts(out, TEXTS[:2])
    assert isinstance(found, Tagged)
    shown = io.StringIO()
    print_tags(found, Console(file=shown, width=120))
    part = next(part for each in found.answers for part in each)
    assert f"{part.score:.4f}" in shown.getvalue()


@pytest.mark.parametrize("format", ["coreml", "coreai"])
def test_apples_formats_give_the_same_parts(names: Names, format: str) -> None:
    if format == "coreai":
        pytest.importorskip("coreai", reason="Core AI is not installed")
    other = RECIPE[: RECIPE.index("budgets")].replace("format: onnx", f"format: {format}")
    device = {"coreml": "iphone-14", "coreai": "iphone-15-pro-ios27"}[format]
    other = other.replace("[float32, int8-dynamic]", "float32").replace("here", device)
    (built,) = build_recipe(
        write_recipe(names.recipe.parent / f"{format}.yaml", other), None, quiet
    )
    assert own_parts(built.path, TEXTS[-6:]) == names.wanted[-6:]
    if format == "coreml":
        extras = file_format("coreml").extras(built.path, built.artifact)
        swift = extras["EdgeqModel.swift"].decode()
        assert 'static let labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]' in swift
        assert "prefix(tokens.count * Self.labels.count)" in swift


def test_an_onnx_file_gives_the_same_parts(names: Names) -> None:
    """Its own float file, as a file of somebody else."""
    model = f"{{source: {names.built['float32'] / 'model.onnx'}, task: token-classification, "
    model += f"tokenizer: names, labels: [{', '.join(LABELS)}]}}"
    other = RECIPE[: RECIPE.index("budgets")].replace(
        "{source: names, task: token-classification}", model
    )
    other = other.replace("[float32, int8-dynamic]", "float32")
    (built,) = build_recipe(write_recipe(names.recipe.parent / "file.yaml", other), None, quiet)
    assert own_parts(built.path) == names.wanted


def test_a_first_recipe_tells_a_tagger(names: Names, tmp_path: Path) -> None:
    written = write_first_recipe(str(names.source), ["here"], tmp_path / "a.yaml")
    assert written.task == "token-classification"


def test_a_tagger_has_the_verbs_of_its_task(names: Names) -> None:
    model = edgeq.load(names.built["float32"])
    with pytest.raises(InvalidInput, match=r"no classify\(\)") as raised:
        model.classify(["a text"])
    assert raised.value.problems[0].remedy == "use tag() or run()"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "ba be", "entities": [{"start": 0, "end": 9, "label": "PER"}]}', "5 characters"),
        ('{"text": "ba be", "entities": [{"start": 0, "end": 2}]}', "is not a part"),
        ('{"text": "ba be"}', "no list 'entities'"),
        ('{"words": ["ba"]}', "has no text"),
        ('["ba"]', "not a JSON object"),
        ("ba be", "is not JSON"),
    ],
)
def test_a_wrong_line_is_named(names: Names, line: str, what: str) -> None:
    folder = names.recipe.parent
    (folder / "wrong.jsonl").write_text(f'{{"text": "bo", "entities": []}}\n{line}\n')
    with pytest.raises(InvalidInput, match=what) as raised:
        make_plan(write_recipe(folder / "w.yaml", RECIPE.replace("evaluation.json", "wrong.json")))
    assert "wrong.jsonl:2" in raised.value.problems[0].what


def test_a_label_that_the_model_does_not_know_is_refused(names: Names) -> None:
    folder = names.recipe.parent
    row = {"text": "bo ba", "entities": [{"start": 0, "end": 2, "label": "B-PER"}]}
    (folder / "odd.jsonl").write_text(json.dumps(row) + "\n")
    other = RECIPE.replace("evaluation.json", "odd.json").replace(", int8-dynamic", "")
    with pytest.raises(InvalidInput, match="'B-PER' is not one of the model's") as raised:
        check_recipe(write_recipe(folder / "odd.yaml", other), ["here"], False, quiet)
    assert "'PER'" in raised.value.problems[0].remedy
