"""The content of a hand-written file, with the place of everything in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq.core.validation_messages import Location


@dataclass
class Entry:
    """A value of the file and its position; lines and columns count from 1.

    `text` is a scalar as typed. `is_assumed` marks a placeholder for a missing or wrong value,
    `dropped` holds the keys, or items as '[]', that were removed.
    """

    line: int
    column: int
    content: dict[str, Entry] | list[Entry] | str | int | float | bool | None
    text: str | None = None
    key_line: int | None = None
    key_column: int | None = None
    is_assumed: bool = False
    dropped: set[str] = field(default_factory=set)

    def plain(self) -> Any:
        if isinstance(self.content, dict):
            return {key: entry.plain() for key, entry in self.content.items()}
        if isinstance(self.content, list):
            return [entry.plain() for entry in self.content]
        return self.content

    def child(self, part: str | int) -> Entry | None:
        if isinstance(self.content, dict):
            return self.content.get(str(part))
        if isinstance(self.content, list) and isinstance(part, int) and part < len(self.content):
            return self.content[part]
        return None


class Document:
    """The content of one YAML file and the place of everything in it.

    A location is a tuple of keys and list indices, as pydantic reports it. Parts that the file does
    not have are skipped: `("default", 0, "weights")` finds `default.weights` if a single mapping
    stands for a list of one.
    """

    def __init__(self, path: Path, root: Entry) -> None:
        self.path = path
        self._root = root

    @property
    def data(self) -> Any:
        """The content as plain dicts, lists, str, int, float, bool and None."""
        return self._root.plain()

    def place(self, location: Location = (), *, key: bool = False) -> str:
        """`path:line:column` of the value at `location`, or of its key."""
        entry = self._follow(location)[-1][1]
        if key and entry.key_line is not None:
            return f"{self.path}:{entry.key_line}:{entry.key_column}"
        return f"{self.path}:{entry.line}:{entry.column}"

    def text(self, location: Location) -> str | None:
        """A scalar as typed, None for mappings and lists."""
        return self._follow(location)[-1][1].text

    def name(self, location: Location) -> str:
        """`quantize.rules[2].use`: the location in readable form."""
        name = ""
        for part, _ in self._follow(location)[1:]:
            name += f"[{part}]" if isinstance(part, int) else f".{part}"
        return name.lstrip(".")

    def drop(self, locations: Iterable[Location]) -> bool:
        """Remove the values at `locations`; False if one of them is the whole file.

        Later places agree with the shortened content.
        """
        paths = [self._follow(location) for location in locations]
        for *_, (_, parent), (part, entry) in (steps for steps in paths if len(steps) > 1):
            if isinstance(parent.content, dict):
                parent.content.pop(str(part), None)
                parent.dropped.add(str(part))
            elif isinstance(parent.content, list):
                parent.content[:] = [item for item in parent.content if item is not entry]
                parent.dropped.add("[]")
        return all(len(steps) > 1 for steps in paths)

    def assume(self, location: Location, value: Any) -> None:
        """Put `value` (plain data) where the mapping at `location[:-1]` lacks a key."""
        parent = self._follow(location[:-1])[-1][1]
        if isinstance(parent.content, dict):
            parent.content[str(location[-1])] = _assumed(parent, value)

    def is_assumed(self, location: Location) -> bool:
        """Whether a model sees something other at `location` than the file says.

        True if the value, or an item of the list, was wrong and was replaced by a placeholder.
        """
        last = self._follow(location)[-1][1]
        return (
            self.is_stand_in(location)
            or "[]" in last.dropped
            or (bool(location) and str(location[-1]) in last.dropped)
        )

    def is_stand_in(self, location: Location) -> bool:
        """Whether the value at `location` was put there by `assume`."""
        return any(entry.is_assumed for _, entry in self._follow(location))

    def _follow(self, location: Location) -> list[tuple[str | int, Entry]]:
        steps: list[tuple[str | int, Entry]] = [("", self._root)]
        for part in location:
            child = steps[-1][1].child(part)
            if child is not None:
                steps.append((part, child))
        return steps


def _assumed(parent: Entry, value: Any) -> Entry:
    content = value
    if isinstance(value, dict):
        content = {key: _assumed(parent, item) for key, item in value.items()}
    elif isinstance(value, list):
        content = [_assumed(parent, item) for item in value]
    return Entry(parent.line, parent.column, content, is_assumed=True)
