"""Measure each tensor's cost: one tensor changed, the rest float, on held-out samples.

In every number format that a tensor may have, it is rounded by importance, which is fast, and the
change of its layer's output is known in closed form. The model itself runs for two formats only, a
narrow one and one of medium width, with the codes of the real method; for the others the loss is
interpolated on the line through both, loss over that change, in logarithms. For a model with many
layers, each kind of tensor is measured in some layers, and the others are interpolated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.models.graphs.embedding_moments import looked_up, table_moments
from edgeq.models.graphs.statistics import watch
from edgeq.models.graphs.weights import Weight
from edgeq.pipeline.allocate.chain import Chain
from edgeq.pipeline.allocate.holdout import Holdout
from edgeq.pipeline.allocate.options import Option, Options
from edgeq.pipeline.allocate.sensitivity import Cost
from edgeq.quantize.decide import Decision
from edgeq.quantize.methods import Statistics, rounding_method
from edgeq.quantize.methods.gptq import GPTQ
from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import Floats, number_format
from edgeq.quantize.number_formats.integers import INT4_B32
from edgeq.quantize.statistics import Feed

# This many tensors run the model at most: the time of a run grows with the model.
MOST_MEASURED = 96


@dataclass(frozen=True)
class _Rounded:
    """A tensor in one number format: the change of its layer's output, and the measured loss."""

    local: float
    loss: float | None = None
    error: float | None = None


_ROUNDED = TypeAdapter(dict[str, _Rounded])
"""A tensor's results by number format."""


def tensor_costs(
    directory: Path,
    chain: Chain,
    holdout: Holdout,
    options: Options,
    feeds: Sequence[Feed],
    progress: Progress,
    kept: Steps,
) -> dict[str, dict[str, Cost]]:
    """The cost of every tensor of `options` in each of its number formats, by name and format.

    directory: of the float graph, which `chain` runs. feeds: samples for rounding. kept: for this
    run; finished tensors are found there after an interruption.
    """
    weights = {name: chain.weights[name] for name in options if name in chain.weights}
    seen = _statistics(directory, list(weights.values()), feeds, progress)
    measured = _measured(list(weights))
    found: dict[str, dict[str, _Rounded]] = {}
    for index, (name, weight) in enumerate(weights.items()):
        if stored := kept.find(f"{index}.json"):
            found[name] = _ROUNDED.validate_json(stored.read_bytes())
            continue
        progress(f"sensitivity of tensor {index + 1} of {len(weights)}: {name}")
        coded = [option for option in options[name] if option.method != "none"]
        run = {option.use for option in _anchors(coded)} if name in measured else set()
        moments = seen.get(name) or _of_table(directory, weight, feeds)
        found[name] = {
            option.use: _one(
                weight, option, moments, (chain, holdout) if option.use in run else None
            )
            for option in coded
        }
        with kept.writing(f"{index}.json") as partial:
            partial.write_bytes(_ROUNDED.dump_json(found[name]))
    return _complete(found)


def _statistics(
    directory: Path, weights: Sequence[Weight], feeds: Sequence[Feed], progress: Progress
) -> dict[str, Moments]:
    """Moments of the inputs of layers, by the weight's name."""
    every = Decision(Choice(INT4_B32.name, GPTQ.name, "float32", None), "")
    seen = watch(directory, weights, {weight.name: every for weight in weights}, feeds, progress)
    found = {}
    for weight in weights:
        met = weight.product.activation.name if weight.product is not None else None
        if met in seen and (hessian := seen[met].hessian) is not None:
            found[weight.name] = Moments(hessian.astype(np.float32))
    return found


def _of_table(directory: Path, weight: Weight, feeds: Sequence[Feed]) -> Moments | None:
    """The cost of errors in a table's rows, found as in a build; None if nothing looks them up."""
    if weight.role != "embedding" or looked_up(weight) is None:
        return None
    return table_moments(directory, weight, feeds).moments


