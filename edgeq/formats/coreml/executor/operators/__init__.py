"""The operators of MIL in numpy. Importing this package registers all of them."""

from __future__ import annotations

from edgeq.formats.coreml.executor.operators import (
    activation,
    attention,
    classification,
    convolution,
    detection,
    elementwise,
    indexing,
    linear,
    lists,
    normalisation,
    quantization,
    randomness,
    rearranging,
    recurrent,
    reduction,
    resizing,
    shape,
    sorting,
)
from edgeq.formats.coreml.executor.operators.registry import MOVES, OPERATORS

__all__ = [
    "MOVES",
    "OPERATORS",
    "activation",
    "attention",
    "classification",
    "convolution",
    "detection",
    "elementwise",
    "indexing",
    "linear",
    "lists",
    "normalisation",
    "quantization",
    "randomness",
    "rearranging",
    "recurrent",
    "reduction",
    "resizing",
    "shape",
    "sorting",
]
