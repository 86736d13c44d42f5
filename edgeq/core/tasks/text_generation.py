"""Language models: continue a text, token by token."""

from __future__ import annotations

from edgeq.core.tasks.task import FirstRecipe, Task

TEXT_GENERATION = Task(
    name="text-generation",
    noun="a language model",
    summary="a language model.",
    explanation="a language model: it continues a text, word by word",
    consequence="The check counts how often it predicts a different next word than the original. "
    "That matters where a single word decides: code, figures, names, quotations; less for drafts, "
    "suggestions and summaries that somebody reads before they are used.",
    takes="a long text",
    generates=True,
    architectures=("ForCausalLM", "LMHeadModel"),
    auto_class="AutoModelForCausalLM",
    verb="generate",
    budgets=(
        "latency.first_token",
        "speed.prompt",
        "speed.generation",
        "speed.sustained",
        "quality.top1",
        "quality.kl",
        "quality.kl_p99",
        "quality.perplexity",
        "quality.multiple_choice_drop",
    ),
    metrics=("multiple_choice", "multiple_choice_norm", "multiple_choice_drop"),
    in_llama_cpp=True,
    first_recipe=FirstRecipe(
        formats=("gguf", "onnx"),
        calibration=("calibration.txt", "text like what your app reads and writes, 100 KB or more"),
        evaluation=("evaluation.txt", "other text of the same kind, 50 KB or more"),
        budgets=(
            "latency: {first_token: 2 s}",
            "speed: {generation: 10 tok/s}",
            "quality: {kl: 0.05}",
        ),
        context=1024,
    ),
)
