"""Classifiers of texts: a text gets one of several labels, or some of them."""

from __future__ import annotations

from edgeq.core.tasks.task import FirstRecipe, Task

TEXT_CLASSIFICATION = Task(
    name="text-classification",
    noun="a text classifier",
    summary="text to a label.",
    explanation="a classifier: it sorts texts into categories, such as praise and complaint",
    consequence="The check counts the texts that get another label. That matters where a label "
    "decides by itself what happens; less where a person looks at what was sorted.",
    takes="texts",
    classifies=True,
    architectures=("ForSequenceClassification",),
    auto_class="AutoModelForSequenceClassification",
    optimum_task="text-classification",
    verb="classify",
    metrics=("agreement", "accuracy", "accuracy_drop", "macro_f1", "f1_drop"),
    first_recipe=FirstRecipe(
        formats=("onnx",),
        calibration=("calibration.txt", "a hundred or more texts of your app, one per line"),
        evaluation=(
            "evaluation.tsv",
            "two hundred or more other texts in the columns text, label; or without label",
        ),
        budgets=("latency: {p90: 100 ms}", "quality: {agreement: 0.98}"),
    ),
    budgets=(
        *("latency.p50", "latency.p90"),
        *("quality.agreement", "quality.accuracy_drop", "quality.f1_drop"),
    ),
)
