"""The number format of a weight: from the first rule that matches, else the variant's default."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from edgeq.quantize import presets
from edgeq.quantize.methods import plain_method, rounding_method
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import number_format
from edgeq.quantize.number_formats.floats import FloatFormat
from edgeq.quantize.spec import Intent

# Below this many values, scales and the operators to apply them cost more than codes save.
SMALLEST_WEIGHT = 4096
TOO_SMALL = f"fewer than 2 axes or {SMALLEST_WEIGHT} values"
"""The reason for weights that are too small to quantize."""
_ROUTERS = (".mlp.gate.weight", ".mlp.shared_expert_gate.weight")
_CHOOSES = "it chooses or weighs experts, which errors would change"
_WEIGHS = (".altup.modality_router.weight", "it weighs hidden states, which errors would change")
# Of embeddings of each layer: as many columns as all layers have together.
_WIDE_TABLE = "model.embed_tokens_per_layer.weight"
# Of a layer's short convolution: a few columns, which no kernel for codes reads.
_TAPS = (".conv.conv.weight", ".linear_attn.conv1d.weight")
_FEW = "a convolution over a few positions"
ALREADY = "already quantized"
"""The start of the reason for weights that the user's file already stores as integers."""


@dataclass(frozen=True)
class Decision:
    """The decision for one weight: `reason` names the rule, the default or the obstacle.

    `choice` is None for a weight that stays as in the file: float32, or the type `kept`.
    """

    choice: Choice | None
    reason: str
    kept: str = "float32"

    @property
    def number_format(self) -> str:
        """The number format's name; without one, the type that is kept."""
        return self.choice.number_format if self.choice else self.kept

    @property
    def method(self) -> str:
        """The rounding method, `none` for an unquantized weight."""
        return self.choice.method if self.choice else "none"

    @property
    def is_trained(self) -> bool:
        """Whether its codes are trained, from those of another method."""
        return self.started() is not self

    def started(self) -> Decision:
        """The same with the method that training starts from, if its codes are trained."""
        if self.choice is None:
            return self
        found = rounding_method(self.choice.method).starts_from(
            number_format(self.choice.number_format)
        )
        return replace(self, choice=replace(self.choice, method=found)) if found else self

    @property
    def activations(self) -> str:
        """The number format of its activations."""
        return self.choice.activations if self.choice else "float32"


def decide(name: str, shape: tuple[int, ...], intent: Intent) -> Decision:
    """Decide by name and shape alone, as in a plan; for variants in a number format of ours."""
    size = 1
    for length in shape:
        size *= length
    if len(shape) < 2 or size < SMALLEST_WEIGHT:
        return Decision(None, TOO_SMALL)
    if name.endswith(_ROUTERS):
        return Decision(None, _CHOOSES)
    if name.endswith(_TAPS):
        return Decision(None, _FEW)
    if name.endswith(_WEIGHS[0]):
        return Decision(None, _WEIGHS[1])
    variant = intent.variant
    exception = intent.exception(name)
    stored_as: Any = variant.weights  # one of our own: GGUF's types are decided elsewhere
    reason = "default"
    if exception is not None:
        reason, stored_as = exception
    found = number_format(stored_as)
    # Core ML stores such a weight in the type that its program computes in
    if isinstance(found, FloatFormat):
        return Decision(None, reason)
    own = variant if stored_as == variant.weights else presets.make_variant(weights=stored_as)
    method = own.method
    if name.endswith(_WIDE_TABLE):
        method = plain_method(found).name
        reason = f"{reason}; measuring the cost of errors takes a pass for each of its columns"
    return Decision(Choice(stored_as, method, own.activations, variant.ranges), reason)


def kept_bytes(values: int, decision: Decision) -> int:
    """Bytes of an unquantized weight: the number in its type's name is its bits."""
    bits = re.search(r"\d+", decision.kept)
    return values * int(bits.group() if bits else 32) // 8


def stored_bytes(decision: Decision, shape: tuple[int, ...], *, is_table: bool) -> int:
    """Bytes of a weight in an ONNX file: codes and scales, or four bytes per value.

    The first axis counts as rows for tables and layers alike, which is how both are stored. Only
    operators that look rows up or expand codes accept float16 scales; for the others they are
    written as float32.
    """
    rows = shape[0] if shape else 1
    columns = 1
    for length in shape[1:]:
        columns *= length
    if decision.choice is None:
        return kept_bytes(rows * columns, decision)
    stored = number_format(decision.choice.number_format)
    wider = 0 if is_table or stored.is_expanded else 2 * stored.scale_count(rows, columns)
    return stored.nbytes(rows, columns) + wider
