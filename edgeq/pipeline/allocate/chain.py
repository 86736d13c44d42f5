"""The float graph in pieces, so that it reruns only from where a changed weight is first read."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeq.core.threads import run_ahead
from edgeq.models.graphs.opened import load_graph
from edgeq.models.graphs.pieces import CACHE_OUTPUT, Array, Piece, Pieces
from edgeq.models.graphs.weights import Weight, find_weights
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.statistics import Feed

# Tensors between pieces are kept for every sample; more pieces have diminishing returns.
_PIECES = 12


class Chain:
    """A float graph and its tensors between pieces for the inputs `feeds`.

    weights: of those that are `given`, the graph's own, by name: they can be changed.
    """

    def __init__(self, directory: Path, feeds: Sequence[Feed], given: Container[str]) -> None:
        model = load_graph(directory)
        found = [weight for weight in find_weights(model) if not weight.stored]
        self.weights: dict[str, Weight] = {w.name: w for w in found if w.name in given}
        names = [value.name or "" for value in model.graph.outputs]
        self.outputs = tuple(name for name in names if not name.startswith(CACHE_OUTPUT))
        self._feeds = feeds
        self._pieces: list[Piece] = []
        self._states: list[list[dict[str, Array]]] = [[dict(feed) for feed in feeds]]
        pieces = Pieces(directory, self.weights)
        for target in (*self._cuts(pieces), *self.outputs):
            piece = pieces.until(target, self._states[-1][0])
            if piece is not None:
                self._pieces.append(piece)
                self._states.append(list(self._advance(piece, self._states[-1], {})))

    def place(self, name: str) -> int:
        """The first piece that reads a weight."""
        return next(i for i, piece in enumerate(self._pieces) if name in piece.given)

    def run(self, changed: Mapping[str, Floats] | None = None) -> Iterator[dict[str, Array]]:
        """Outputs of each sample in turn; `changed`: weights by name, float32 (rows, columns)."""
        changed = changed or {}
        first = min((self.place(name) for name in changed), default=len(self._pieces))
        states = self._states[first]
        for piece in self._pieces[first:]:
            states = list(self._advance(piece, states, changed))
        for state in states:
            yield {name: state[name] for name in self.outputs}

    def _cuts(self, pieces: Pieces) -> list[str]:
        """Tensors that weights multiply, in the graph's order, spread evenly over it."""
        met = {
            use.activation.name or ""
            for weight in self.weights.values()
            for use in weight.uses
            if use.role in ("linear", "convolution") and use.in_main_graph
        }
        ordered = sorted(met, key=pieces.place)
        count = min(_PIECES, len(ordered))
        return [ordered[i * len(ordered) // count] for i in range(count)]

    def _advance(
        self, piece: Piece, states: Sequence[dict[str, Array]], changed: Mapping[str, Floats]
    ) -> Iterator[dict[str, Array]]:
        constants = {name: self._stored(name, changed) for name in piece.given}
        keep = piece.later | set(self.outputs)
        given = ({**{n: state[n] for n in piece.inputs}, **constants} for state in states)
        made_of_each = run_ahead(piece.run, given)
        for feed, state, results in zip(self._feeds, states, made_of_each, strict=True):
            made = dict(zip(piece.outputs, results, strict=True))
            yield {n: v for n, v in {**state, **made}.items() if n in keep or n in feed}

    def _stored(self, name: str, changed: Mapping[str, Floats]) -> NDArray[np.generic]:
        weight = self.weights[name]
        if name not in changed:
            assert weight.value.const_value is not None
            return weight.value.const_value.numpy()
        return weight.as_stored(changed[name])
