"""Labels of classes in a text file, one per line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem


def read_labels(path: Path) -> tuple[str, ...]:
    """Read one label per line; empty lines at the end do not count. Raises InvalidInput."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InvalidInput(Problem(str(path), why, "paths are relative to the recipe")) from None
    labels = tuple(line.strip() for line in lines)
    if not labels or not all(labels):
        at = labels.index("") + 1 if labels else 1
        raise InvalidInput(Problem(f"{path}:{at}", "a label is empty", "give one label per line"))
    (label, count), *_ = Counter(labels).most_common(1)
    if count > 1:
        what = f"the label {label!r} is listed {count} times"
        raise InvalidInput(Problem(str(path), what, "give every class a unique name"))
    return labels
