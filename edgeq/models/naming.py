"""A model's name: from its card, if that matches the source."""

from __future__ import annotations

import re
from pathlib import Path

_CARD = "README.md"
_MOST_BYTES = 1 << 20


def model_name(source: str, directory: Path | None = None) -> str:
    """The name of the model that `source` names; `directory` holds its files.

    A model's package often has a longer name than the model: then the heading of its card counts,
    if it is the end of the source's name, ignoring case and punctuation.

    >>> model_name("hub:owner/name@1234"), model_name("./wren")
    ('name', 'wren')
    """
    named = source.rpartition("/")[2].rpartition(":")[2].partition("@")[0]
    heading = _heading(directory / _CARD) if directory is not None else ""
    is_same = len(_plain(heading)) > 2 and _plain(named).endswith(_plain(heading))
    return heading if is_same else named


def _heading(card: Path) -> str:
    if not card.is_file() or card.stat().st_size > _MOST_BYTES:
        return ""
    text = card.read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^# *(\S.*?)\s*$", text, re.MULTILINE)
    return found.group(1) if found else ""


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name)).casefold()
