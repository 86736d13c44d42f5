"""A classifier from its directory to labels: those of transformers for the same texts."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
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
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.run import Labelled, run_texts
from edgeq.pipeline.workflow import BundleRequest, build_recipe, bundle_recipe
from edgeq.report.answers import print_labels
from edgeq.report.console import Console
from edgeq.report.explain.measured import facts_of
from edgeq.report.explain.piece import write
from edgeq.report.page.gather import report_of
from edgeq.report.page.render import render
from tests.support.tiny_bert import config, save_bert, sentence, write_recipe

LABELS = ("praise", "complaint", "question")
RECIPE = """\
edgeq: 1
name: mood
model: {source: mood, task: text-classification}
data:
  calibration: {path: calibration.txt}
  evaluation: {path: evaluation.tsv}
quantize:
  default: [float32, int8-dynamic]
targets:
  - {format: onnx, devices: [here]}
budgets:
  quality: {agreement: 80 %, accuracy_drop: 20 %}
"""
TEXTS = [sentence(500 + seed, 4 + seed % 9) for seed in range(80)]


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def logits(directory: Path, texts: list[str]) -> np.ndarray:
    """By transformers' own classes."""
    network = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    with torch.inference_mode():
        rows = [
            network(**tokenizer(text, padding=False, return_tensors="pt")).logits for text in texts
        ]
    return np.asarray(torch.cat(rows))


def save(directory: Path, **changes: Any) -> Path:
    """A small classifier of random weights whose answers are of all kinds."""
    torch.manual_seed(3)
    names = dict(enumerate(LABELS))
    settings = config(id2label=names, label2id={name: i for i, name in names.items()}, **changes)
    model = transformers.BertForSequenceClassification(settings)
    save_bert(directory, model=model)
    middle = logits(directory, TEXTS[:40]).mean(0)
    with torch.no_grad():
        model.classifier.bias -= torch.from_numpy(middle)
    return save_bert(directory, model=model)


@dataclass(frozen=True)
class Mood:
    """A recipe of a classifier, and what was built of it by variant."""

    recipe: Path
    source: Path
    truth: tuple[str, ...]
    built: dict[str, Built]


@pytest.fixture(scope="module")
def mood(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mood]:
    folder = tmp_path_factory.mktemp("mood")
    source = save(folder / "mood")
    given = [LABELS[index] for index in logits(source, TEXTS).argmax(1)]
    assert set(given) == set(LABELS)
    # Every fifth label is another one, so that the original is right in 80 %.
    truth = tuple(
        LABELS[(LABELS.index(label) + 1) % 3] if index % 5 == 0 else label
        for index, label in enumerate(given)
    )
    rows = [f"{text}\t{label}" for text, label in zip(TEXTS, truth, strict=True)]
    (folder / "evaluation.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    (folder / "calibration.txt").write_text("\n".join(sentence(i, 9) for i in range(24)) + "\n")
    recipe = write_recipe(folder / "mood.yaml", RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        built = {item.artifact.variant: item for item in build_recipe(recipe, None, quiet)}
        yield Mood(recipe, source, truth, built)


def test_float_answers_are_those_of_transformers(mood: Mood) -> None:
    found = edgeq.load(mood.built["float32"].path).classify(TEXTS)
    wanted = torch.softmax(torch.from_numpy(logits(mood.source, TEXTS)), -1).numpy()
    given = np.array([[each.probabilities[name] for name in LABELS] for each in found])
    assert given == pytest.approx(wanted, abs=1e-5)
    assert [each.label for each in found] == [LABELS[index] for index in wanted.argmax(1)]
    assert all(each.labels == (each.label,) for each in found)


def test_the_plan_knows_what_the_file_holds(mood: Mood) -> None:
    planned = {item.name: item for item in make_plan(mood.recipe).plan.artifacts}
    for item in mood.built.values():
        tensors = {t.name: (t.number_format, t.bytes) for t in planned[item.artifact.name].tensors}
        recorded = {n: (r.number_format, r.bytes) for n, r in item.artifact.tensors.items()}
        assert recorded == {name: tensors[name] for name in recorded}
        assert "bert.pooler.dense.weight" in recorded


def test_a_verdict_counts_labels(mood: Mood) -> None:
    names = ("onnx-int8-dynamic",)
    (verdict,) = check_recipe(mood.recipe, ["here"], False, quiet, names=names)
    own = edgeq.load(mood.built["int8-dynamic"].path).classify(TEXTS)
    original = [LABELS[index] for index in logits(mood.source, TEXTS).argmax(1)]
    kept = np.mean([each.label == label for each, label in zip(own, original, strict=True)])
    right = np.mean([each.label == label for each, label in zip(own, mood.truth, strict=True)])
    lines = {line.budget: line for line in verdict.lines}
    assert lines["quality.agreement"].value == pytest.approx(kept)
    assert lines["quality.accuracy_drop"].value == pytest.approx(0.8 - right)
    assert lines["quality.agreement"].status == lines["quality.accuracy_drop"].status == "pass"
    quality = verdict.measurement.quality
    assert quality is not None
    assert quality.scores["accuracy"].original == pytest.approx(0.8)
    changed = round(80 * (1 - kept))
    assert len(quality.changed) == min(8, changed)
    alone = RECIPE.replace("[float32, int8-dynamic]", "int8-dynamic")
    report = report_of(write_recipe(mood.recipe.parent / "alone.yaml", alone), ["here"], quiet)
    assert f"to {changed} of 80 texts" in write(facts_of(report)).piece.text
    page = render(report)
    assert all(f'<th scope="row">{change.text}</th>' in page for change in quality.changed)
    assert quality.confused
    assert all(f"<td>{each.given}</td>" in page for each in quality.confused)


def test_the_bundle_gives_the_same_labels(mood: Mood) -> None:
    out = mood.recipe.parent / "mood.zip"
    bundle_recipe(
        BundleRequest(mood.recipe, out, artifact="onnx-int8-dynamic", allow_unchecked=True), quiet
    )
    (bundled, unbundled) = (
        edgeq.load(path).classify(TEXTS[:9]) for path in (out, mood.built["int8-dynamic"].path)
    )
    assert bundled == unbundled
    with zipfile.ZipFile(out) as archive:
        readme = archive.read("README.md").decode()
    assert "in this order: `praise`, `complaint`, `question`" in readme


def test_a_classifier_has_the_verbs_of_its_task(mood: Mood) -> None:
    model = edgeq.load(mood.built["float32"].path)
    with pytest.raises(InvalidInput, match=r"no embed\(\)") as raised:
        model.embed(["a text"])
    assert raised.value.problems[0].remedy == "use classify() or run()"
    with pytest.raises(InvalidInput, match="give a list: "):
        model.classify("a text")


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda c: c.update(id2label={"0": "a", "2": "b"}), "each number from 0"),
        (lambda c: c.update(id2label={"0": "a", "1": "a"}), "the same label"),
        (lambda c: c.update(id2label={"0": "a"}), "one label"),
        (lambda c: c.update(problem_type="regression"), "does not give labels"),
        (lambda c: c.update(architectures=["BertModel"]), "its task is sentence-embedding"),
    ],
)
def test_what_is_no_classifier_is_refused(
    mood: Mood, tmp_path: Path, edit: Callable[[dict[str, Any]], None], what: str
) -> None:
    shutil.copytree(mood.recipe.parent, tmp_path / "other")
    path = tmp_path / "other" / "mood" / "config.json"
    settings: dict[str, Any] = json.loads(path.read_text())
    edit(settings)
    path.write_text(json.dumps(settings))
    with pytest.raises(InvalidInput, match=what):
        make_plan(tmp_path / "other" / "mood.yaml")


