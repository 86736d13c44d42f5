"""A reranker from its directory to an order: that of transformers for the same pairs."""

from __future__ import annotations

import itertools
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
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.first_recipe import write_first_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.run import Reranked, run_texts
from edgeq.pipeline.workflow import BundleRequest, build_recipe, bundle_recipe
from tests.support.tiny_bert import config, save_bert, sentence, write_recipe

RECIPE = """\
edgeq: 1
name: judge
model: {source: judge, task: reranking}
data:
  calibration: {path: calibration.tsv}
  evaluation: {path: evaluation.tsv}
quantize:
  default: [float32, int8-dynamic]
targets:
  - {format: onnx, devices: [here]}
budgets:
  quality: {order: 70 %, ndcg_drop: 20 %}
"""
QUERIES = [sentence(900 + seed, 3 + seed % 5) for seed in range(24)]
# The last text of each query is longer than the model's limit, with the query.
PAIRS = [
    (query, sentence(50 * index + number, 4 + 9 * number))
    for index, query in enumerate(QUERIES)
    for number in range(6)
]


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def scores(directory: Path, pairs: list[tuple[str, str]]) -> np.ndarray:
    """By transformers' own classes."""
    network = transformers.AutoModelForSequenceClassification.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    found = []
    with torch.inference_mode():
        for query, text in pairs:
            feed = tokenizer(
                query, text, truncation=True, max_length=48, padding=False, return_tensors="pt"
            )
            found.append(network(**feed).logits)
    return np.asarray(torch.cat(found).numpy()[:, 0])


def save(directory: Path) -> Path:
    torch.manual_seed(5)
    settings = config(num_labels=1)
    return save_bert(directory, model=transformers.BertForSequenceClassification(settings))


