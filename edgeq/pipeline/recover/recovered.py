"""The outcome of recovery in a build: the adapter, its files, and its notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeq.core.artifact import TensorRecord
from edgeq.pipeline.recover.record import Recovery
from edgeq.quantize.adapter import METHOD, NUMBER_FORMAT, Adapter


@dataclass(frozen=True)
class Recovered:
    """The outcome of recovery. adapter: empty if none was asked for, or if none was an improvement.

    files: those written for it next to the model's. record: None if none was asked for.
    """

    adapter: Adapter = field(default_factory=dict)
    record: Recovery | None = None
    files: Sequence[str] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The entry in the artifact's record."""
        if self.record is None:
            return {}
        return {"recovery": self.record.model_dump(mode="json"), "notes": self.notes}

    @property
    def notes(self) -> list[str]:
        """Notes to show."""
        return [self.record.why_none] if self.record and not self.adapter else []

    @property
    def tensors(self) -> dict[str, TensorRecord]:
        """A record for the factors of every weight, under the weight's name."""
        return {
            f"{name}.adapter": TensorRecord(
                shape=(factors.rank, sum(factors.shape)),
                number_format=NUMBER_FORMAT,
                method=METHOD,
                bytes=factors.nbytes,
                note="recover",
            )
            for name, factors in self.adapter.items()
        }
