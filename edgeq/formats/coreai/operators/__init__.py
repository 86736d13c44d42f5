"""The MIL's operators in Core AI's. Importing this package registers all of them."""

from edgeq.formats.coreai.operators import (
    elementwise,
    indexing,
    products,
    sampling,
    shapes,
    windows,
)
from edgeq.formats.coreai.operators.registry import LOWERED

__all__ = ["LOWERED", "elementwise", "indexing", "products", "sampling", "shapes", "windows"]
