"""What is said in a data set's recordings: `transcripts.tsv` next to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.recipe.file_sets import TRANSCRIPTS_FILE, DataFile
from edgeq.recipe.text_files import read_table


def has_transcripts(folder: Path) -> bool:
    """Whether the texts of its recordings are known."""
    return (folder / TRANSCRIPTS_FILE).is_file()


def read_transcripts(folder: Path, recordings: Sequence[DataFile]) -> tuple[str, ...]:
    """The text of each recording.

    Raises InvalidInput for a table without the columns file and text, and for a recording that it
    does not list.
    """
    path = folder / TRANSCRIPTS_FILE
    rows = read_table(path)
    if not rows or not {"file", "text"} <= set(rows[0]):
        what = "has no columns file and text"
        raise InvalidInput(Problem(str(path), what, "start it with a line: file<TAB>text"))
    texts = {row["file"]: row["text"] for row in rows}
    lost = next((each.name for each in recordings if each.name not in texts), None)
    if lost is not None:
        what = f"has no line for {lost!r}"
        raise InvalidInput(Problem(str(path), what, "add it, or move the recording elsewhere"))
    return tuple(texts[each.name] for each in recordings)