@dataclass(frozen=True)
class Judge:
    """A recipe of a reranker, and what was built of it by variant."""

    recipe: Path
    source: Path
    wanted: np.ndarray
    relevance: np.ndarray
    built: dict[str, Built]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    folder = tmp_path_factory.mktemp("judge")
    source = save(folder / "judge")
    wanted = scores(source, PAIRS)
    noise = np.random.default_rng(1).normal(0, wanted.std() / 2, len(wanted))
    relevance = np.clip(np.rint(2 * (wanted + noise - wanted.mean()) / wanted.std()), 0, 3)
    rows = [
        f"{query}\t{text}\t{rank:g}" for (query, text), rank in zip(PAIRS, relevance, strict=True)
    ]
    (folder / "evaluation.tsv").write_text("\n".join(["query\ttext\trelevance", *rows]) + "\n")
    own = [f"{sentence(i, 3)}\t{sentence(7000 + i, 9)}" for i in range(24)]
    (folder / "calibration.tsv").write_text("\n".join(["query\ttext", *own]) + "\n")
    recipe = write_recipe(folder / "judge.yaml", RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        built = {item.artifact.variant: item for item in build_recipe(recipe, None, quiet)}
        yield Judge(recipe, source, wanted, relevance, built)


def own_scores(path: Path) -> np.ndarray:
    """By the verb, query by query."""
    model = edgeq.load(path)
    found = []
    for query, group in itertools.groupby(PAIRS, key=lambda pair: pair[0]):
        texts = [text for _, text in group]
        ranked = model.rank(query, texts)
        assert [each.score for each in ranked] == sorted((r.score for r in ranked), reverse=True)
        assert all(each.text == texts[each.index] for each in ranked)
        found += [each.score for each in sorted(ranked, key=lambda each: each.index)]
    return np.array(found)


def test_float_scores_are_those_of_transformers(judge: Judge) -> None:
    assert own_scores(judge.built["float32"].path) == pytest.approx(judge.wanted, abs=1e-5)


def test_a_verdict_counts_pairs_in_order(judge: Judge) -> None:
    metrics = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    (verdict,) = check_recipe(judge.recipe, ["here"], False, quiet, names=("onnx-int8-dynamic",))
    own = own_scores(judge.built["int8-dynamic"].path).reshape(24, 6)
    original = judge.wanted.reshape(24, 6)
    taus = [metrics.kendalltau(a, b).statistic for a, b in zip(own, original, strict=True)]
    lines = {line.budget: line for line in verdict.lines}
    assert lines["quality.order"].value == pytest.approx((1 + np.mean(taus)) / 2)
    assert np.mean(taus) < 1
    assert lines["quality.order"].status == "pass"
    quality = verdict.measurement.quality
    assert quality is not None
    assert quality.scores["order"].samples == 24
    ndcg = quality.scores["ndcg"]
    assert ndcg.original is not None
    assert lines["quality.ndcg_drop"].value == pytest.approx(ndcg.original - ndcg.value)


def test_the_bundle_says_how_a_pair_is_read(judge: Judge) -> None:
    out = judge.recipe.parent / "judge.zip"
    bundle_recipe(
        BundleRequest(judge.recipe, out, artifact="onnx-int8-dynamic", allow_unchecked=True), quiet
    )
    query, texts = QUERIES[0], [text for _, text in PAIRS[:6]]
    (bundled, unbundled) = (
        edgeq.load(path).rank(query, texts) for path in (out, judge.built["int8-dynamic"].path)
    )
    assert bundled == unbundled
    found = run_texts(out, [query, *texts])
    assert isinstance(found, Reranked)
    assert list(found.ranked) == bundled
    with zipfile.ZipFile(out) as archive:
        assert "Query and text go into one call" in archive.read("README.md").decode()
        cases = json.loads(archive.read("selftest.json"))["cases"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(judge.source)
    for case in cases:
        given = tokenizer(case["query"], case["text"], truncation=True, max_length=48)
        assert case["token_ids"] == given["input_ids"][: len(case["token_ids"])]
        assert len(case["token_ids"]) == sum(given["attention_mask"])


def test_core_ml_gives_the_scores_of_transformers(judge: Judge) -> None:
    other = RECIPE[: RECIPE.index("budgets")].replace("format: onnx", "format: coreml")
    other = other.replace("[float32, int8-dynamic]", "float32").replace("[here]", "[iphone-14]")
    (built,) = build_recipe(write_recipe(judge.recipe.parent / "phone.yaml", other), None, quiet)
    found = edgeq.load(built.path).rank(QUERIES[0], [text for _, text in PAIRS[:6]])
    own = [each.score for each in sorted(found, key=lambda each: each.index)]
    assert own == pytest.approx(judge.wanted[:6].tolist(), abs=1e-3)
    swift = file_format("coreml").extras(built.path, built.artifact)["EdgeqModel.swift"].decode()
    assert "repeating: 0" not in swift  # types of a pair's tokens are the app's to give


def test_a_first_recipe_tells_a_reranker_from_a_classifier(judge: Judge, tmp_path: Path) -> None:
    assert write_first_recipe(str(judge.source), ["here"], tmp_path / "a.yaml").task == "reranking"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("task: reranking", "task: text-classification", "one label"),
        ("quality: {order: 70 %", "quality: {agreement: 70 %", "not measured for the task"),
        ("path: evaluation.tsv", "path: plain.tsv", "holds no queries with texts"),
        ("path: evaluation.tsv", "path: odd.tsv", "the relevance 'high' is not a number"),
    ],
)
def test_what_does_not_fit_is_refused(judge: Judge, old: str, new: str, what: str) -> None:
    folder = judge.recipe.parent
    (folder / "plain.tsv").write_text("text\nba be\n")
    (folder / "odd.tsv").write_text("query\ttext\trelevance\nba be\tbi bo\thigh\n")
    with pytest.raises(InvalidInput, match=what):
        make_plan(write_recipe(folder / "wrong.yaml", RECIPE.replace(old, new)))


def test_a_classifier_of_several_labels_is_no_reranker(judge: Judge, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"id2label": {0: "a", 1: "b"}}
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config(**settings))
    save_bert(judge.recipe.parent / "other", model=model)
    recipe = write_recipe(judge.recipe.parent / "o.yaml", RECIPE.replace("judge,", "other,"))
    with pytest.raises(InvalidInput, match="has 2 labels"):
        make_plan(recipe)
