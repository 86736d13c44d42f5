"""Data sets of rerankers: a table of queries and texts, and their relevance if it is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.recipe.data_sets import PAIR_SUFFIXES
from edgeq.recipe.samples import chosen_rows
from edgeq.recipe.text_files import read_table


@dataclass(frozen=True)
class Queries:
    """Pairs of a query and a text, and their relevance, 0 or more; None if there is none."""

    pairs: tuple[tuple[str, str], ...]
    relevance: tuple[float, ...] | None


def read_queries(path: Path, samples: int | None = None) -> Queries:
    """The pairs of a `.tsv` or `.csv`; of `samples` queries, chosen as by `read_texts`.

    Raises InvalidInput for a file without the columns `query` and `text`, and for a relevance that
    is not a number of 0 or more.
    """
    rows = read_table(path) if path.suffix in PAIR_SUFFIXES else []
    if not rows or not {"query", "text"} <= set(rows[0]):
        what = "holds no queries with texts"
        remedy = "give a .tsv; its first line must be: query, text, relevance, separated by tabs"
        raise InvalidInput(Problem(f"{path}:1", what, remedy))
    queries = list(dict.fromkeys(row["query"] for row in rows))
    chosen = {queries[index] for index in chosen_rows(path, len(queries), samples)}
    rows = [row for row in rows if row["query"] in chosen]
    empty = next((row for row in rows if not row["query"].strip()), None)
    if empty is not None:
        what = f"the text {empty['text'][:40]!r} has no query"
        raise InvalidInput(Problem(str(path), what, "write it, or remove the line"))
    relevance = [_number(path, row["relevance"]) for row in rows if "relevance" in row]
    pairs = tuple((row["query"], row["text"]) for row in rows)
    return Queries(pairs, tuple(relevance) or None)


def _number(path: Path, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not (math.isfinite(value) and value >= 0):
        what = f"the relevance {word!r} is not a number of 0 or more"
        raise InvalidInput(Problem(str(path), what, "write e.g. 1, and 0 for a text that is not"))
    return value
