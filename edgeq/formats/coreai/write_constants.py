"""The weights of a Core AI program: float, integers with scales, or indices into tables."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.apple.constants import Array, Weight, pack_indices, values_in
from edgeq.formats.coreai.coreai import load_authoring
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.number_formats.palettes import Palette

_NUMPY: dict[str, type[np.floating[Any]]] = {"fp16": np.float16, "fp32": np.float32}
_INLINE = 64  # bytes of constants that are part of the program's text
_INTEGERS = (4, 8)  # bits that Core AI's kernels read


class Constants:
    """Makes each weight once for all the operators that read it.

    Scales and tables are float16 for every type of operator, as in other formats, and so are the
    values that the runtime makes of codes: from float32 scales, its kernels for Linux would round
    the inputs of products to 8 bits, too.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Any] = {}

    def weight(self, weight: Weight, wanted: str) -> Any:
        """A weight for an operator that computes in `wanted`."""
        key = (weight.name, wanted)
        if key not in self._made:
            if weight.codes is None:
                self._made[key] = constant(values_in(weight, _NUMPY[wanted]))
            elif wanted == "fp16":
                self._made[key] = self._decoded(weight, weight.codes)
            else:
                self._made[key] = load_authoring().cast(self.weight(weight, "fp16"), np.float32)
        return self._made[key]

    def _decoded(self, weight: Weight, codes: QuantizedTensor) -> Any:
        authoring, scales = load_authoring(), codes.scales.astype(np.float16)
        if isinstance(codes.number_format, Palette):
            bits = codes.number_format.bits
            shape = (len(scales), *[1] * (len(weight.shape) - 1), 1 << bits, 1)
            indices = _constant_of(codes.codes.reshape(weight.shape), bits, signed=False)
            return authoring.lut_to_dense(indices, constant(scales.reshape(shape)), np.int16(0))
        bits = _bits(codes)
        # Blocks run along the second axis; a filter's other axes have length 1 then.
        shape = (len(codes.codes), scales.shape[1], *[1] * (len(weight.shape) - 2))
        return authoring.blockwise_shift_scale(
            _constant_of(codes.codes.reshape(weight.shape), bits, signed=True),
            constant(scales.reshape(shape)),
            _constant_of(np.zeros(shape, np.int8), bits, signed=True),
            constant(np.zeros(shape, np.float16)),
        )


def _bits(tensor: QuantizedTensor) -> int:
    """The width of codes in the file. Raises InvalidInput for widths that Core AI lacks."""
    stored = tensor.number_format
    bits = stored.stored_bits if isinstance(stored, IntegerFormat) else None
    if bits not in _INTEGERS:
        what = f"Core AI has no integer type for codes of {bits} bits"
        known = " or ".join(map(str, _INTEGERS))
        raise InvalidInput(Problem(stored.name, what, f"store codes in {known} bits"))
    return bits


def constant(array: Array) -> Any:
    """An array as a constant of the program."""
    from coreai.authoring.constant import constant as make

    if array.nbytes <= _INLINE or (array == array.flat[0]).all():
        return make(np.asarray(array, order="C"))
    types = {"f": {2: "f16", 4: "f32"}, "i": {4: "si32"}}
    return _resource(array, array.shape, types[array.dtype.kind][array.dtype.itemsize])


def _constant_of(codes: Array, bits: int, *, signed: bool) -> Any:
    """Codes of a few bits. Apple's `constant` stores each in a byte; its own tools pack them."""
    from coreai._compiler.dialects.coreai import ConstantOp
    from coreai._compiler.ir import DenseElementsAttr, IntegerAttr, RankedTensorType, Type
    from coreai.authoring import Value

    word = f"{'si' if signed else 'ui'}{bits}"
    if not (codes == codes.flat[0]).all():
        return _resource(pack_indices(codes, bits), codes.shape, word)
    kind = Type.parse(word)
    one = IntegerAttr.get(kind, int(codes.flat[0]))
    whole = RankedTensorType.get(list(codes.shape), kind)
    return Value._from_mlir(ConstantOp(value=DenseElementsAttr.get_splat(whole, one)).result)


def _resource(array: Array, shape: tuple[int, ...], word: str) -> Any:
    """Bytes as a constant of a type. Apple's names for them differ from process to process."""
    from coreai._compiler.dialects.coreai import ConstantOp
    from coreai._compiler.ir import DenseResourceElementsAttr, RankedTensorType, Type
    from coreai.authoring import Value

    whole = RankedTensorType.get(list(shape), Type.parse(word))
    name = hashlib.sha256(array.tobytes()).hexdigest()[:16]
    held = np.ascontiguousarray(array)
    attribute = DenseResourceElementsAttr.get_from_buffer(held, name, whole)
    return Value._from_mlir(ConstantOp(value=attribute).result)
