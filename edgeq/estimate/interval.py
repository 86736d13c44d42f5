"""An estimated number with the range that holds the truth nine times in ten."""

from __future__ import annotations

from edgeq.core.artifact import Frozen


class Interval(Frozen):
    """An estimate. Nine in ten truths are expected between `low` and `high`, ends included.

    Its unit is that of the field it stands in. `basis`: what the estimate rests on, for a reader.
    """

    value: float
    low: float
    high: float
    basis: str

    def inverse(self, numerator: float, basis: str | None = None) -> Interval:
        """`numerator` divided by it: seconds from a speed, with the ends changed round."""
        return Interval(
            value=numerator / self.value,
            low=numerator / self.high,
            high=numerator / self.low,
            basis=basis or self.basis,
        )
