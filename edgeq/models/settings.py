"""A JSON mapping of a model's files in which no key is ignored.

Readers ask for every key they support; keys that nobody asked for are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from edgeq.core.errors import InvalidInput, Problem

_LARGEST = 2**31 - 1
_REMEDY = (
    "use a model that edgeq supports in full, or delete the key if the model was not trained with "
    "it"
)


class Settings:
    """One mapping, and which of its keys were read. A null counts as absent."""

    def __init__(self, values: Mapping[str, Any], where: str, file: str) -> None:
        """where: the place that errors name. file: the mapping's name in them."""
        self.where, self.file = where, file
        self._values = {key: value for key, value in values.items() if value is not None}
        self._nulls = {key for key, value in values.items() if value is None}
        self._read: set[str] = set()

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a key, or `default`."""
        self._read.add(name)
        return self._values.get(name, default)

    def need(self, name: str) -> Any:
        """The value of a required key; None only if the file says null."""
        if name not in self._values and name not in self._nulls:
            what = f"{self.file} lacks {name!r}"
            raise self.error(what, "download or save the model again")
        return self.get(name)

    def whole(self, name: str, default: int | None = None, *, largest: int = _LARGEST) -> int:
        """An integer from 1 to `largest`; the key is required unless there is a default."""
        value = self.need(name) if default is None else self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.unusable(name, value, "a whole number of 1 or more")
        if value > largest:
            raise self.unusable(name, value, f"a whole number up to {largest:,}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number; the key is required unless there is a default."""
        value = self.need(name) if default is None else self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise self.unusable(name, value, "a number above 0")
        return float(value)

    def optional(self, name: str) -> float | None:
        """A positive number, None without."""
        return None if self.get(name) is None else self.number(name)

    def flag(self, name: str, default: bool = False) -> bool:
        """true or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.unusable(name, value, "true or false")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """A mapping, empty without the key."""
        value = self.get(name, {})
        if not isinstance(value, dict):
            raise self.unusable(name, value, "a mapping")
        return value

    def ignore(self, names: Iterable[str]) -> None:
        """Keys that are known not to matter."""
        self._read.update(names)

    def unsupported(self, allowed: Mapping[str, Iterable[Any]]) -> Iterator[Problem]:
        """Keys with a value other than the ones that change nothing."""
        for name, values in allowed.items():
            self._read.add(name)
            found = self._values.get(name)
            if found is not None and found not in tuple(values):
                what = f"{self.file}: {name} {found!r} is not supported"
                yield Problem(self.where, what, "use a model without it")

    def unread(self) -> Iterator[Problem]:
        """Keys that nobody asked for."""
        for name in sorted(set(self._values) - self._read):
            yield Problem(self.where, f"{self.file}: edgeq does not know the key {name!r}", _REMEDY)

    def error(self, what: str, remedy: str) -> InvalidInput:
        """An error at this file's place."""
        return InvalidInput(Problem(self.where, what, remedy))

    def unusable(self, name: str, value: Any, wanted: str) -> InvalidInput:
        """The error for a value of the wrong kind."""
        what = f"{self.file}: {name} is {value!r}, not {wanted}"
        return self.error(what, "download or save the model again")
