"""The glossary, with the texts of `edgeq explain`."""

from __future__ import annotations

import re

from tables import code, plain, table

from edgeq.quantize.methods import ROUNDING_METHODS
from edgeq.quantize.presets import PRESETS
from edgeq.quantize.storage import STORAGES
from edgeq.report.explain import glossary as descriptions
from edgeq.report.explain.facts import budget_words

_MADE = "*This page is generated from the texts of `edgeq explain` whenever the site is built.*\n"


_NOUNS = (
    ("recipe", "../concepts/recipe.md", "a file that states what you want from a model"),
    ("device profile", "../concepts/device.md", "facts about a device, each with its source"),
    ("plan", "../start.md#plan", "what a build would make, shown before anything is built"),
    ("quantization", "../concepts/numbers.md", "storing each number of a model less exactly, so "
     "that it takes fewer bits"),
    ("preset", "../concepts/presets.md", "a named way to quantize a whole model"),
    ("calibration data", "../concepts/data.md", "texts that quantization may use"),
    ("evaluation data", "../concepts/data.md", "texts that it may not use, for judging the "
     "result"),
    ("artifact", "../concepts/store.md", "the result of a build: a quantized model and its record"),
    ("full precision", "../measured/quality.md", "the model before quantization, the baseline "
     "of every comparison"),
    ("budget", "../concepts/budgets.md", "a limit that must be kept before shipping"),
    ("verdict", "../concepts/budgets.md", "measurements compared with the budgets"),
    ("stand-in", "../concepts/stand-ins.md", "a substitute for a device that is not available"),
    ("bundle", "../concepts/bundles.md", "one file with the artifact that passed, for an app"),
)  # fmt: skip


def glossary() -> str:
    """Methods, number formats and budgets in plain words."""
    methods = [[f"`{word}`", *_method(word)] for word in ROUNDING_METHODS]
    return "\n\n".join(
        [
            "# Glossary",
            _MADE,
            "Plain words for the terms of recipes, verdicts and reports. "
            "`edgeq explain` writes a whole page about your model in them.",
            "## Nouns",
            table(["word", "means"], [[f"[{word}]({link})", said] for word, link, said in _NOUNS]),
            "## Budgets",
            table(
                ["in a verdict", "means"], [[code(b), plain(m)] for b, m in budget_words().items()]
            ),
            "## How weights are rounded",
            table(["in a recipe", "description", "usual name"], methods),
            "## Number formats",
            table(["in a recipe", "description", "file formats"], _formats()),
        ]
    )


def _method(word: str) -> list[str]:
    name, cited = descriptions.method_words(word)
    return [f"{plain(cited.text)} {_source(cited)}", name]


def _formats() -> list[list[str]]:
    known: dict[tuple[str, str], list[str]] = {}
    for word, variant in PRESETS.items():
        for format in (each.name for each in STORAGES.values() if each.holds(variant)):
            _, cited = descriptions.variant_words(word, variant.weights, format)
            said = f"{plain(cited.text)} {_source(cited)}"
            known.setdefault((word, said), []).append(format)
    return [[code(word), said, ", ".join(own)] for (word, said), own in known.items()]


def _source(cited: descriptions.Cited) -> str:
    who, url = re.fullmatch(r"(.*), (https?://\S+)", cited.source, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"[{who}]({url})"
