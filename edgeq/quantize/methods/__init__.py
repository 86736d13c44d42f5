"""Rounding methods by name; packages add methods by an entry point `edgeq.rounding_methods`."""

from __future__ import annotations

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.registry import Registry
from edgeq.quantize.methods.awq import AWQ
from edgeq.quantize.methods.base import RoundingMethod, Statistics
from edgeq.quantize.methods.gptq import GPTQ
from edgeq.quantize.methods.importance import IMPORTANCE
from edgeq.quantize.methods.kmeans import KMEANS
from edgeq.quantize.methods.learned import LEARNED
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
    (NEAREST, GPTQ, IMPORTANCE, AWQ, KMEANS, LEARNED),
)
rounding_method = ROUNDING_METHODS.named
register_rounding_method = ROUNDING_METHODS.register


def methods_for(number_format: NumberFormat) -> tuple[str, ...]:
    """Rounding methods for a number format; the first is the default.

    Raises InvalidInput if there is none.

    >>> from edgeq.quantize.number_formats import number_format
    >>> methods_for(number_format("int4-b32"))
    ('gptq', 'nearest', 'importance', 'awq', 'learned')
    """
    able = [m.name for m in ROUNDING_METHODS.values() if m.rounds_onto(number_format)]
    if not able:
        raise _no_method(number_format, "no rounding method supports it")
    return tuple(sorted(able, key=lambda name: name != number_format.default_method))


def plain_method(number_format: NumberFormat) -> RoundingMethod:
    """The first method that needs no calibration data. Raises InvalidInput without one."""
    for method in map(rounding_method, methods_for(number_format)):
        if not method.needs_calibration:
            return method
    raise _no_method(number_format, "every method that supports it needs calibration data")


def _no_method(number_format: NumberFormat, what: str) -> InvalidInput:
    remedy = "register a rounding method with reads = 'nothing' that supports it"
    return InvalidInput(Problem(f"the number format {number_format.name!r}", what, remedy))
