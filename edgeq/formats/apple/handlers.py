"""Every module that translates operators: importing them registers their functions."""

from edgeq.formats.apple import (  # noqa: F401
    activations,
    einsum,
    elementwise,
    filling,
    indexing,
    layers,
    moves,
    pictures,
    recurrent,
    reductions,
    regions,
    slices,
)
