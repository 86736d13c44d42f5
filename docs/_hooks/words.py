"""The glossary, in the words that `edgeq explain` uses."""

from __future__ import annotations

import re

from tables import code, plain, table

from edgeq.quantize.methods import ROUNDING_METHODS
from edgeq.quantize.presets import PRESETS
from edgeq.report.explain import glossary as told
from edgeq.report.explain.facts import budget_words

_MADE = "*This page is made from the words of `edgeq explain`, whenever the site is built.*\n"


_NOUNS = (
    ("recipe", "../concepts/recipe.md", "a file that says what you want of a model"),
    ("device profile", "../concepts/device.md", "facts of a device, each with who says so"),
    ("plan", "../start.md#plan", "what a build would make, told before anything is built"),
    ("quantization", "../concepts/numbers.md", "storing each number of a model less exactly, so "
     "that it takes fewer bits"),
    ("preset", "../concepts/presets.md", "a way to quantize a whole model, in one word"),
    ("calibration data", "../concepts/data.md", "texts that quantization may look at"),
    ("evaluation data", "../concepts/data.md", "texts that it may not, on which the result is "
     "judged"),
    ("artifact", "../concepts/store.md", "what a build made: one quantized model and its record"),
    ("full precision", "../measured/quality.md", "the model before quantization: what all is "
     "compared with"),
    ("budget", "../concepts/budgets.md", "a limit that has to be kept before it ships"),
    ("verdict", "../concepts/budgets.md", "what was seen, held against the budgets"),
    ("stand-in", "../concepts/stand-ins.md", "what takes a device's place where there is none"),
    ("bundle", "../concepts/bundles.md", "one file with what passed, for an app"),
)  # fmt: skip


def glossary() -> str:
    """Methods, number formats and budgets in plain words."""
    methods = [[f"`{word}`", *_method(word)] for word in ROUNDING_METHODS]
    return "\n\n".join(
        [
            "# Glossary",
            _MADE,
            "Plain words for what recipes, verdicts and reports name. "
            "`edgeq explain` writes a whole page in them, about your model.",
            "## Nouns",
            table(["word", "means"], [[f"[{word}]({link})", said] for word, link, said in _NOUNS]),
            "## Budgets",
            table(
                ["in a verdict", "means"], [[code(b), plain(m)] for b, m in budget_words().items()]
            ),
            "## How weights are rounded",
            table(["in a recipe", "what it does", "its name"], methods),
            "## Number formats",
            table(["in a recipe", "what it is", "file formats"], _formats()),
        ]
    )


def _method(word: str) -> list[str]:
    name, cited = told.method_words(word)
    return [f"{plain(cited.text)} {_source(cited)}", name]


def _formats() -> list[list[str]]:
    held: dict[tuple[str, str], list[str]] = {}
    for word, variant in PRESETS.items():
        for format in variant.formats:
            _, cited = told.variant_words(word, variant.weights, format)
            said = f"{plain(cited.text)} {_source(cited)}"
            held.setdefault((word, said), []).append(format)
    return [[code(word), said, ", ".join(own)] for (word, said), own in held.items()]


def _source(cited: told.Cited) -> str:
    who, url = re.fullmatch(r"(.*), (https?://\S+)", cited.source, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"[{who}]({url})"
