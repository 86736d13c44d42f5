"""Files of text: whole, by lines, as tables and as objects of JSON."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import read_bytes
from edgeq.recipe.samples import no_such_file

PAIR, SINGLE = ("sentence1", "sentence2"), ("text",)
"""The columns of a table of pairs of sentences, and of one of single texts."""
_MOST_BYTES = 32 << 20
# bytes of text that is tokenized as a whole, at 50 bytes per character
_MOST_CORPUS_BYTES = 16 << 20
_LONGEST_LINE = 1 << 20
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def read_text(path: Path, limit: int = _MOST_CORPUS_BYTES) -> str:
    """The text of a file named by a recipe or command, UTF-8 of at most `limit` bytes."""
    if not path.exists():
        raise no_such_file(path)
    try:
        return read_bytes(path, limit, "keep only the required part").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{path}: byte {error.start}"
        raise InvalidInput(Problem(where, "not UTF-8 text", "save the file as UTF-8")) from None


def read_lines(path: Path) -> list[str]:
    """Lines of samples; a line too long for a sentence is refused: line breaks are missing."""
    # Not splitlines(): a text may contain a form feed or U+2028.
    lines = with_newlines(read_text(path, _MOST_BYTES)).split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > _LONGEST_LINE:
            what = f"the line has {len(line)} characters, over {_LONGEST_LINE}"
            raise InvalidInput(Problem(f"{path}:{number}", what, "put one sample on each line"))
    return lines


def with_newlines(text: str) -> str:
    """Every system's line breaks as \\n, as Python reads a text file."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a `.jsonl`, each with the number of its line. Raises InvalidInput."""
    found = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            row = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError) as error:
            what, remedy = f"is not JSON: {error}", 'write one object on each line: {"text": "…"}'
            raise InvalidInput(Problem(f"{path}:{number}", what, remedy)) from None
        if half := _LONE_SURROGATE.search(json.dumps(row, ensure_ascii=False)):
            what = f"contains half of a character, \\u{ord(half[0]):04x} without its other half"
            remedy = "write both halves, or remove it; a text was cut within a character"
            raise InvalidInput(Problem(f"{path}:{number}", what, remedy))
        if row is not None and not isinstance(row, dict):
            remedy = 'write one object on each line: {"text": "…"}'
            raise InvalidInput(Problem(f"{path}:{number}", "is not a JSON object", remedy))
        found += [(number, row)] if row is not None else []
    return found


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a `.tsv` or `.csv` by column. Raises InvalidInput where cells are missing."""
    lines = read_lines(path)
    has_tabs = path.suffix == ".tsv" or "\t" in lines[0]
    reader = (
        csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        if has_tabs
        else csv.reader((f"{line}\n" for line in lines), strict=True)
    )
    try:
        header, *rows = [(reader.line_num, row) for row in reader if row] or [(1, [])]
    except csv.Error as error:
        where = f"{path}:{reader.line_num}"
        remedy = f"close every quote, and keep cells under {csv.field_size_limit()} characters"
        raise InvalidInput(Problem(where, f"not a readable table: {error}", remedy)) from None
    columns = [name.strip() for name in header[1]]
    twice = next((name for name in columns if name and columns.count(name) > 1), None)
    if twice is not None:
        what = f"has the column {twice!r} {columns.count(twice)} times"
        raise InvalidInput(Problem(f"{path}:1", what, "rename or remove all but one"))
    for name in SINGLE if "text" in columns else PAIR:
        if name not in columns:
            remedy = "the first line must be: sentence1, sentence2, score, separated by tabs"
            raise InvalidInput(Problem(f"{path}:1", f"no column {name!r}", remedy))
    problems = [
        problem for line, row in rows for problem in _row_problems(path, line, columns, row)
    ]
    if problems:
        raise InvalidInput(problems)
    return [dict(zip(columns, row, strict=True)) for _, row in rows]


def _row_problems(path: Path, line: int, columns: Sequence[str], row: list[str]) -> list[Problem]:
    where = f"{path}:{line}"
    if len(row) != len(columns):
        what = f"{len(row)} columns, and the header has {len(columns)}"
        return [Problem(where, what, "check for a missing or an extra separator")]
    cells = dict(zip(columns, row, strict=True))
    problems = [
        Problem(where, f"{name} is empty", "write it, or remove the line")
        for name in (*PAIR, *SINGLE, "label")
        if name in cells and not cells[name].strip()
    ]
    if "score" in cells and not _is_number(cells["score"]):
        what = f"the score {cells['score']!r} is not a number"
        problems.append(Problem(where, what, "write e.g. 3.5"))
    return problems


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
