"""Possible outcomes of a budget whose number formats are not chosen yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edgeq.core.units import format_bytes
from edgeq.estimate.devices import Estimates
from edgeq.estimate.interval import Interval
from edgeq.formats.file_format import TensorPlan
from edgeq.pipeline.plan.records import ArtifactPlan
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.storage import Format


@dataclass(frozen=True)
class Prospect:
    """Possible outcomes of a budget, by its sizes alone.

    smallest: with the fewest bits for every tensor. largest: as large as size, memory and speed
    allow, spread evenly over the tensors. most: bytes of the largest file without any budget.
    is_filled: whether the allowance will be used up, since quality sets no lower bound. offered:
    every way in which a tensor may be stored.
    """

    smallest: ArtifactPlan
    largest: ArtifactPlan
    most: int
    is_filled: bool
    offered: tuple[TensorPlan, ...]

    def note(self, fit: FitSpec, format: Format) -> str:
        """Note a size budget that no choice of number formats fills; empty for others."""
        if fit.size is None or fit.size <= self.most or not self.is_filled:
            return ""
        return (
            f"its {format_bytes(fit.size)} are more than this model can use in {format} "
            f"({format_bytes(self.most)} at most, estimated): the least lossy file is built"
        )

    def estimates(self, of: Callable[[ArtifactPlan], Estimates]) -> Estimates:
        """Estimate for a device. of: the estimator of a plan there."""
        largest = of(self.largest)
        if self.is_filled:
            how = "number formats not chosen yet: for a file as large as its budget allows"
            return _mapped(largest, largest, lambda _, value: _based(value, value, value, how))
        how = "number formats not chosen yet: from the smallest file to the largest it can become"
        return _mapped(of(self.smallest), largest, lambda a, b: _based(b, a, b, how))


def _mapped(
    a: Estimates, b: Estimates, merged: Callable[[Interval, Interval], Interval]
) -> Estimates:
    """Return `b` with every interval merged with the one in `a`."""

    def both(x: Interval | None, y: Interval | None) -> Interval | None:
        return merged(x, y) if x is not None and y is not None else None

    memory = {
        name: merged(getattr(a.memory, name), getattr(b.memory, name))
        for name in ("peak", "footprint", "growth")
    }
    speeds = {
        name: both(getattr(a, name), getattr(b, name))
        for name in ("decode", "prompt", "first_token", "latency")
    }
    return b.model_copy(update={"memory": b.memory.model_copy(update=memory), **speeds})


def _based(value: Interval, a: Interval, b: Interval, how: str) -> Interval:
    return Interval(
        value=value.value,
        low=min(a.low, b.low),
        high=max(a.high, b.high),
        basis=f"{value.basis}; {how}",
    )
