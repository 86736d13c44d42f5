"""The element types of MIL: their names, their numbers in the file, their bits, their numpy types.

Numbers are those of the enumeration `DataType` in Core ML's MIL.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ElementType:
    """`storage` is the numpy type of a value once unpacked; `bits` is its size on disk."""

    name: str
    bits: int
    storage: npt.DTypeLike

    @property
    def is_float(self) -> bool:
        return self.name in ("fp16", "fp32", "fp64")


_FLOATS = {10: ("fp16", 16), 11: ("fp32", 32), 12: ("fp64", 64)}
_SIGNED = {21: 8, 22: 16, 23: 32, 24: 64, 25: 4}
_UNSIGNED = {31: 8, 32: 16, 33: 32, 34: 64, 35: 4, 36: 2, 37: 1, 38: 6, 39: 3}


def _all_types() -> dict[int, ElementType]:
    types = {1: ElementType("bool", 8, np.bool_), 2: ElementType("string", 0, np.str_)}
    for number, (name, bits) in _FLOATS.items():
        types[number] = ElementType(name, bits, f"<f{bits // 8}")
    for number, bits in _SIGNED.items():
        types[number] = ElementType(f"int{bits}", bits, f"<i{max(bits, 8) // 8}")
    for number, bits in _UNSIGNED.items():
        # rarely used widths unpack into one byte per value
        types[number] = ElementType(f"uint{bits}", bits, f"<u{max(bits, 8) // 8}")
    return types


BY_NUMBER = _all_types()
BY_NAME = {element.name: element for element in BY_NUMBER.values()}


@dataclass(frozen=True)
class ValueType:
    """Type of a value. For a tensor: `element` and `shape`, where None is a variable length.

    `element` is None for lists and dictionaries. `is_state`: the value is a state, which operators
    name in order to read or write it.
    """

    element: ElementType | None
    shape: tuple[int | None, ...] = ()
    is_state: bool = False

    def __str__(self) -> str:
        lengths = "×".join("?" if n is None else str(n) for n in self.shape) or "scalar"
        return f"{self.element.name if self.element else 'collection'} {lengths}"
