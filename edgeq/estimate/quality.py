"""The expected loss from quantizing, from published measurements of other models.

An unmeasured model may lose a fraction or a multiple of these: five public files of one 9B model
under the same label differ by a factor of four. Only a check of the built file is certain.
"""

from __future__ import annotations

import math
from typing import Literal

from edgeq.core.artifact import Frozen
from edgeq.estimate.interval import Interval
from edgeq.estimate.kinds import bits_per_weight

# Mean KL divergence (nats per token) from the float model, Llama 3 8B: llama.cpp,
# tools/perplexity/README.md. Q4_K_M with an importance matrix; the others as published without.
_KL = {
    "F32": 0.0,
    "BF16": 0.00002,
    "F16": 0.00002,
    "Q8_0": 0.00136,
    "Q6_K": 0.0055,
    "Q5_K_M": 0.0108,
    "Q4_K_M": 0.0282,
    "Q4_0": 0.0719,
    "Q3_K_M": 0.0844,
    "Q2_K": 0.332,
}
_SAME_BITS = {"float32": "F32", "int8-b32": "Q8_0", "int4-b32": "Q4_0", "int8": "Q8_0"}
_KL_LOW, _KL_HIGH = 6.0, 2.5  # factors to the ends: the range of losses observed for other models

# 1 − mean cosine with the float embedding, all-MiniLM-L6-v2 (6 layers of 384) in ONNX.
_COSINE_LOSS = {
    "float32": 0.0,
    "int8-dynamic": 0.0069,
    "int8-static": 0.02,
    "int8-b32": 0.0003,
    "int4-b32": 0.0252,
}
_COSINE_DOUBT = 3.0


class Loss(Frozen):
    """Expected loss. measure: `KL` in nats per token, or `1 − cosine`."""

    measure: Literal["KL", "1 − cosine"]
    amount: Interval


def expected_loss(label: str, *, is_decoder: bool) -> Loss | None:
    """The expected loss of a preset or GGUF mix; None if nothing was published."""
    if not is_decoder:
        return _of_encoder(label)
    name = _SAME_BITS.get(label, label)
    value = _KL.get(name.upper())
    basis = "estimated: Llama 3 8B with llama.cpp, as published; other models differ"
    if value is None:
        value, basis = (
            _between(bits_per_weight(name)),
            f"{basis}; interpolated between published types",
        )
    return Loss(
        measure="KL",
        amount=Interval(value=value, low=value / _KL_LOW, high=value * _KL_HIGH, basis=basis),
    )


def _of_encoder(label: str) -> Loss | None:
    number_format = {"Q8_0": "int8-b32", "Q4_0": "int4-b32", "F32": "float32"}.get(label, label)
    if number_format not in _COSINE_LOSS:
        return None
    value = _COSINE_LOSS[number_format]
    return Loss(
        measure="1 − cosine",
        amount=Interval(
            value=value,
            low=value / _COSINE_DOUBT,
            high=value * _COSINE_DOUBT,
            basis="estimated: all-MiniLM-L6-v2 with usual tools; other models differ",
        ),
    )


def _between(bits: float) -> float:
    """The line through the logarithms of the neighbours in bits."""
    known = sorted((bits_per_weight(name), loss) for name, loss in _KL.items() if loss > 0)
    if bits <= known[0][0]:
        (low, first), (high, second) = known[0], known[-2]
    else:
        above = next((i for i, (at, _) in enumerate(known) if at >= bits), len(known) - 1)
        (low, first), (high, second) = known[max(0, above - 1)], known[above]
    slope = (math.log(second) - math.log(first)) / max(high - low, 1e-9)
    return math.exp(math.log(first) + slope * (bits - low))
