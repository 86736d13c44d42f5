"""Round weights in the order in which a graph multiplies by them, each for its actual inputs.

Before a weight is rounded, everything up to its input has run on all calibration samples twice,
with float and with rounded weights. Its codes can then compensate for the loss of earlier layers,
and aim at the float model's output. Only one piece's weights are in memory, and for every sample
only tensors needed by later pieces are kept, on disk.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.core import canonical
from edgeq.core.remaining import Remaining
from edgeq.core.steps import Steps
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import Progress
from edgeq.models.architectures.experts import of_all_experts
from edgeq.models.graphs.embedding_moments import looked_up, table_moments
from edgeq.models.graphs.pieces import Pieces, Samples
from edgeq.models.graphs.statistics import input_of
from edgeq.models.graphs.weights import Weight
from edgeq.quantize.codes import load_codes, save_codes
from edgeq.quantize.methods import Statistics, plain_method, rounding_method
from edgeq.quantize.methods.judged import round_judged
from edgeq.quantize.methods.objective import MomentSums
from edgeq.quantize.model import Choice, scalable
from edgeq.quantize.number_formats import Floats, QuantizedTensor, number_format
from edgeq.quantize.statistics import Feed, refuse_not_finite

# Of searching scales and moving codes, which go value by value: in multiplications of a product.
_WORK_PER_WEIGHT = 4000
_REACHED = "reached.json"
_SECONDS_BETWEEN_SAVES = 30.0  # hashing what both models made takes a second for 0.6 B weights
_JUDGES = 8  # one in this many samples is held out: it judges the result of the others


def goes_in_sequence(weight: Weight, choice: Choice) -> bool:
    """Whether a choice asks for codes that depend on earlier layers."""
    if choice.activations != "float32":
        return False
    method = rounding_method(choice.method)
    if weight.role == "embedding":
        return method.rounds_tables and looked_up(weight) is not None
    is_product = weight.product is not None and weight.role in ("linear", "tied")
    return is_product and method.in_sequence


def round_in_sequence(
    directory: Path,
    weights: Sequence[tuple[Weight, Choice]],
    fixed: Mapping[str, tuple[Weight, QuantizedTensor]],
    feeds: Sequence[Feed],
    progress: Progress,
    kept: Steps | None = None,
) -> dict[str, QuantizedTensor]:
    """Codes of `weights`, by name, in the order of the graph's products.

    directory: of the float `model.onnx`. weights: those for which `goes_in_sequence` is true.
    fixed: weights that are already rounded: tables, products of another method. feeds: calibration
    samples, at least one. kept: for this run; the codes of finished layers are found there after an
    interruption.
    """
    tables = [(weight, choice) for weight, choice in weights if weight.role == "embedding"]
    found = _round_tables(directory, tables, feeds, progress, kept)
    fixed = {**fixed, **{weight.name: (weight, found[weight.name]) for weight, _ in tables}}
    weights = [(weight, choice) for weight, choice in weights if weight.role != "embedding"]
    groups: dict[str, list[tuple[Weight, Choice]]] = {}
    for weight, choice in weights:
        assert weight.product is not None
        groups.setdefault(weight.product.activation.name or "", []).append((weight, choice))
    with contextlib.ExitStack() as stack:
        folder = kept.directory("samples") if kept else stack.enter_context(TemporaryFolder())
        walk = _Walk(directory, Path(folder), weights, fixed, feeds)
        order = sorted(groups, key=walk.place)
        reached, saved = (walk.restore(kept) if kept else -1), time.monotonic()
        tokens = sum(max(value.size for value in feed.values()) for feed in feeds)
        left = Remaining(_works([groups[activation] for activation in order], tokens))
        for index, activation in enumerate(order):
            group = groups[activation]
            say = _followed_by(left.begin(index), progress)
            say(f"calibrate layer {index + 1} of {len(order)} on {len(feeds)} samples")
            if index > reached:
                walk.reach(activation)
                if not kept:
                    walk.drop()
                elif time.monotonic() - saved >= _SECONDS_BETWEEN_SAVES:
                    walk.save(kept, index)
                    saved = time.monotonic()
            name = f"{index}.npz"
            if kept and (stored := kept.find(name)):
                walk.take(group, load_codes(stored))
                continue
            rounded = walk.round(activation, group, say)
            left.end(index)
            if kept:
                with kept.writing(name) as partial:
                    save_codes(partial, rounded)
        return {**found, **walk.codes}


def _followed_by(words: str, progress: Progress) -> Progress:
    """Progress with the same words behind every step: a log shows only a few of them."""
    return lambda step: progress(step + words)


def _works(groups: Sequence[Sequence[tuple[Weight, Choice]]], tokens: int) -> list[float]:
    """Multiplications of each layer's rounding, about: only their ratios count.

    Both models run what was rounded last, moments are summed over the samples and taken apart, and
    about seven products of each weight and its moments follow. An expert gets some of the tokens.
    """
    works, before = [], 0
    places = [of_all_experts(group[0][0].name) for group in groups]
    alike = Counter(place[0] for place in places if place)
    for group, place in zip(groups, places, strict=True):
        own = tokens // alike[place[0]] if place else tokens
        shapes = [weight.shape_by_rows for weight, _ in group]
        columns, size = shapes[0][-1], sum(rows * columns for rows, columns in shapes)
        moments = 2 * own * columns * columns + 4 * columns**3
        rounding = size * (7 * columns + _WORK_PER_WEIGHT)
        works.append(2.0 * own * before + moments + rounding)
        before = size
    return works


def _round_tables(
    directory: Path,
    tables: Sequence[tuple[Weight, Choice]],
    feeds: Sequence[Feed],
    progress: Progress,
    kept: Steps | None,
) -> dict[str, QuantizedTensor]:
    """Codes of tables whose rows are looked up, weighted by the effect of their errors on the
    answers.
    """
    found: dict[str, QuantizedTensor] = {}
    for index, (weight, choice) in enumerate(tables):
        name = f"table-{index}.npz"
        if kept and (stored := kept.find(name)):
            found |= load_codes(stored)
            continue
        progress(f"measure the effect of errors in {weight.name}")
        seen = table_moments(directory, weight, feeds)
        stored_as = number_format(choice.number_format)
        matrix = scalable(weight.name, weight.matrix(), stored_as)
        tensor = round_judged(matrix, seen, stored_as, choice.method)
        found[weight.name] = tensor
        if kept:
            with kept.writing(name) as partial:
                save_codes(partial, {weight.name: tensor})
    return found


class _Walk:
    """The progress of both models, and the codes so far."""

    def __init__(
        self,
        directory: Path,
        folder: Path,
        weights: Sequence[tuple[Weight, Choice]],
        fixed: Mapping[str, tuple[Weight, QuantizedTensor]],
        feeds: Sequence[Feed],
    ) -> None:
        self.codes: dict[str, QuantizedTensor] = {}
        self._known = {weight.name: weight for weight, _ in weights}
        self._known |= {name: weight for name, (weight, _) in fixed.items()}
        self._rounded = {name: tensor for name, (_, tensor) in fixed.items()}
        # their rows are looked up before their product is reached
        self._tied = {
            w.name: number_format(c.number_format) for w, c in weights if w.role == "tied"
        }
        self._pieces = Pieces(directory, self._known)
        places = [folder / "float", folder / "rounded"]
        for place in places:
            place.mkdir(exist_ok=True)
        self._feeds = feeds
        self._float, self._approximate = (Samples(feeds, place) for place in places)

    def place(self, activation: str) -> int:
        """A tensor's position in the graph's order."""
        return self._pieces.place(activation)

    def reach(self, activation: str) -> None:
        """Run both models up to a tensor."""
        piece = self._pieces.until(activation, self._float[0])
        if piece is None:
            return
        self._float.advance(piece, {n: _stored(self._known[n], None) for n in piece.given})
        self._approximate.advance(piece, {name: self._as_rounded(name) for name in piece.given})

    def drop(self) -> None:
        """Remove what later layers do not read."""
        self._float.drop()
        self._approximate.drop()

    def save(self, kept: Steps, index: int) -> None:
        """Keep what both models made up to the input of layer `index`, and nothing before it."""
        state = {
            "index": index,
            "taken": sorted(self._pieces.taken),
            "float": self._float.state(),
            "rounded": self._approximate.state(),
        }
        with kept.writing(_REACHED) as partial:
            partial.write_text(canonical.to_json(state), encoding="utf-8")
        self.drop()

    def restore(self, kept: Steps) -> int:
        """The layer whose input was reached when it was saved last; -1 for a start anew."""
        found = kept.find(_REACHED)
        state: dict[str, Any] = json.loads(found.read_bytes()) if found else {"index": -1}
        index = int(state["index"])
        both = {"float": self._float, "rounded": self._approximate}
        if (
            index >= 0
            and all(kept.find(f"{layer}.npz") for layer in range(index))
            and all(samples.restore(state[name]) for name, samples in both.items())
        ):
            self._pieces.taken.update(state["taken"])
            return index
        for samples in both.values():
            samples.restore({})
        return -1

    def round(
        self, activation: str, group: Sequence[tuple[Weight, Choice]], progress: Progress
    ) -> dict[str, QuantizedTensor]:
        """Codes of the weights that multiply `activation`."""
        seen: dict[str | None, Statistics] = {}
        found = {}
        for weight, choice in group:
            assert weight.product is not None
            output = weight.product.node.outputs[0].name or ""
            residual = self._pieces.added_to(output, self._float[0])
            if residual not in seen:
                seen[residual] = self._moments(activation, residual, input_of(weight.name))
            judged = seen[residual]
            # rows that are also looked up must not compensate for anything
            if weight.role == "tied":
                judged = judged.as_if_whole()
            stored = number_format(choice.number_format)
            matrix = scalable(weight.name, weight.matrix(), stored)
            tensor = round_judged(matrix, judged, stored, choice.method)
            asked = rounding_method(choice.method).starts_from(stored) or choice.method
            why = f": {asked} is worse on held-out samples" if tensor.method != asked else ""
            progress(f"quantize {weight.name}{why}")
            found[weight.name] = tensor
        self.take(group, found)
        return found

    def take(
        self, group: Sequence[tuple[Weight, Choice]], found: Mapping[str, QuantizedTensor]
    ) -> None:
        """Let later pieces compute with these codes."""
        for weight, _ in group:
            self._rounded[weight.name] = self.codes[weight.name] = found[weight.name]

    def _as_rounded(self, name: str) -> Floats:
        """A weight in the rounded model: the value of its codes.

        A tied table has plain codes until its product is reached, where it is looked up.
        """
        weight = self._known[name]
        if name in self._rounded:
            return _stored(weight, self._rounded[name])
        stored = self._tied[name]
        matrix = scalable(name, weight.matrix(), stored)
        rows = _rows_looked_up(weight, self._feeds)
        matrix[rows] = plain_method(stored).round(matrix[rows], None, stored).dequantize()
        return matrix

    def _moments(self, activation: str, residual: str | None, label: str) -> Statistics:
        if self._pieces.has_chosen_rows(activation):
            return self._own_moments(activation, label)
        both = (self._float, self._approximate)
        sums = (MomentSums(), MomentSums())
        pairs = zip(*(samples.values(activation) for samples in both), strict=True)
        passing = [samples.values(residual) for samples in both] if residual else None
        for index, (wanted, seen) in enumerate(pairs):
            refuse_not_finite(label, wanted, index)
            missing = next(passing[0]) - next(passing[1]) if passing else None
            sums[index % _JUDGES == _JUDGES - 1].add(wanted, seen, missing)
        return _halves(sums)

    def _own_moments(self, activation: str, label: str) -> Statistics:
        """Moments of the rounded model alone, whose rows are tokens other than the float ones."""
        sums = (MomentSums(), MomentSums())
        for index, seen in enumerate(self._approximate.values(activation)):
            refuse_not_finite(label, seen, index)
            sums[index % _JUDGES == _JUDGES - 1].add(None, seen)
        return _halves(sums)


def _halves(sums: tuple[MomentSums, MomentSums]) -> Statistics:
    """Moments to fit and to judge; one half does both if the other saw nothing."""
    fit, judge = (each.result() for each in sums)
    found = fit or judge
    if found is None:
        return Statistics()  # no token chose this expert
    return Statistics.of(found, judge or found)


def _rows_looked_up(weight: Weight, feeds: Sequence[Feed]) -> NDArray[np.integer] | slice:
    """The rows of a table that the samples look up; all where the graph computes which."""
    names = [use.activation.name or "" for use in weight.uses if use.role == "embedding"]
    if any(name not in feed for name in names for feed in feeds):
        return slice(None)
    return np.unique(np.concatenate([feed[name].ravel() for name in names for feed in feeds]))


def _stored(weight: Weight, tensor: QuantizedTensor | None) -> Floats:
    """A weight in the graph's layout: the float one, or the value of its codes."""
    matrix = weight.matrix() if tensor is None else tensor.dequantize()
    return np.ascontiguousarray(matrix.T) if weight.uses[0].inputs_first else matrix
