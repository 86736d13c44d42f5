"""Rerankers: a query and a text, read together, get a score of how well they fit."""

from __future__ import annotations

from edgeq.core.tasks.task import FirstRecipe, Task

RERANKING = Task(
    name="reranking",
    noun="a reranker",
    summary="query and text to a score.",
    explanation="a reranker: it reads a question together with each text that a search found, and "
    "sorts the texts by how well they answer it",
    consequence="The check counts the pairs of found texts whose order changes. That matters where "
    "only the first is shown; less for lists that a person looks through.",
    takes="pairs",
    ranks=True,
    architectures=("ForSequenceClassification",),
    auto_class="AutoModelForSequenceClassification",
    optimum_task="text-classification",
    verb="rank",
    metrics=("order", "ndcg", "ndcg_drop", "mrr", "mrr_drop"),
    first_recipe=FirstRecipe(
        formats=("onnx",),
        calibration=(
            "calibration.tsv",
            "a hundred or more pairs of your app, in the columns query, text",
        ),
        evaluation=(
            "evaluation.tsv",
            "other queries, each with several texts, in the columns query, text, relevance; or "
            "without relevance",
        ),
        budgets=("latency: {p90: 100 ms}", "quality: {order: 0.97}"),
    ),
    budgets=(
        "latency.p50",
        "latency.p90",
        "quality.order",
        "quality.ndcg_drop",
        "quality.mrr_drop",
    ),
)
