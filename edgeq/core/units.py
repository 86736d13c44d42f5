"""Quantities carry their unit in every file a person writes: `200 MiB`, `40 ms`, `95 %`.

Inside the program they are plain numbers in base units (bytes, seconds, a fraction). A number given
by Python code is in base units; in a file a bare number is refused. Written back to JSON they carry
a unit again, exactly, so a written record can be read.
"""

from __future__ import annotations

import fractions
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.validation_messages import refuse, suggest

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

_BYTE_UNITS: dict[str, int] = {
    "B": 1,
    "kB": 10**3,
    "KiB": KIB,
    "MB": 10**6,
    "MiB": MIB,
    "GB": 10**9,
    "GiB": GIB,
}
_SECOND_UNITS: dict[str, fractions.Fraction] = {
    "us": fractions.Fraction(1, 10**6),
    "µs": fractions.Fraction(1, 10**6),
    "ms": fractions.Fraction(1, 10**3),
    "s": fractions.Fraction(1),
    "min": fractions.Fraction(60),
}
_SPEED_UNITS: dict[str, int] = {"tok/s": 1, "tokens/s": 1}
_RATE_UNITS: dict[str, int] = {f"{unit}/s": size for unit, size in _BYTE_UNITS.items()}

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,2})?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*([^\s0-9].*?)?\s*")


def _parse(
    value: Any, units: Mapping[str, int | fractions.Fraction], example: str, mode: str
) -> fractions.Fraction:
    """The exact value in base units of a text such as `1.5 GiB`; a bare number only from code."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and mode == "python":
        if not math.isfinite(value) or value <= 0:
            raise refuse(f"{value} must be more than zero", f"write e.g. '{example}'")
        return fractions.Fraction(value)
    if not is_number and not isinstance(value, str):
        raise refuse("is not a quantity with a unit", f"write e.g. '{example}'")
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise refuse(f"{str(value)!r} is not a quantity with a unit", f"write e.g. '{example}'")
    number, unit = match.groups()
    if unit is None:
        own = f"{number} {example.split()[1]}"
        raise refuse(f"{str(value)!r} has no unit", f"write e.g. '{own}'")
    if unit not in units:
        raise refuse(f"{unit!r} is not a known unit", suggest(unit, list(units)))
    result = fractions.Fraction(number) * units[unit]
    if result <= 0:
        raise refuse(f"{value!r} must be more than zero", f"write e.g. '{example}'")
    return result


def parse_bytes(value: Any, info: ValidationInfo) -> int:
    """Whole bytes, rounded down, from `200 MiB` or `40 MB`."""
    size = math.floor(_parse(value, _BYTE_UNITS, "200 MiB", info.mode))
    if size == 0:
        raise refuse(f"{value!r} must be at least one byte", "write e.g. '200 MiB'")
    return size


def given_bytes(text: str, option: str) -> int:
    """The bytes that a command's `option` was given as, e.g. `200MiB`. Raises InvalidInput."""
    try:
        return math.floor(_parse(text, _BYTE_UNITS, "200 MiB", "json"))
    except PydanticCustomError as error:
        context = error.context or {}
        raise InvalidInput(Problem(option, context["what"], context["remedy"])) from None


def parse_rate(value: Any, info: ValidationInfo) -> int:
    """Whole bytes per second, rounded down, from `17.1 GB/s`."""
    return math.floor(_parse(value, _RATE_UNITS, "17.1 GB/s", info.mode))


def parse_seconds(value: Any, info: ValidationInfo) -> float:
    """Seconds from `40 ms` or `2 s`."""
    return float(_parse(value, _SECOND_UNITS, "40 ms", info.mode))


def parse_speed(value: Any, info: ValidationInfo) -> float:
    """Tokens per second from `20 tok/s`."""
    return float(_parse(value, _SPEED_UNITS, "20 tok/s", info.mode))


