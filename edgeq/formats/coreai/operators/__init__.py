"""The MIL's operators in Core AI's. Importing this package registers all of them."""

from edgeq.formats.coreai.operators import (
    detection,
    elementwise,
    indexing,
    products,
    sampling,
    shapes,
    windows,
)
from edgeq.formats.coreai.operators.registry import LOWERED

__all__ = [
    "LOWERED",
    "detection",
    "elementwise",
    "indexing",
    "products",
    "sampling",
    "shapes",
    "windows",
]
