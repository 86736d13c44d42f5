"""Number formats by name; another package adds one by an entry point `edgeq.number_formats`."""

from __future__ import annotations

from edgeq.core.registry import Registry
from edgeq.quantize.number_formats.base import Codes, Floats, NumberFormat, QuantizedTensor
from edgeq.quantize.number_formats.floats import FLOATS
from edgeq.quantize.number_formats.integers import INTEGERS
from edgeq.quantize.number_formats.kquants import BLOCKS
from edgeq.quantize.number_formats.palettes import PALETTES

__all__ = [
    "NUMBER_FORMATS",
    "Codes",
    "Floats",
    "NumberFormat",
    "QuantizedTensor",
    "number_format",
    "register_number_format",
]

NUMBER_FORMATS: Registry[NumberFormat] = Registry(
    "number format",
    "edgeq.number_formats",
    NumberFormat,
    (FLOATS[0], *INTEGERS, *PALETTES, FLOATS[1], *BLOCKS),
)
number_format = NUMBER_FORMATS.named
register_number_format = NUMBER_FORMATS.register
