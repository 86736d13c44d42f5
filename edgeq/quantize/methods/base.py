"""The interface of a rounding method: its requirements, its number formats, and `round`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.number_formats.base import Floats, NumberFormat, QuantizedTensor

Reads = Literal["nothing", "power", "moments"]
"""Statistics of a layer's inputs that a method uses: the mean square of each, or all second
moments."""


@dataclass(frozen=True)
class Statistics:
    """Calibration statistics of a weight's inputs; None if they were not collected.

    power: float32 `(columns,)`, the mean square of each input. held_back: moments of held-out
    samples, to judge codes by.
    """

    power: Floats | None = None
    moments: Moments | None = None
    held_back: Moments | None = None

    @classmethod
    def of(cls, moments: Moments, held_back: Moments | None = None) -> Statistics:
        """Statistics derived from moments."""
        return cls(moments.power, moments, held_back)

    def as_if_whole(self) -> Statistics:
        """The same inputs, as if earlier layers had no error."""
        moments, held_back = self.moments, self.held_back
        return Statistics(
            self.power,
            moments.as_if_whole() if moments else None,
            held_back.as_if_whole() if held_back else None,
        )


class RoundingMethod(ABC):
    """A way to choose a weight's codes and scales. One instance of each class is registered.

    name: in recipes and records. title: its usual name. summary, source: one plain sentence on what
    it does, and a reference.
    """

    name: str
    title: str
    summary: str
    source: str

    reads: Reads = "nothing"
    """The statistics that `round` uses if there are calibration data."""
    needs_calibration: bool = False
    """Whether a build without calibration data is refused."""
    in_sequence: bool = False
    """Whether layers are rounded in order, each for the inputs produced by the rounded layers
    before
    it. The result is compared with plain rounding on held-out samples, and the better one kept."""
    rounds_tables: bool = False
    """Whether it also rounds embedding tables, by the effect of their errors on the answers."""
    folds_graph: bool = False
    """Whether the float graph is changed first, by `column_factors`; for ONNX only."""
    runs_in_ggml: bool = False
    """Whether llama.cpp's own quantizer does the same for its number formats."""
    trains: bool = False
    """Whether it trains codes that another method gave, by running the model's layers in torch."""
    proxy: str = ""
    """A cheaper method that ranks number formats the same way, to measure sensitivities with."""

    @property
    def takes_imatrix(self) -> bool:
        """Whether an importance matrix of llama.cpp's can stand in for calibration data."""
        return self.runs_in_ggml and self.needs_calibration

    @abstractmethod
    def rounds_onto(self, number_format: NumberFormat) -> bool:
        """Whether `round` supports this number format."""

    @abstractmethod
    def round(
        self, weight: Floats, statistics: Statistics | None, number_format: NumberFormat
    ) -> QuantizedTensor:
        """Codes and scales of one weight.

        weight: float32 `(rows, columns)`. statistics: of its inputs, None if calibration has none,
        e.g. if rows are looked up; a method must round then, too. The tensor names the method that
        actually made the codes. Raises what `edgeq.quantize.ggml.library.quantize_rows` does for
        GGUF's own number formats.
        """

    def starts_from(self, number_format: NumberFormat) -> str:
        """The method whose codes it trains once all weights have them; empty if it does not."""
        return ""

    def column_factors(
        self, weights: Sequence[Floats], moments: Moments, number_format: NumberFormat
    ) -> Floats | None:
        """Factors to multiply columns by, and to divide their input by; None without a gain.

        Only for methods that fold. weights: all that read the input whose moments these are.
        Returns float32 `(columns,)`, powers of two, so that the graph computes the same floats.
        """
        raise NotImplementedError(self.name)
