"""Decode types and values of the program's messages into our records and numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.coreml.executor.blob import BlobFile, unpacked
from edgeq.formats.coreml.executor.types import BY_NUMBER, ElementType, ValueType

Decoded = Any
"""A decoded value: an Array, a str, or a list or dict of these."""


class Decoder:
    """Decodes the messages of one package; `blobs` opens a weight file by its name there."""

    def __init__(self, where: str, blobs: Callable[[str], BlobFile]) -> None:
        self._where = where
        self._blobs = blobs

    def type_of(self, message: Any) -> ValueType:
        """The type of a `ValueType` message. InvalidInput if it is unknown."""
        kind = message.WhichOneof("type")
        if kind == "stateType":
            wrapped = self.type_of(message.stateType.wrappedType)
            return ValueType(wrapped.element, wrapped.shape, is_state=True)
        if kind != "tensorType":
            return ValueType(None)
        tensor = message.tensorType
        if tensor.dataType not in BY_NUMBER:
            raise self._problem(f"element type number {tensor.dataType} is not known")
        shape = tuple(
            dimension.constant.size if dimension.WhichOneof("dimension") == "constant" else None
            for dimension in tensor.dimensions
        )
        return ValueType(BY_NUMBER[tensor.dataType], shape)

    def value(self, message: Any) -> Decoded:
        """The value of a `Value` message, read from the weight file if it is stored there."""
        form = message.WhichOneof("value")
        if form == "blobFileValue":
            element, shape = self._tensor(message)
            place = message.blobFileValue
            values = self._blobs(place.fileName).read(place.offset, element, math.prod(shape))
            return values.astype(element.storage, copy=False).reshape(shape)
        immediate = message.immediateValue
        form = immediate.WhichOneof("value")
        if form == "tensor":
            return self._immediate(immediate.tensor, *self._tensor(message))
        if form in ("list", "tuple"):
            return [self.value(item) for item in getattr(immediate, form).values]
        if form == "dictionary":
            pairs = immediate.dictionary.values
            return {_plain(self.value(p.key)): self.value(p.value) for p in pairs}
        raise self._problem("a constant of the program has no value")

    def _tensor(self, message: Any) -> tuple[ElementType, tuple[int, ...]]:
        stated = self.type_of(message.type)
        if stated.element is None or None in stated.shape:
            raise self._problem(f"a constant of the program has the open type {stated}")
        return stated.element, tuple(n for n in stated.shape if n is not None)

    def _immediate(self, message: Any, element: ElementType, shape: tuple[int, ...]) -> Decoded:
        form = message.WhichOneof("value")
        count = math.prod(shape)
        if element.name == "string":
            texts = list(message.strings.values)
            return texts if shape else texts[0] if texts else ""
        if form == "bytes":
            data = np.frombuffer(message.bytes.values, np.uint8)
            if data.size != (count * element.bits + 7) // 8:
                raise self._problem(f"{data.size} bytes cannot hold {count} of {element.name}")
            values = unpacked(data, element, count)
        else:
            stated = getattr(message, form).values if form else ()
            try:
                values = np.array(stated, dtype=element.storage)
            except (ValueError, OverflowError) as error:
                raise self._problem(f"a constant is not of type {element.name}: {error}") from error
        if values.size != count:
            raise self._problem(f"a constant has {values.size} values, its shape says {count}")
        return values.reshape(shape)

    def _problem(self, what: str) -> InvalidInput:
        return InvalidInput(Problem(self._where, what, "export the package again"))


def _plain(value: Decoded) -> Any:
    return value.item() if isinstance(value, np.ndarray) else value
