"""The quality cost of each tensor in each number format: the record, and the additive model.

While losses of single tensors are small, they add up to the whole model's within a few percent,
which allocation relies on; the deviation for whole models is measured too, and corrected. The loss
from rounding activations at runtime does not depend on codes, and is added as is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.pipeline.allocate.options import Option, Options
from edgeq.pipeline.allocate.solve import Priced
from edgeq.quantize.storage import Format

FILE = "sensitivity.json"


class Cost(Frozen):
    """One tensor in one number format, the rest of the model in float."""

    loss: float = Field(description="The model's loss: mean KL in nats, or mean 1 − cosine.")
    error: float | None = Field(description="Its standard error; None if interpolated.")
    local: float = Field(
        description="Mean squared change of the layer's output if it is rounded by importance."
    )
    how: Literal["measured", "interpolated"]
    inputs: float = Field(
        default=0.0,
        description="Additional loss from rounding the layer's activations at runtime: a share of "
        "the loss measured with all layers at once.",
    )


class Whole(Frozen):
    """A whole model, rounded as in a build but on fewer samples, its inputs in float."""

    additive: float = Field(description="The sum of its tensors' losses.")
    loss: float
    error: float
    bytes: int = Field(description="Bytes of its tensors that have a choice.")


class Sensitivity(Frozen):
    """The result of `edgeq sensitivity`.

    model_sha256, data_sha256: of the model's files and of the calibration data. tensors: by name,
    then by number format.
    """

    edgeq: Literal["sensitivity 2"] = "sensitivity 2"
    format: Format
    measure: Literal["kl", "cosine"]
    model_sha256: str
    data_sha256: str
    samples: int = Field(description="Held-out samples that tensors were measured on.")
    whole_samples: int = Field(description="Held-out samples that whole models were measured on.")
    tensors: dict[str, dict[str, Cost]]
    wholes: tuple[Whole, ...]

    def choices(self, options: Options, factor: float = 1.0) -> dict[str, tuple[Priced, ...]]:
        """`options` with their share of a whole model's loss; float costs nothing.

        factor: from `factor`, for the expected choice. Raises KeyError for unknown options.
        """

        def priced(name: str, option: Option) -> Priced:
            if option.method == "none":
                return Priced(option.use, 0.0, option.bytes)
            cost = self.tensors[name][option.use]
            return Priced(option.use, factor * cost.loss + cost.inputs, option.bytes)

        return {name: tuple(priced(name, o) for o in own) for name, own in options.items()}

    def additive(self, chosen: Mapping[str, str]) -> float:
        """Sum of the losses of tensors in their number formats; float tensors cost nothing."""
        return math.fsum(cost.loss for cost in self._costs(chosen))

    def predicted(self, chosen: Mapping[str, str]) -> float:
        """The predicted loss of a whole model, corrected by measured whole models."""
        added = self.additive(chosen)
        return self.factor(added) * added + math.fsum(c.inputs for c in self._costs(chosen))

    def _costs(self, chosen: Mapping[str, str]) -> list[Cost]:
        found = (self.tensors.get(name, {}).get(use) for name, use in chosen.items())
        return [cost for cost in found if cost is not None]

    def factor(self, additive: float) -> float:
        """The ratio of measured to summed loss, interpolated between whole models by the logarithm
        of sums.
        """
        known = sorted((whole.additive, whole.loss / whole.additive) for whole in self.wholes)
        if not known:
            return 1.0
        if additive <= known[0][0]:
            return known[0][1]
        for (a, fa), (b, fb) in itertools.pairwise(known):
            if additive <= b:
                share = math.log(additive / a) / math.log(b / a)
                return fa + share * (fb - fa)
        return known[-1][1]


def read_sensitivity(path: Path) -> Sensitivity:
    """Read the output of `edgeq sensitivity --out`. Raises InvalidInput for any other file."""
    try:
        return Sensitivity.model_validate_json(path.read_bytes())
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise InvalidInput(Problem(str(path), what, "write it with: edgeq sensitivity")) from None
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "the file"
        what = (
            f"is not a sensitivity file of this edgeq version: {place}: {error.errors()[0]['msg']}"
        )
        raise InvalidInput(Problem(str(path), what, "write it with: edgeq sensitivity")) from None
