"""The cheapest division of nodes into two sides, by the greatest flow between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from itertools import pairwise

SOURCE, SINK = "source", "sink"


class Cut:
    """A network: each edge costs its capacity if it leads from the source's side to the sink's."""

    def __init__(self) -> None:
        self._left: dict[Hashable, dict[Hashable, float]] = {SOURCE: {}, SINK: {}}

    def edge(self, start: Hashable, end: Hashable, capacity: float) -> None:
        """Add to the cost of `start` on the source's side and `end` on the sink's."""
        own = self._left.setdefault(start, {})
        own[end] = own.get(end, 0.0) + capacity
        self._left.setdefault(end, {}).setdefault(start, 0.0)

    def source_side(self) -> set[Hashable]:
        """The nodes on the source's side of the least cut (Edmonds & Karp, 1972)."""
        while (path := self._path()) is not None:
            steps = list(pairwise(path))
            least = min(self._left[start][end] for start, end in steps)
            for start, end in steps:
                self._left[start][end] -= least
                self._left[end][start] += least
        return set(self._reached())

    def _reached(self) -> dict[Hashable, Hashable]:
        """Each node that the source can still reach, and the one before it."""
        before: dict[Hashable, Hashable] = {SOURCE: SOURCE}
        waiting = deque([SOURCE])
        while waiting and SINK not in before:
            node = waiting.popleft()
            for end, left in self._left[node].items():
                if left > 0 and end not in before:
                    before[end] = node
                    waiting.append(end)  # type: ignore[arg-type]
        return before

    def _path(self) -> list[Hashable] | None:
        before = self._reached()
        if SINK not in before:
            return None
        path: list[Hashable] = [SINK]
        while path[-1] != SOURCE:
            path.append(before[path[-1]])
        return path[::-1]
