"""The operators of MIL in numpy. Importing this package registers all of them."""

from __future__ import annotations

from edgeq.formats.coreml.executor.operators import (
    activation,
    attention,
    classification,
    convolution,
    elementwise,
    indexing,
    linear,
    normalisation,
    quantization,
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
    "elementwise",
    "indexing",
    "linear",
    "normalisation",
    "quantization",
    "rearranging",
    "recurrent",
    "reduction",
    "resizing",
    "shape",
    "sorting",
]
