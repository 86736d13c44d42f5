"""Labels of classes in a text file, one per line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.recipe.text_files import read_lines


def read_labels(path: Path) -> tuple[str, ...]:
    """Read one label per line; empty lines at the end do not count. Raises InvalidInput."""
    labels = tuple(line.strip() for line in read_lines(path))
    while labels and not labels[-1]:
        labels = labels[:-1]
    if not labels or not all(labels):
        at = labels.index("") + 1 if labels else 1
        raise InvalidInput(Problem(f"{path}:{at}", "a label is empty", "give one label per line"))
    (label, count), *_ = Counter(labels).most_common(1)
    if count > 1:
        what = f"the label {label!r} is listed {count} times"
        raise InvalidInput(Problem(str(path), what, "give every class a unique name"))
    return labels
