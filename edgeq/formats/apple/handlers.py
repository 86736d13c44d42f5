"""Every module that translates operators: importing them registers their functions."""

from edgeq.formats.apple import (  # noqa: F401
    activations,
    einsum,
    filling,
    indexing,
    layers,
    operators,
    pictures,
    recurrent,
    regions,
)
