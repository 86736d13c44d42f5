"""What a rounding method is: what it needs, which number formats it rounds onto, and `round`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.number_formats.base import Floats, NumberFormat, QuantizedTensor

Reads = Literal["nothing", "power", "moments"]
"""What a method reads of a layer's inputs: the mean square of each, or all second moments."""


@dataclass(frozen=True)
class Statistics:
    """What calibration saw of a weight's inputs; None where it did not look.

    power: float32 `(columns,)`, the mean square of each input. held_back: moments of samples that
    codes are not made from, to judge them by.
    """

    power: Floats | None = None
    moments: Moments | None = None
    held_back: Moments | None = None

    @classmethod
    def of(cls, moments: Moments, held_back: Moments | None = None) -> Statistics:
        """Everything that moments say."""
        return cls(moments.power, moments, held_back)

    def as_if_whole(self) -> Statistics:
        """The same inputs, as if nothing before had been lost."""
        moments, held_back = self.moments, self.held_back
        return Statistics(
            self.power,
            moments.as_if_whole() if moments else None,
            held_back.as_if_whole() if held_back else None,
        )


class RoundingMethod(ABC):
    """A way to choose a weight's codes and scales. One instance of each class is registered.

    name: the word in recipes and records. title: its usual name. summary, source: one plain
    sentence on what it does, and where to read on.
    """

    name: str
    title: str
    summary: str
    source: str

    reads: Reads = "nothing"
    """What `round` uses of the statistics where there is calibration data."""
    needs_calibration: bool = False
    """Whether a build without calibration data is refused."""
    in_sequence: bool = False
    """Whether layers are rounded one after the other, each for the inputs that rounded layers give
    it. The result is compared with plain rounding on samples held back, and the better one kept."""
    rounds_tables: bool = False
    """Whether it also rounds embedding tables, by what errors in them do to the answers."""
    folds_graph: bool = False
    """Whether the float graph is changed first, by `column_factors`; for ONNX alone."""
    runs_in_ggml: bool = False
    """Whether llama.cpp's own quantizer does the same for its number formats."""
    proxy: str = ""
    """A cheaper method that ranks number formats alike, to measure sensitivities by."""

    @property
    def takes_imatrix(self) -> bool:
        """Whether an importance matrix of llama.cpp's can stand in for calibration data."""
        return self.runs_in_ggml and self.needs_calibration

    @abstractmethod
    def rounds_onto(self, number_format: NumberFormat) -> bool:
        """Whether `round` takes this number format."""

    @abstractmethod
    def round(
        self, weight: Floats, statistics: Statistics | None, number_format: NumberFormat
    ) -> QuantizedTensor:
        """Codes and scales of one weight.

        weight: float32 `(rows, columns)`. statistics: of its inputs, None where calibration cannot
        look, e.g. where rows are looked up; a method must round then, too. The tensor names the
        method that really made the codes. Raises what
        `edgeq.quantize.ggml.library.quantize_rows` does for GGUF's own number formats.
        """

    def column_factors(
        self, weights: Sequence[Floats], moments: Moments, number_format: NumberFormat
    ) -> Floats | None:
        """What to multiply columns by, and their input to divide by; None where nothing is gained.

        Only for methods that fold. weights: all that read the input whose moments these are.
        Returns float32 `(columns,)`, powers of two, so that the graph computes the same floats.
        """
        raise NotImplementedError(self.name)
