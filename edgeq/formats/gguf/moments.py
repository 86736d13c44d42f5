"""Second moments of the inputs of a GGUF file's weights, from within llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeq.core.terms import Progress
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.gguf.products import LOOKUP, Product, Watch, open_watched
from edgeq.quantize.methods.objective import Moments, MomentSums

_INDEX = "weights.json"
_BYTES_AT_ONCE = 1 << 30
"""Of moments that one pass adds up; more weights take more passes."""


def moments_inside(
    path: Path,
    columns: Mapping[str, tuple[int, int]],
    windows: Sequence[Sequence[int]],
    threads: int,
    progress: Progress,
) -> Iterator[tuple[str, list[Moments | None]]]:
    """Each weight with the moments of its inputs; of every expert, None for one that saw no token.

    columns: of each weight the experts, and the columns of one. windows: token ids, all of the same
    length. Weights with the same input share its moments. Those that multiply nothing are left out.
    """
    model, parts = LlamaModel(path), in_passes(columns)
    for index, names in enumerate(parts):
        sums = _Sums()
        watch = Watch(names, sums.add)
        open_watched(model, watch, len(windows[0]), len(windows[0]), threads)
        for at, window in enumerate(windows):
            progress(f"moments: pass {index + 1} of {len(parts)}, window {at + 1}")
            model.clear()
            with watch.passing():
                model.decode_last(np.array(window, np.int32), len(window))
            sums.end_window()
        yield from sums.results()


def in_passes(columns: Mapping[str, tuple[int, int]]) -> list[list[str]]:
    """The weights of each pass over the windows; columns: as `moments_inside` takes them."""
    passes: list[list[str]] = []
    taken = _BYTES_AT_ONCE
    for name, (experts, width) in columns.items():
        size = _bytes_of(experts, width)
        if taken + size > _BYTES_AT_ONCE:
            passes.append([])
            taken = 0
        passes[-1].append(name)
        taken += size
    return passes


def most_bytes(columns: Mapping[str, tuple[int, int]]) -> int:
    """What the moments of these weights take if no two share an input."""
    return sum(_bytes_of(*each) for each in columns.values())


def _bytes_of(experts: int, width: int) -> int:
    return 4 * experts * width * width


def save_moments(passes: Iterable[tuple[str, list[Moments | None]]], folder: Path) -> None:
    """Write what `moments_inside` yields: a directory for each input, and whose it is."""
    groups: list[list[str]] = []
    last: list[Moments | None] | None = None
    for name, found in passes:
        if found is last:
            groups[-1].append(name)
            continue
        place = folder / str(len(groups))
        place.mkdir()
        for expert, each in enumerate(found):
            np.save(place / f"{expert}.npy", np.empty((0, 0)) if each is None else each.seen)
        groups.append([name])
        last = found
    (folder / _INDEX).write_text(json.dumps(groups), encoding="utf-8")


def load_moments(
    folder: Path, wanted: Container[str]
) -> Iterator[tuple[str, list[Moments | None]]]:
    """What `moments_inside` yields of the `wanted` weights, from `save_moments`."""
    for number, names in enumerate(json.loads((folder / _INDEX).read_text(encoding="utf-8"))):
        own = [name for name in names if name in wanted]
        if own:
            place = folder / str(number)
            experts = range(sum(1 for _ in place.iterdir()))
            stored = (np.load(place / f"{expert}.npy") for expert in experts)
            found = [Moments(seen) if len(seen) else None for seen in stored]
            yield from ((name, found) for name in own)


class _Sums:
    """Moments by weight; leads: of each weight the first one with the same input."""

    def __init__(self) -> None:
        self._sums: dict[str, list[MomentSums]] = {}
        self._leads: dict[str, str] = {}
        self._first: dict[tuple[int, int], str] = {}

    def add(self, product: Product) -> None:
        """Inputs of one product."""
        if product.kind == LOOKUP:
            return
        experts, parts = product.by_expert()
        lead = self._first.setdefault((product.source, experts), product.weight)
        lead = self._leads.setdefault(product.weight, lead)
        if lead != product.weight:
            return
        own = self._sums.setdefault(lead, [MomentSums() for _ in range(experts)])
        for expert, rows in parts.items():
            own[expert].add(None, np.array(rows, np.float32))

    def end_window(self) -> None:
        """Inputs of the next window may lie where those of this one lay."""
        self._first.clear()

    def results(self) -> Iterator[tuple[str, list[Moments | None]]]:
        """The moments of every weight, those of one input after each other."""
        for lead, sums in self._sums.items():
            found = [each.result() for each in sums]
            for name in (name for name, first in self._leads.items() if first == lead):
                yield name, found