def test_a_classifier_as_sentence_encoder_is_told_its_task(mood: Mood) -> None:
    other = RECIPE.replace("text-classification", "sentence-embedding")
    other = other[: other.index("budgets")]
    with pytest.raises(InvalidInput) as raised:
        make_plan(write_recipe(mood.recipe.parent / "beheaded.yaml", other))
    assert "task: text-classification" in raised.value.problems[0].remedy


def test_a_label_that_the_model_does_not_know_is_refused(mood: Mood) -> None:
    folder = mood.recipe.parent
    (folder / "wrong.tsv").write_text("text\tlabel\nba be\tprais\n")
    other = RECIPE.replace("evaluation.tsv", "wrong.tsv").replace(", int8-dynamic", "")
    with pytest.raises(InvalidInput, match="'prais' is not one of the model's") as raised:
        check_recipe(write_recipe(folder / "wrong.yaml", other), ["here"], False, quiet)
    assert raised.value.problems[0].remedy == "did you mean 'praise'?"


def test_core_ml_gives_the_labels_of_transformers(mood: Mood) -> None:
    other = RECIPE[: RECIPE.index("budgets")].replace("format: onnx", "format: coreml")
    other = other.replace("[float32, int8-dynamic]", "float32").replace("[here]", "[iphone-14]")
    (built,) = build_recipe(write_recipe(mood.recipe.parent / "phone.yaml", other), None, quiet)
    found = edgeq.load(built.path).classify(TEXTS[:20])
    wanted = torch.softmax(torch.from_numpy(logits(mood.source, TEXTS[:20])), -1).numpy()
    given = np.array([[each.probabilities[name] for name in LABELS] for each in found])
    assert given == pytest.approx(wanted, abs=1e-4)
    swift = file_format("coreml").extras(built.path, built.artifact)["EdgeqModel.swift"].decode()
    assert 'static let labels = ["praise", "complaint", "question"]' in swift
    assert "func scores(of tokens: [Int])" in swift


def test_the_command_prints_labels(mood: Mood) -> None:
    path = mood.built["float32"].path
    found = run_texts(path, TEXTS[:3])
    assert isinstance(found, Labelled)
    shown = io.StringIO()
    print_labels(found, Console(file=shown, width=120))
    for text, answer in zip(TEXTS, edgeq.load(path).classify(TEXTS[:3]), strict=False):
        chance = answer.probabilities[answer.label]
        assert re.search(rf"{answer.label} +{chance:.4f} +{text}", shown.getvalue())


def test_labels_of_several_at_a_time_have_a_threshold_each(tmp_path: Path) -> None:
    source = save(tmp_path / "several", problem_type="multi_label_classification")
    recipe = RECIPE[: RECIPE.index("budgets")]
    for old, new in (("mood,", "several,"), ("[float32, int8-dynamic]", "float32")):
        recipe = recipe.replace(old, new)
    recipe = recipe.replace("  evaluation: {path: evaluation.tsv}\n", "")
    (tmp_path / "calibration.txt").write_text("ba be bi\n")
    (built,) = build_recipe(write_recipe(tmp_path / "several.yaml", recipe), None, quiet)
    found = edgeq.load(built.path).classify(TEXTS)
    chances = torch.sigmoid(torch.from_numpy(logits(source, TEXTS))).numpy()
    wanted = [tuple(n for n, p in zip(LABELS, row, strict=True) if p >= 0.5) for row in chances]
    assert [each.labels for each in found] == wanted
    assert {len(each.labels) for each in found} > {1}
    given = np.array([[each.probabilities[name] for name in LABELS] for each in found])
    assert given == pytest.approx(chances, abs=1e-5)
