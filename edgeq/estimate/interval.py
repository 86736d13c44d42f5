"""An estimated number with its 90 % range."""

from __future__ import annotations

from edgeq.core.artifact import Frozen


class Interval(Frozen):
    """An estimate. The true value is expected between `low` and `high`, ends included, in 90 % of
    cases.

    Its unit depends on the field that contains it. `basis`: the basis of the estimate, for readers.
    """

    value: float
    low: float
    high: float
    basis: str

    def inverse(self, numerator: float, basis: str | None = None) -> Interval:
        """`numerator` divided by it: seconds from a speed, with the ends swapped."""
        return Interval(
            value=numerator / self.value,
            low=numerator / self.high,
            high=numerator / self.low,
            basis=basis or self.basis,
        )
