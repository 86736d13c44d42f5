"""The constants of a Core ML program: weights in float or in a number format, and other numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.apple.constants import (
    Place,
    Read,
    Weight,
    identifier,
    narrow,
    pack_indices,
    values_in,
    whole,
)
from edgeq.formats.coreml.coremltools import load_coremltools
from edgeq.formats.coreml.deployment_targets import IOS18, Target
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.number_formats.palettes import Palette

_FEW = 64  # arrays up to this size are part of the program's text, not of the weight file
_INTEGERS = {4: "int4", 8: "int8"}  # by bits
_NUMPY: dict[str, type[np.floating[Any]]] = {"fp16": np.float16, "fp32": np.float32}


class Constants:
    """Makes each constant once; the large ones are read when the package is written.

    readers: values of the large ones by name, for `write_package`.
    """

    def __init__(self, target: Target, free_name: Callable[[str], str]) -> None:
        """free_name: returns an unused name similar to the given one."""
        load_coremltools()
        from coremltools.converters.mil import Builder
        from coremltools.converters.mil.mil import types

        self.readers: dict[str, Read] = {}
        self._mb, self._types, self._target = Builder, types, target
        self._free = free_name
        self._made: dict[tuple[str, str], Any] = {}

    def shared(self, value: Any, word: str = "", before: Any = None) -> Any:
        """A small array or a string; equal ones are shared, which keeps the program short.

        before: the operator that it must precede.
        """
        key = (word, "") if word else (f"{value.dtype}{value.shape}", value.tobytes().hex())
        if key not in self._made:
            scalar = value if word or value.ndim else value[()]
            name = self._free(f"c{len(self._made)}")
            self._made[key] = self._mb.const(val=scalar, name=name, before_op=before)
        return self._made[key]

    def number(self, place: Place, value: Any, wanted: str) -> Any:
        """An operator's parameter, from a number, an array or a string."""
        if isinstance(value, str):
            return self.shared(value, value)
        array = np.asarray(value)
        if array.dtype.kind == "f":
            return self.shared(narrow(place, array, wanted))
        if array.dtype.kind in "iu" and array.dtype.itemsize > 1:
            return self.shared(whole(array))
        return self.shared(array)

    def weight(self, weight: Weight, wanted: str) -> Any:
        """A weight for an operator that computes in `wanted`; shared by all of them."""
        key = (weight.name, wanted)
        if key not in self._made:
            name = identifier(weight.name)
            if weight.codes is None:
                self._made[key] = self._plain(name, weight, wanted)
            elif isinstance(weight.codes.number_format, Palette):
                self._made[key] = self._looked_up(self._free(name), weight, weight.codes, wanted)
            else:
                self._made[key] = self._scaled(self._free(name), weight, weight.codes, wanted)
        return self._made[key]

    def _plain(self, name: str, weight: Weight, wanted: str) -> Any:
        dtype = _NUMPY[wanted]
        return self._large(name, dtype, weight.shape, lambda: values_in(weight, dtype))

    def _scaled(self, name: str, weight: Weight, codes: QuantizedTensor, wanted: str) -> Any:
        dtype = _NUMPY[wanted]
        rows = codes.codes.shape[0]
        if self._target < IOS18:
            return self._mb.constexpr_affine_dequantize(
                quantized_data=codes.codes.reshape(weight.shape),
                zero_point=np.int8(0),
                scale=codes.scales.reshape(rows).astype(dtype),
                axis=np.int32(0),
                name=name,
            )
        word = _integer_type(codes)
        data_type = self._types.nptype_from_builtin(getattr(self._types, word))
        # Blocks run along the second axis; a filter's other axes have length 1 then.
        shape = (rows, codes.scales.shape[1], *[1] * (len(weight.shape) - 2))
        return self._mb.constexpr_blockwise_shift_scale(
            data=self._coded(weight, data_type, lambda: codes.codes.reshape(weight.shape)),
            scale=codes.scales.astype(dtype).reshape(shape),
            name=name,
        )

    def _looked_up(self, name: str, weight: Weight, codes: QuantizedTensor, wanted: str) -> Any:
        bits, dtype = codes.number_format.bits, _NUMPY[wanted]
        tables = codes.scales.astype(dtype)
        if self._target < IOS18:
            return self._mb.constexpr_lut_to_dense(
                indices=pack_indices(codes.codes, bits),
                lut=tables[0],
                shape=np.array(weight.shape, np.uint32),
                name=name,
            )
        data_type = self._types.nptype_from_builtin(getattr(self._types, f"uint{bits}"))
        indices = codes.codes.astype(np.uint8).reshape(weight.shape)
        shape = (len(tables), *[1] * (len(weight.shape) - 1), 1 << bits, 1)
        return self._mb.constexpr_lut_to_dense(
            indices=self._coded(weight, data_type, lambda: indices),
            lut=tables.reshape(shape),
            name=name,
        )

    def _coded(self, weight: Weight, dtype: Any, read: Read) -> Any:
        """The codes of a weight, one constant for all float types that use it."""
        key = (weight.name, "codes")
        if key not in self._made:
            name = f"{identifier(weight.name)}_codes"
            self._made[key] = self._large(name, dtype, weight.shape, read)
        return self._made[key]

    def _large(self, name: str, dtype: Any, shape: tuple[int, ...], read: Read) -> Any:
        """A constant that is read when it is written: until then a single zero stands for all."""
        free = self._free(name)
        if math.prod(shape) < _FEW:
            return self._mb.const(val=read().astype(dtype), name=free)
        self.readers[free] = read
        return self._mb.const(val=np.broadcast_to(np.zeros((), dtype), shape), name=free)


def _integer_type(tensor: QuantizedTensor) -> str:
    """MIL's type for codes of a width. Raises InvalidInput for widths that Core ML lacks."""
    stored = tensor.number_format
    bits = stored.stored_bits if isinstance(stored, IntegerFormat) else None
    if bits not in _INTEGERS:
        what = f"Core ML has no integer type for codes of {bits} bits"
        known = " or ".join(map(str, _INTEGERS))
        raise InvalidInput(Problem(stored.name, what, f"store codes in {known} bits"))
    return _INTEGERS[bits]
