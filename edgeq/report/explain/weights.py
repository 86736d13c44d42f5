"""Summaries of an artifact's weights, built or only planned."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Protocol, TypeVar

from edgeq.core.units import format_bytes
from edgeq.quantize.adapter import METHOD as ADAPTER
from edgeq.quantize.decide import TOO_SMALL
from edgeq.quantize.spec import CHOSEN
from edgeq.report.explain.facts import ExtraBits
from edgeq.report.explain.glossary import label_of
from edgeq.report.explain.parts import parts_of

_KEPT = 0.75  # at least this many bits more than most


class Weight(Protocol):
    """A tensor as it is in the file."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def method(self) -> str: ...
    @property
    def bytes(self) -> int: ...


class StoredWeight(Weight, Protocol):
    """A weight with the name of its number format."""

    @property
    def number_format(self) -> str: ...


Weights = Mapping[str, Weight]
W = TypeVar("W", bound=Weight)


def matrices(weights: Mapping[str, W]) -> dict[str, W]:
    """Weights of more than one axis, nearly all of a model, without adapters."""
    return {
        name: each
        for name, each in weights.items()
        if _count(each) and len(each.shape) > 1 and each.method != ADAPTER
    }


def formats(weights: Mapping[str, StoredWeight]) -> str:
    """Names of the number formats, fewest bits first."""
    bits = {label_of(each.number_format): _bits(each) for each in weights.values()}
    names = sorted(bits, key=lambda name: bits[name])
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def usual_bits(weights: Weights) -> float:
    """The most common bit width, by count of numbers in `weights`; 32 if there are none."""
    counts: dict[float, int] = {}
    for each in weights.values():
        counts[_bits(each)] = counts.get(_bits(each), 0) + _count(each)
    return max(counts, key=lambda bits: counts[bits]) if counts else 32.0


def methods(weights: Weights) -> tuple[str, ...]:
    """Rounding methods, the most common first."""
    counts: dict[str, int] = {}
    for each in weights.values():
        if each.method != "none":
            counts[each.method] = counts.get(each.method, 0) + _count(each)
    return tuple(sorted(counts, key=lambda method: -counts[method]))


def number(bits: float) -> str:
    """Bits per weight, exact to a hundredth, without trailing zeros.

    >>> number(4.5), number(8.0)
    ('4.5', '8')
    """
    return f"{bits:.2f}".rstrip("0").rstrip(".")


def exceptions(
    weights: Weights, file_bytes: int, losses: Mapping[str, float], reasons: Mapping[str, str]
) -> ExtraBits | None:
    """Weights with clearly more bits than most, the most expensive first.

    losses: the model's loss with each alone in the fewest bits; empty if not measured. reasons: why
    each has its number format, from the records. If some were chosen for a reason, those that are
    merely too small for fewer bits are left out.
    """
    usual = usual_bits(weights)
    every = {name: each for name, each in weights.items() if _bits(each) > usual + _KEPT}
    found = {n: each for n, each in every.items() if reasons[n] != TOO_SMALL} or every
    if not found:
        return None
    total = math.fsum(losses.values())
    harm = math.fsum(losses.get(name, 0.0) for name in found)
    size, count = sum(w.bytes for w in found.values()), sum(map(_count, found.values()))
    ordered = sorted(found, key=lambda name: -losses.get(name, 0.0))
    return ExtraBits(
        kinds=parts_of(ordered, weights),
        why=_why({reasons[name] for name in found}),
        is_small={reasons[name] for name in found} == {TOO_SMALL},
        bits=number(round(8 * size / count, 2)),
        bytes=format_bytes(size),
        share=_share(size / max(1, file_bytes)),
        weights=f"{count / sum(map(_count, weights.values())):.0%}",
        harm=f"{harm / total:.0%}" if total > 0 else None,
    )


def _share(share: float) -> str:
    return "less than 1%" if share < 0.01 else f"{share:.0%}"


def _why(reasons: Collection[str]) -> str:
    """Say who chose the format if all records agree; empty if they do not say."""
    kinds = {reason.partition(";")[0].partition(":")[0] for reason in reasons}
    if kinds == {TOO_SMALL}:
        return "they are too small for fewer bits to save anything"
    if all(kind.startswith("rule ") for kind in kinds):
        return "a rule of the recipe says so"
    return "the budget is best spent there" if kinds == {CHOSEN} else ""


def _count(weight: Weight) -> int:
    return math.prod(weight.shape)


def _bits(weight: Weight) -> float:
    return 8 * weight.bytes / _count(weight)
