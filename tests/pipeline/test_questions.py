"""A language model's answers to questions are judged, and compared with transformers'."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import edgeq
from edgeq.core.errors import InvalidInput
from edgeq.formats import transformers_model
from edgeq.formats.language import LanguageModel
from edgeq.measure.choices import continuations, likelihoods
from edgeq.pipeline.check import workflow
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.workflow import build_recipe
from edgeq.recipe.question_sets import Question
from tests.support.decoder_artifacts import WREN
from tests.support.tiny_bert import write_recipe

DATA = WREN.parent / "data"
RECIPE = f"""\
edgeq: 1
name: wren
model: {{source: {WREN}, task: text-generation}}
data:
  evaluation: {{path: {DATA / "wren-evaluation.txt"}, samples: 2}}
  questions: {{path: questions.jsonl}}
quantize: {{default: {{weights: int4-b32, method: nearest, name: int4}}}}
targets:
  - {{format: onnx, devices: [here]}}
workload: {{context: 64, prompt: 8, generate: 4}}
budgets:
  quality: {{multiple_choice_drop: 90 %}}
"""
SENTENCES = (
    ("The President of the United", "States"),
    ("Captain Ahab looked at the", "sea"),
    ("I am very glad to", "hear it"),
    ("In the beginning there was a", "man"),
    ("The Congress of the United States has", "been"),
)
QUESTIONS = [
    Question(question=f"{n}. {question}", choices=(right, "kettle", "of"), answer=n % 3)
    for n in range(4)
    for question, right in SENTENCES
]


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def answers(model: LanguageModel) -> np.ndarray:
    asked = continuations(model.tokens, QUESTIONS, 64, "questions")
    return np.array([each.argmax() for each in likelihoods(model.logits, asked)])


def test_a_verdict_counts_right_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_STORE", str(tmp_path / "store"))
    # Emulated CPUs take a minute, and tests of their own.
    monkeypatch.setattr(workflow, "_comparison", lambda *_: contextlib.nullcontext())
    lines = "\n".join(question.model_dump_json() for question in QUESTIONS)
    (tmp_path / "questions.jsonl").write_text(lines + "\n")
    recipe = write_recipe(tmp_path / "wren.yaml", RECIPE)
    (built,) = build_recipe(recipe, None, quiet)
    (verdict,) = check_recipe(recipe, ["here"], False, quiet)
    right = np.array([question.answer for question in QUESTIONS])
    artifact = edgeq.load(built.path, context=64)
    assert isinstance(artifact, LanguageModel)
    own, original = answers(artifact), answers(transformers_model.load(WREN, threads=1))
    language = verdict.measurement.language
    assert language is not None
    score = language.scores["multiple_choice"]
    assert score.value == pytest.approx((own == right).mean())
    assert score.original == pytest.approx((original == right).mean())
    (line,) = (line for line in verdict.lines if line.budget == "quality.multiple_choice_drop")
    assert line.value == pytest.approx((original == right).mean() - (own == right).mean())
    assert line.status == "pass"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("  questions: {path: questions.jsonl}\n", "", "there are no questions"),
        ("questions.jsonl", "questions.txt", r"must end in \.jsonl"),
        ("questions.jsonl", "nowhere.jsonl", "no such file"),
    ],
)
def test_questions_that_cannot_be_asked_are_refused(
    tmp_path: Path, old: str, new: str, what: str
) -> None:
    (tmp_path / "questions.jsonl").write_text(QUESTIONS[0].model_dump_json())
    with pytest.raises(InvalidInput, match=what):
        make_plan(write_recipe(tmp_path / "wren.yaml", RECIPE.replace(old, new)))
