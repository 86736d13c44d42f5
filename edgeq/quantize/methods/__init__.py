"""Rounding methods by name; another package adds one by an entry point `edgeq.rounding_methods`."""

from __future__ import annotations

from edgeq.core.registry import Registry
from edgeq.quantize.methods.awq import AWQ
from edgeq.quantize.methods.base import RoundingMethod, Statistics
from edgeq.quantize.methods.gptq import GPTQ
from edgeq.quantize.methods.importance import IMPORTANCE
from edgeq.quantize.methods.kmeans import KMEANS
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.number_formats.base import NumberFormat

__all__ = [
    "ROUNDING_METHODS",
    "RoundingMethod",
    "Statistics",
    "methods_for",
    "plain_method",
    "register_rounding_method",
    "rounding_method",
]

ROUNDING_METHODS: Registry[RoundingMethod] = Registry(
    "rounding method",
    "edgeq.rounding_methods",
    RoundingMethod,  # type: ignore[type-abstract]
    (NEAREST, GPTQ, IMPORTANCE, AWQ, KMEANS),
)
rounding_method = ROUNDING_METHODS.named
register_rounding_method = ROUNDING_METHODS.register


def methods_for(number_format: NumberFormat) -> tuple[str, ...]:
    """How weights can be rounded onto a number format; the first is the default.

    >>> from edgeq.quantize.number_formats import number_format
    >>> methods_for(number_format("int4-b32"))
    ('gptq', 'nearest', 'importance', 'awq')
    """
    able = [m.name for m in ROUNDING_METHODS.values() if m.rounds_onto(number_format)]
    return tuple(sorted(able, key=lambda name: name != number_format.default_method))


def plain_method(number_format: NumberFormat) -> RoundingMethod:
    """The first method that needs no calibration data."""
    able = (ROUNDING_METHODS[name] for name in ROUNDING_METHODS)
    return next(m for m in able if m.rounds_onto(number_format) and not m.needs_calibration)
