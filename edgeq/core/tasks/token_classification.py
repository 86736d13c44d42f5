"""Taggers: parts of a text, such as names, get labels."""

from __future__ import annotations

from edgeq.core.tasks.task import FirstRecipe, Task

TOKEN_CLASSIFICATION = Task(
    name="token-classification",
    noun="a tagger",
    summary="text to its labelled parts.",
    explanation="a tagger: it finds the parts of a text that are of a kind, such as names and "
    "places",
    consequence="The check counts the tokens that get another label. That matters where what was "
    "found is used by itself, as to black out names; less where a person looks at it.",
    takes="texts",
    tags=True,
    architectures=("ForTokenClassification",),
    auto_class="AutoModelForTokenClassification",
    optimum_task="token-classification",
    verb="tag",
    metrics=("agreement", "f1", "f1_drop"),
    first_recipe=FirstRecipe(
        formats=("onnx",),
        calibration=("calibration.txt", "a hundred or more texts of your app, one per line"),
        evaluation=(
            "evaluation.jsonl",
            'other texts, each on a line as {"text": "Ada lives here.", "entities": [{"start": 0, '
            '"end": 3, "label": "PER"}]}; or without entities',
        ),
        budgets=("latency: {p90: 100 ms}", "quality: {agreement: 0.98}"),
    ),
    budgets=("latency.p50", "latency.p90", "quality.agreement", "quality.f1_drop"),
)
