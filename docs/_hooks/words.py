"""The glossary, in the words that `edgeq explain` uses."""

from __future__ import annotations

import re
from typing import get_args

from tables import code, plain, table

from edgeq.explain import glossary as told
from edgeq.explain.facts import BUDGETS
from edgeq.quantize.presets import PRESETS, Method

_MADE = "*This page is made from the words of `edgeq explain`, whenever the site is built.*\n"


def glossary() -> str:
    """Methods, number formats and budgets in plain words."""
    methods = [[f"`{word}`", *_method(word)] for word in get_args(Method)]
    return "\n\n".join(
        [
            "# Glossary",
            _MADE,
            "Plain words for what recipes, verdicts and reports name. "
            "`edgeq explain` writes a whole page in them, about your model.",
            "## Budgets",
            table(["in a verdict", "means"], [[code(b), plain(m)] for b, m in BUDGETS.items()]),
            "## How weights are rounded",
            table(["in a recipe", "its name", "what it does", "source"], methods),
            "## Number formats",
            table(["in a recipe", "file format", "its name", "what it is"], _formats()),
        ]
    )


def _method(word: str) -> list[str]:
    name, cited = told.METHODS[word]
    return [name, plain(cited.text), _source(cited)]


def _formats() -> list[list[str]]:
    rows = []
    for word, variant in PRESETS.items():
        for format in variant.formats:
            name, cited = told.variant_words(word, variant.weights, format)
            rows.append([code(word), format, name, f"{plain(cited.text)} {_source(cited)}"])
    return rows


def _source(cited: told.Cited) -> str:
    who, url = re.fullmatch(r"(.*), (https?://\S+)", cited.source, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"[{who}]({url})"
