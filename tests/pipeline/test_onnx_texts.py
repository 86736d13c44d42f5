"""Models of texts in .onnx files: answers are those of the file, by transformers' tokenizer."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("optimum", reason="the build side is not installed")

import onnx_ir as ir
import torch
import transformers

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import SENTENCE_EMBEDDING
from edgeq.models.sentence_head import SentenceHead
from edgeq.pipeline.check import workflow
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.first_recipe import write_first_recipe
from edgeq.pipeline.plan.interface import _require_head
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import BundleRequest, build_recipe, bundle_recipe
from tests.support.tiny_bert import LONGEST, config, save_bert, sentence, write_head, write_recipe

LABELS = ("praise", "complaint", "question")
RECIPE = """\
edgeq: 1
name: mood
model:
  source: exported/model.onnx
  task: text-classification
  tokenizer: exported
  labels: [praise, complaint, question]
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
TEXTS = [sentence(500 + seed, 4 + seed % 9) for seed in range(40)] + [sentence(1, 90)]


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def export(model: Any, task: str, folder: Path) -> Path:
    """The file as optimum writes it, with tokenizer and config.json next to it."""
    from optimum.exporters.onnx import onnx_export_from_model

    save_bert(folder, model=model)
    with contextlib.redirect_stdout(io.StringIO()):
        onnx_export_from_model(model.eval(), folder, task=task, do_validation=False)
    (folder / "model.safetensors").unlink()
    return folder


def answers(folder: Path, *texts: tuple[str, ...]) -> list[np.ndarray]:
    """Of the file in onnxruntime, on token ids by transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    names = [value.name for value in session.get_inputs()]
    found = []
    for text in texts:
        feed = tokenizer(*text, truncation=True, max_length=LONGEST, padding=False)
        ready = {name: np.array([feed[name]], np.int64) for name in names}
        found.append(session.run(None, ready)[0])
    return found


@dataclass(frozen=True)
class Mood:
    """A classifier's file, and what was built of it by variant."""

    recipe: Path
    folder: Path
    logits: np.ndarray
    built: dict[str, Path]