def parse_fraction(value: Any) -> float:
    """A share from 0 to 1, from `0.99` or `99 %`."""
    share: float | None = None
    if isinstance(value, str):
        match = re.fullmatch(rf"\s*({_NUMBER})\s*(%?)\s*", value)
        if match:
            divisor = 100 if match.group(2) else 1
            share = float(fractions.Fraction(match.group(1)) / divisor)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        share = float(value)
    if share is None or not 0 <= share <= 1:
        raise refuse(f"{str(value)!r} is not a share from 0 to 1", "write e.g. '0.99' or '99 %'")
    return share


def exact_bytes(size: int) -> str:
    """`size` in the largest binary unit that divides it: `200 MiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if size % _BYTE_UNITS[unit] == 0:
            return f"{size // _BYTE_UNITS[unit]} {unit}"
    return f"{size} B"


def _quantity_schema(units: Mapping[str, Any], examples: list[str]) -> WithJsonSchema:
    alternatives = "|".join(units)
    pattern = rf"^\s*{_NUMBER}\s*({alternatives})\s*$"
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": examples})


Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    PlainSerializer(exact_bytes, return_type=str, when_used="json"),
    _quantity_schema(_BYTE_UNITS, ["200 MiB", "1.5 GiB", "40 MB"]),
]
"""A size in bytes, more than zero; in files `200 MiB` (1024-based) or `40 MB` (1000-based)."""

BytesPerSecond = Annotated[
    int,
    BeforeValidator(parse_rate),
    PlainSerializer(lambda rate: f"{exact_bytes(rate)}/s", return_type=str, when_used="json"),
    _quantity_schema(_RATE_UNITS, ["17.1 GB/s"]),
]
"""A bandwidth in bytes per second; in files `17.1 GB/s`."""

Seconds = Annotated[
    float,
    BeforeValidator(parse_seconds),
    PlainSerializer(lambda seconds: f"{seconds!r} s", return_type=str, when_used="json"),
    _quantity_schema(_SECOND_UNITS, ["40 ms", "2 s"]),
]
"""A time in seconds, more than zero; in files `40 ms` or `2 s`."""

TokensPerSecond = Annotated[
    float,
    BeforeValidator(parse_speed),
    PlainSerializer(lambda speed: f"{speed!r} tok/s", return_type=str, when_used="json"),
    _quantity_schema(_SPEED_UNITS, ["20 tok/s"]),
]
"""A speed in tokens per second, more than zero; in files `20 tok/s`."""

Fraction = Annotated[
    float,
    BeforeValidator(parse_fraction),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*%?\s*$"},
            ],
            "examples": [0.99, "99 %"],
        }
    ),
]
"""A share from 0 to 1; in files `0.99` or `99 %`."""


def format_bytes(size: float) -> str:
    """`size` bytes for a reader, always in MiB.

    >>> format_bytes(15414067), format_bytes(1024)
    ('14.7 MiB', '0.00098 MiB')
    """
    return _for_reader(size / MIB, "MiB")


def format_seconds(seconds: float) -> str:
    """`seconds` for a reader, always in ms.

    >>> format_seconds(0.0407), format_seconds(0.0000251)
    ('40.7 ms', '0.025 ms')
    """
    return _for_reader(seconds * 1000, "ms")


def format_speed(tokens_per_second: float) -> str:
    """Tokens per second for a reader.

    >>> format_speed(51.64), format_speed(20), format_speed(1234.5)
    ('51.6 tok/s', '20 tok/s', '1234 tok/s')
    """
    digits = 1 if tokens_per_second < 100 else 0
    return f"{tokens_per_second:.{digits}f}".removesuffix(".0") + " tok/s"


def _for_reader(value: float, unit: str) -> str:
    """One decimal; below 1, two significant digits, so that small values are not shown as zero."""
    text = f"{value:.1f}" if value == 0 or abs(value) >= 1 else f"{value:.2g}"
    return f"{text} {unit}"
