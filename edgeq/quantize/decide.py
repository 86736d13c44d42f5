"""Which grid a weight gets: the first rule that matches, else the variant's default."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from edgeq.quantize import presets
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import number_format
from edgeq.quantize.number_formats.floats import FloatFormat
from edgeq.quantize.spec import Intent

# Below this many values, scales and the operators to apply them cost more than codes save.
SMALLEST_WEIGHT = 4096
TOO_SMALL = f"fewer than 2 axes or {SMALLEST_WEIGHT} values"
"""Why a weight stays as it is, for its size."""
ALREADY = "already quantized"
"""Begins why a weight stays as it is that the user's file has in integers."""


@dataclass(frozen=True)
class Decision:
    """What becomes of one weight, and why: `reason` names the rule, the default or the obstacle.

    `choice` is None for a weight that stays as the file has it: float32, or the type `kept`.
    """

    choice: Choice | None
    reason: str
    kept: str = "float32"

    @property
    def grid(self) -> str:
        """The grid's name; without one, the type that is kept."""
        return self.choice.grid if self.choice else self.kept

    @property
    def method(self) -> str:
        """How it is rounded, `none` for a weight that is not."""
        return self.choice.method if self.choice else "none"

    @property
    def activations(self) -> str:
        """The number format of what it multiplies."""
        return self.choice.activations if self.choice else "float32"


def decide(name: str, shape: tuple[int, ...], intent: Intent) -> Decision:
    """Decide by name and shape alone, which is all a plan has; for variants on a grid of ours."""
    size = 1
    for length in shape:
        size *= length
    if len(shape) < 2 or size < SMALLEST_WEIGHT:
        return Decision(None, TOO_SMALL)
    variant = intent.variant
    exception = intent.exception(name)
    grid: Any = variant.weights  # of ours: what goes into GGUF alone is decided elsewhere
    reason = "default"
    if exception is not None:
        reason, grid = exception
    found = number_format(grid)
    if isinstance(found, FloatFormat):  # Core ML keeps such a weight in what its program computes
        return Decision(None, reason)
    own = variant if grid == variant.weights else presets.make_variant(weights=grid)
    activations = own.activations
    return Decision(Choice(grid, own.method, activations, variant.ranges), reason)


def kept_bytes(values: int, decision: Decision) -> int:
    """Bytes of a weight that stays as it is: the number in its type's name are its bits."""
    bits = re.search(r"\d+", decision.kept)
    return values * int(bits.group() if bits else 32) // 8


def stored_bytes(decision: Decision, shape: tuple[int, ...], *, is_table: bool) -> int:
    """Bytes of a weight in an ONNX file: codes and scales, or four bytes a value.

    The first axis counts as rows for tables and layers alike, which is how both are stored. Only
    operators that look rows up take float16 scales; for the others they are written as float32.
    """
    rows = shape[0] if shape else 1
    columns = 1
    for length in shape[1:]:
        columns *= length
    if decision.choice is None:
        return kept_bytes(rows * columns, decision)
    stored = number_format(decision.choice.grid)
    wider = 0 if is_table else 2 * stored.scale_count(rows, columns)
    return stored.nbytes(rows, columns) + wider