@pytest.fixture(scope="module")
def mood(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mood]:
    root = tmp_path_factory.mktemp("mood")
    torch.manual_seed(3)
    model = transformers.BertForSequenceClassification(config(num_labels=3))
    folder = export(model, "text-classification", root / "exported")
    logits = np.concatenate(answers(folder, *((text,) for text in TEXTS)))
    rows = [f"{text}\t{LABELS[i]}" for text, i in zip(TEXTS, logits.argmax(1), strict=True)]
    (root / "evaluation.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    (root / "calibration.txt").write_text("\n".join(sentence(i, 9) for i in range(24)) + "\n")
    recipe = write_recipe(root / "mood.yaml", RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        # Emulated CPUs take a minute, and tests of their own.
        patch.setattr(workflow, "_comparison", lambda *_: contextlib.nullcontext())
        built = {item.artifact.variant: item.path for item in build_recipe(recipe, None, quiet)}
        yield Mood(recipe, folder, logits, built)


def probabilities(path: Path, texts: list[str]) -> np.ndarray:
    found = edgeq.load(path).classify(texts)
    return np.array([[each.probabilities[name] for name in LABELS] for each in found])


def test_float_answers_are_those_of_the_file(mood: Mood) -> None:
    wanted = torch.softmax(torch.from_numpy(mood.logits), -1).numpy()
    assert probabilities(mood.built["float32"], TEXTS) == pytest.approx(wanted, abs=1e-5)


def test_a_verdict_compares_with_the_file(mood: Mood) -> None:
    (verdict,) = check_recipe(mood.recipe, ["here"], False, quiet, names=("onnx-int8-dynamic",))
    own = probabilities(mood.built["int8-dynamic"], TEXTS).argmax(1)
    kept = float((own == mood.logits.argmax(1)).mean())
    lines = {line.budget: line for line in verdict.lines}
    assert lines["quality.agreement"].value == pytest.approx(kept)
    assert lines["quality.accuracy_drop"].value == pytest.approx(1 - kept)
    assert "onnxruntime" in verdict.measurement.reference
    assert "largest relative difference" in verdict.measurement.proof


def test_the_bundle_has_tokenizer_and_labels(mood: Mood) -> None:
    out = mood.recipe.parent / "mood.zip"
    bundle_recipe(
        BundleRequest(mood.recipe, out, artifact="onnx-int8-dynamic", allow_unchecked=True), quiet
    )
    assert probabilities(out, TEXTS[-2:]) == pytest.approx(
        probabilities(mood.built["int8-dynamic"], TEXTS[-2:])
    )
    with zipfile.ZipFile(out) as archive:
        assert "tokenizer.json" in archive.namelist()
        cases = json.loads(archive.read("selftest.json"))["cases"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(mood.folder)
    for case in cases:
        wanted = tokenizer(case["text"], truncation=True, max_length=LONGEST, padding=False)
        assert case["token_ids"] == wanted["input_ids"]


def test_core_ml_gives_the_answers_of_the_file(mood: Mood) -> None:
    other = RECIPE[: RECIPE.index("budgets")].replace("format: onnx", "format: coreml")
    other = other.replace("[float32, int8-dynamic]", "[float32, int8]")
    other = other.replace("[here]", "[iphone-14]")
    recipe = write_recipe(mood.recipe.parent / "phone.yaml", other)
    wanted = torch.softmax(torch.from_numpy(mood.logits[-12:]), -1).numpy()
    for built, room in zip(build_recipe(recipe, None, quiet), (1e-4, 0.05), strict=True):
        assert probabilities(built.path, TEXTS[-12:]) == pytest.approx(wanted, abs=room)


def test_a_reranker_s_file_scores_pairs(mood: Mood) -> None:
    root = mood.recipe.parent
    model = transformers.BertForSequenceClassification(config(num_labels=1))
    folder = export(model, "text-classification", root / "judge")
    recipe = RECIPE[: RECIPE.index("  labels")] + "quantize: {default: float32}\n"
    recipe = recipe.replace("text-classification", "reranking").replace("exported", "judge")
    recipe += "targets:\n  - {format: onnx, devices: [here]}\n"
    (built,) = build_recipe(write_recipe(root / "judge.yaml", recipe), None, quiet)
    query, texts = TEXTS[0], TEXTS[-4:]
    found = sorted(edgeq.load(built.path).rank(query, texts), key=lambda each: each.index)
    wanted = [float(each[0, 0]) for each in answers(folder, *((query, text) for text in texts))]
    assert [each.score for each in found] == pytest.approx(wanted, abs=1e-5)


def test_token_vectors_become_one_vector_as_the_files_say(mood: Mood) -> None:
    root = mood.recipe.parent
    torch.manual_seed(2)
    folder = export(transformers.BertModel(config()), "feature-extraction", root / "search")
    recipe = RECIPE[: RECIPE.index("  labels")] + "quantize: {default: [float32, int8]}\n"
    recipe = recipe.replace("text-classification", "sentence-embedding")
    recipe = recipe.replace("exported", "search")
    recipe += "data: {evaluation: {path: evaluation.tsv}, calibration: {path: calibration.txt}}\n"
    recipe += "targets:\n  - {format: onnx, devices: [here]}\nbudgets: {quality: {cosine: 0.9}}\n"
    path = write_recipe(root / "search.yaml", recipe)
    with pytest.raises(InvalidInput, match=r"no modules\.json"):
        make_plan(path)
    write_head(folder, "mean")
    settings = {"prompts": {"query": "ba bo: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    built = build_recipe(path, None, quiet)
    found = edgeq.load(built[0].path).embed(TEXTS)
    tokens = answers(folder, *((f"ba bo: {text}",) for text in TEXTS))
    pooled = np.concatenate([each.mean(1) for each in tokens])
    wanted = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    assert found == pytest.approx(wanted, abs=1e-5)
    verdicts = check_recipe(path, ["here"], False, quiet)
    cosines = [{line.budget: line for line in each.lines}["quality.cosine"] for each in verdicts]
    assert [line.status for line in cosines] == ["pass", "pass"]
    # Reference and artifact read the same prompt.
    assert cosines[0].value == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("  tokenizer: exported\n", "", "needs 'tokenizer'"),
        ("  labels: [praise, complaint, question]\n", "", "needs 'labels'"),
        ("complaint, question]", "complaint]", "2 labels for the model's 3 classes"),
        ("tokenizer: exported", "tokenizer: nowhere", "no directory"),
        ("text-classification", "reranking", r"not one score|is for classifiers"),
        ("source: exported/model.onnx", "source: exported", "is for texts and an .onnx file"),
    ],
)
def test_what_does_not_fit_is_refused(mood: Mood, old: str, new: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        make_plan(write_recipe(mood.recipe.parent / "wrong.yaml", RECIPE.replace(old, new)))


def test_a_tokenizer_without_a_limit_is_refused(mood: Mood, tmp_path: Path) -> None:
    shutil.copytree(mood.folder, tmp_path / "exported")
    (tmp_path / "exported" / "config.json").unlink()
    for name in ("calibration.txt", "evaluation.tsv"):
        shutil.copy(mood.recipe.parent / name, tmp_path / name)
    path = write_recipe(tmp_path / "mood.yaml", RECIPE)
    with pytest.raises(InvalidInput, match="how many tokens") as raised:
        make_plan(path)
    assert '{"model_max_length": 512}' in raised.value.problems[0].remedy
    (tmp_path / "exported" / "tokenizer_config.json").write_text('{"model_max_length": 24}')
    text = make_plan(path).model.text
    assert text is not None
    assert text.max_tokens == 24


def test_a_first_recipe_repeats_the_files_next_to_it(mood: Mood) -> None:
    root = mood.recipe.parent
    config = json.loads((mood.folder / "config.json").read_text())
    named = {str(index): name for index, name in enumerate(LABELS)}
    (mood.folder / "config.json").write_text(json.dumps({**config, "id2label": named}))
    first = root / "first.yaml"
    given = (root / "calibration.txt", root / "evaluation.tsv")
    written = write_first_recipe(
        str(mood.folder / "model.onnx"), ["here"], first, calibration=given[0], evaluation=given[1]
    )
    assert written.task == "text-classification"
    assert written.missing == ()
    text = first.read_text()
    assert "tokenizer: exported" in text
    assert 'labels: ["praise", "complaint", "question"]' in text
    planned = make_plan(first)
    assert planned.model.classes is not None
    assert planned.model.classes.labels == LABELS


def test_a_dimension_keeps_the_first_values(mood: Mood) -> None:
    """Of a directory, whose original is cut as well."""
    library = pytest.importorskip("sentence_transformers", reason="it is not installed")
    models = importlib.import_module("sentence_transformers.models")
    root = mood.recipe.parent
    parts = models.Transformer(str(save_bert(root / "body", seed=6)))
    modules = [parts, models.Pooling(64, "mean"), models.Normalize()]
    library.SentenceTransformer(modules=modules, device="cpu").save(str(root / "matryoshka"))
    recipe = write_recipe(
        root / "matryoshka.yaml",
        """\
        edgeq: 1
        name: matryoshka
        model: {source: matryoshka, task: sentence-embedding, dimension: 16}
        data:
          calibration: {path: calibration.txt}
          evaluation: {path: evaluation.tsv}
        quantize: {default: float32}
        targets:
          - {format: onnx, devices: [here]}
        budgets: {quality: {cosine: 0.9}}
        """,
    )
    (built,) = build_recipe(recipe, None, quiet)
    found = edgeq.load(built.path).embed(TEXTS[:5])
    whole = library.SentenceTransformer(str(root / "matryoshka"), device="cpu", truncate_dim=16)
    wanted = np.concatenate([whole.encode([text]) for text in TEXTS[:5]])
    assert found.shape == (5, 16)
    assert found == pytest.approx(wanted, abs=1e-5)
    (verdict,) = check_recipe(recipe, ["here"], False, quiet)
    (line,) = (line for line in verdict.lines if line.budget == "quality.cosine")
    assert line.value == pytest.approx(1, abs=1e-6)
    text = recipe.read_text()
    recipe.write_text(text.replace("dimension: 16", "dimension: 65"))
    with pytest.raises(InvalidInput, match="vectors have 64 values"):
        make_plan(recipe)


@pytest.mark.parametrize(
    ("poolings", "width", "said"), [(("mean", "max"), 16, ""), (("mean", "max"), 15, "says 14")]
)
def test_a_file_that_pools_itself_has_the_width_of_all_poolings(
    poolings: tuple[Any, ...], width: int, said: str
) -> None:
    vector = ir.Value(name="v", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, width]))
    graph = ir.Graph([], [vector], nodes=[])
    model: Any = SimpleNamespace(located=SimpleNamespace(path=Path("encoder.onnx")))
    files: Any = SimpleNamespace(
        head=SentenceHead(poolings, files=(Path("modules.json"),)), path=Path("encoder")
    )
    with pytest.raises(InvalidInput, match=said) if said else contextlib.nullcontext():
        _require_head(SENTENCE_EMBEDDING, model, graph, files, "recipe.yaml")
