"""Sentence encoders: a text becomes a vector."""

from __future__ import annotations

from edgeq.core.tasks.task import FirstRecipe, Task

SENTENCE_EMBEDDING = Task(
    name="sentence-embedding",
    noun="a sentence encoder",
    summary="text to a vector.",
    explanation="a search model: it turns a sentence into a list of numbers, so that sentences of "
    "similar meaning get similar numbers",
    consequence="The check counts the sentences whose nearest neighbour changes. That matters "
    "where only the first hit is shown, or where a fixed threshold decides; less for lists of "
    "results that a person looks through.",
    takes="texts",
    embeds=True,
    has_sentence_head=True,
    # Sentence encoders are fine-tuned from masked language models.
    architectures=("ForMaskedLM", "ForPreTraining", "Model"),
    auto_class="AutoModel",
    optimum_task="feature-extraction",
    unused_weights=(
        *("pooler.", "cls.", "lm_head.", "vocab_"),
        *("discriminator_predictions.", "predictions."),
    ),
    verb="embed",
    budgets=("latency.p50", "latency.p90", "quality.cosine", "quality.spearman"),
    in_llama_cpp=True,
    first_recipe=FirstRecipe(
        formats=("onnx",),
        calibration=("calibration.txt", "a hundred or more texts of your app, one per line"),
        evaluation=(
            "evaluation.txt",
            "other texts, one per line; or a .tsv with the columns sentence1, sentence2, score",
        ),
        budgets=("latency: {p90: 100 ms}", "quality: {cosine: 0.98}"),
    ),
)
