"""Language models: a text goes on, token by token."""

from __future__ import annotations

from edgeq.core.tasks.task import Task

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
        "quality.top1",
        "quality.kl",
        "quality.kl_p99",
        "quality.perplexity",
    ),
    in_llama_cpp=True,
)