def _one(
    weight: Weight, option: Option, moments: Moments | None, run: tuple[Chain, Holdout] | None
) -> _Rounded:
    quick = rounding_method(option.method).proxy or option.method
    local = _change(_round(weight, option.number_format, quick, moments) - weight.matrix(), moments)
    if run is None:
        return _Rounded(local)
    chain, holdout = run
    loss = holdout.of_graph(
        chain, {weight.name: _round(weight, option.number_format, option.method, moments)}
    )
    return _Rounded(local, max(loss.value, 0.0), loss.error)


def _round(weight: Weight, stored_as: str, method: str, moments: Moments | None) -> Floats:
    statistics = Statistics.of(moments) if moments else None
    rounding = rounding_method(method)
    return rounding.round(weight.matrix(), statistics, number_format(stored_as)).dequantize()


def _change(change: Floats, moments: Moments | None) -> float:
    """Mean squared change of the output; without moments, of the rows."""
    if moments is None:
        return float(np.square(change, dtype=np.float64).sum())
    return moments.error(np.zeros_like(change), change)


def _anchors(options: Sequence[Option]) -> list[Option]:
    """The narrowest format and a medium one: widths that budgets usually lead to."""
    return [options[0], *options[1:][: max(1, (len(options) - 1) // 2)][-1:]]


def _kind(name: str) -> str:
    return re.sub(r"(?<![A-Za-z])\d+(?![A-Za-z])", "*", name)


def _measured(names: Sequence[str]) -> set[str]:
    """The tensors for which the model runs: some of each kind, spread evenly over its layers."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(_kind(name), []).append(name)
    each = max(2, MOST_MEASURED // len(kinds))
    chosen: set[str] = set()
    for own in kinds.values():
        count = min(each, len(own))
        step = (len(own) - 1) / max(1, count - 1)
        chosen |= {own[round(i * step)] for i in range(count)}
    return chosen


def _complete(found: Mapping[str, Mapping[str, _Rounded]]) -> dict[str, dict[str, Cost]]:
    """A cost for every tensor and format, from those for which the model ran."""
    kinds: dict[str, list[str]] = {}
    for name in found:
        kinds.setdefault(_kind(name), []).append(name)
    complete = {}
    for own in kinds.values():
        known = [i for i, name in enumerate(own) if _runs(found[name])]
        for index, name in enumerate(own):
            before = max((i for i in known if i <= index), default=known[0])
            behind = min((i for i in known if i >= index), default=known[-1])
            share = (index - before) / (behind - before) if behind > before else 0.0
            lines = [_runs(found[own[i]]) for i in (before, behind)]
            complete[name] = {
                use: _cost(rounded, lines, share) for use, rounded in found[name].items()
            }
    return {name: complete[name] for name in found}


def _runs(rounded: Mapping[str, _Rounded]) -> list[tuple[float, float]]:
    """Change and loss of the formats for which the model ran, the smaller change first."""
    return sorted((r.local, r.loss) for r in rounded.values() if r.loss is not None)


def _cost(rounded: _Rounded, lines: Sequence[Sequence[tuple[float, float]]], share: float) -> Cost:
    if rounded.loss is not None:
        return Cost(loss=rounded.loss, error=rounded.error, local=rounded.local, how="measured")
    first, second = (_on_line(rounded.local, line) for line in lines)
    both = first > 0 and second > 0
    loss = first ** (1 - share) * second**share if both else (1 - share) * first + share * second
    return Cost(loss=loss, error=None, local=rounded.local, how="interpolated")


def _on_line(local: float, line: Sequence[tuple[float, float]]) -> float:
    """Loss at a change of the output, on the line through one or two points in logarithms."""
    (x0, y0), (x1, y1) = line[0], line[-1]
    if min(local, x0, x1, y0, y1) <= 0:
        return y0 * local / x0 if x0 > 0 else 0.0
    # A slope far from proportional is noise between two losses near zero.
    slope = math.log(y1 / y0) / math.log(x1 / x0) if x1 > x0 else 1.0
    slope = min(max(slope, 0.5), 2.0)
    near = (x0, y0) if abs(math.log(local / x0)) < abs(math.log(local / x1)) else (x1, y1)
    return float(near[1] * (local / near[0]) ** slope)
