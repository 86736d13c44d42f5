"""Weights and other constants of programs, in whatever file they are stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.quantize.activations import InputCodes
from edgeq.quantize.number_formats import Codes, Floats, QuantizedTensor

Array = NDArray[Any]
Read = Callable[[], Array]

ANGLES = 64
"""Number of positions in a short table of angles."""
FAR = np.iinfo(np.int32).max // 2
"""A place beyond any axis, and a limit beyond any number: exporters write the largest integer."""
# Lowest mask value in float16: far below any score, and the sum of two is still finite.
_LEAST_MASK = 30000.0
_MASKING = 1e8  # numbers from here on stand for infinity
_LIMITS = (
    *("maximum", "minimum", "clip"),
    *("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"),
)
_DIVISIONS = ("real_div", "floor_div", "mod", "pow")
_REMEDY = "name the operators that read it in coreml.float32, or write compute: float32"
_SMALLEST_EPSILON = 2.0**-23  # a smaller one would be zero in float16
_FLOAT16 = np.finfo(np.float16)


def identifier(name: str) -> str:
    """The name in a program, without the `model.` prefix that all names of a model have.

    >>> identifier("model.layers.0.mlp.up_proj.weight"), identifier("/encoder/Add_1")
    ('layers_0_mlp_up_proj_weight', 'encoder_Add_1')
    """
    plain = re.sub(r"[^A-Za-z0-9_]", "_", name.strip("/").removeprefix("model."))
    return plain if re.match("[A-Za-z_]", plain) else f"_{plain}"


@dataclass(frozen=True)
class Weight:
    """A weight by its name in the model's own files; outputs, tokens or filters first.

    read: its values, float of any width. codes: instead of them, if it has any; for a weight with
    more than two axes, a row has all codes of one output. inputs: the codes of its input; None if
    that stays float. outlier_weights: float32 `(rows, outliers)`, the values for the input's
    outlier channels, whose codes are zero.
    """

    name: str
    shape: tuple[int, ...]
    read: Read
    codes: QuantizedTensor | None = None
    inputs: InputCodes | None = None
    outlier_weights: Floats | None = None

    def part(self, name: str, start: int, stop: int) -> Weight:
        """Some rows of a weight of two axes, under a name of their own."""
        codes = self.codes and self.codes.part(start, stop)
        return Weight(name, (stop - start, *self.shape[1:]), lambda: self.read()[start:stop], codes)

    def values(self) -> Array:
        """What the file has: the values of its codes, if it has any."""
        return self.codes.dequantize().reshape(self.shape) if self.codes else self.read()


def pack_indices(codes: Codes, bits: int) -> NDArray[np.uint8]:
    """Indices packed without gaps, lowest bit first, uint8 `(bytes,)`: the layout of iOS 16."""
    flat = codes.astype(np.uint8).reshape(-1, 1)
    spread = np.unpackbits(flat, axis=1, count=bits, bitorder="little")
    return np.packbits(spread.reshape(-1), bitorder="little")


def values_in(weight: Weight, dtype: type[np.floating[Any]]) -> Array:
    """The weight's values. Raises InvalidInput for values beyond the type's range."""
    values = weight.read()
    largest = float(np.abs(values).max(initial=0.0))
    if largest > float(np.finfo(dtype).max):
        what = f"its values, up to {largest:g}, are beyond the range of {np.dtype(dtype).name}"
        raise InvalidInput(Problem(weight.name, what, _REMEDY))
    return values.astype(dtype)


def whole(value: Array) -> Array:
    """An integer constant as int32. Raises ValueError for numbers beyond that."""
    bounds = np.iinfo(np.int32)
    if value.size and (value.min() < bounds.min or value.max() > bounds.max):
        raise ValueError("it has integers beyond 32 bits")
    return value.astype(np.int32)


@dataclass(frozen=True)
class Place:
    """Where a constant stands: the operator's name, its kind in the MIL, and the parameter."""

    operator: str
    kind: str
    parameter: str


def narrow(place: Place, value: Array, wanted: str) -> Array:
    """A float constant in the requested type; limits, masks and epsilons keep their meaning.

    Raises InvalidInput for other numbers beyond float16.
    """
    if wanted == "fp32":
        return value.astype(np.float32)
    if place.parameter == "epsilon":
        return np.maximum(value, _SMALLEST_EPSILON).astype(np.float16)
    largest = float(_FLOAT16.max)
    if place.kind in _LIMITS:
        return np.clip(value, -largest, largest).astype(np.float16)
    sizes = np.abs(value)
    odd = (sizes > largest) & ((sizes < _MASKING) | (place.kind in _DIVISIONS))
    if odd.any():
        what = f"its constant {np.asarray(value)[odd].flat[0]:g} is beyond the range of float16"
        raise InvalidInput(Problem(place.operator, what, _REMEDY))
    return np.where(sizes > largest, np.sign(value) * _LEAST_MASK, value).astype(np.float16)
