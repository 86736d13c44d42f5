"""Data sets of taggers: texts, and the labelled parts of each if they are known.

A line of a `.jsonl` is `{"text": "Ada lives here.", "entities": [{"start": 0, "end": 3, "label":
"PER"}]}`; places count characters (Unicode code points), `end` is behind the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.recipe.data_sets import JSON_SUFFIX, read_texts
from edgeq.recipe.samples import chosen_rows
from edgeq.recipe.text_files import read_json_lines

Span = tuple[int, int, str]
"""Start, end and label of a part of a text."""


@dataclass(frozen=True)
class TaggedTexts:
    """Texts, and the labelled parts of each in their order; None if there are none."""

    texts: tuple[str, ...]
    spans: tuple[tuple[Span, ...], ...] | None


def read_tagged(path: Path, samples: int | None = None) -> TaggedTexts:
    """The texts of a `.txt` or `.jsonl`; `samples` of them, chosen as by `read_texts`.

    Raises InvalidInput as that does, and for parts that are not of the text or only of some texts.
    """
    texts = tuple(read_texts(path, samples))
    if path.suffix != JSON_SUFFIX:
        return TaggedTexts(texts, None)
    rows = read_json_lines(path)
    if not any("entities" in row for _, row in rows):
        return TaggedTexts(texts, None)
    chosen = [rows[index] for index in chosen_rows(path, len(rows), samples)]
    return TaggedTexts(texts, tuple(_spans(f"{path}:{line}", row) for line, row in chosen))


def _spans(where: str, row: dict[str, Any]) -> tuple[Span, ...]:
    given = row.get("entities")
    if not isinstance(given, list):
        what = "there is no list 'entities', which other lines have"
        raise InvalidInput(Problem(where, what, "write [] for a text without any"))
    return tuple(sorted(_span(where, row["text"], each) for each in given))


def _span(where: str, text: str, given: Any) -> Span:
    try:
        start, end, label = given["start"], given["end"], given["label"]
        fits = 0 <= start < end <= len(text) and isinstance(label, str)
    except (TypeError, KeyError):
        fits = False
    if not fits or not (type(start) is type(end) is int):
        what = f"{given!r} is not a part of the text, which has {len(text)} characters"
        remedy = 'write {"start": 0, "end": 3, "label": "PER"}'
        raise InvalidInput(Problem(where, what, remedy))
    return start, end, label
