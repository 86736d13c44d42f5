"""Weights of a model read piece by piece: never more in memory than was asked for."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.huggingface import TensorFacts, read_safetensors_header

Floats = NDArray[np.float32]

_STORED: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True)
class _Place:
    file: Path
    start: int
    facts: TensorFacts


class Weights:
    """The tensors of a model's safetensors files, as float32, a few rows at a time.

    Read with plain file reads: mapped pages would count as resident memory of this process.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._places: dict[str, _Place] = {}
        for file in files:
            facts = read_safetensors_header(file)
            with file.open("rb") as opened:
                (length,) = struct.unpack("<Q", opened.read(8))
                entries = json.loads(opened.read(length))
            for name, found in facts.items():
                start = 8 + length + entries[name]["data_offsets"][0]
                self._places[name] = _Place(file, start, found)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape as stored: outputs or tokens first."""
        return self._places[name].facts.shape

    def dtype(self, name: str) -> str:
        """`F32`, `F16` or `BF16`, as the file says."""
        return self._places[name].facts.dtype

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """float32 `(stop - start, …)`: rows of the first axis. Exact: F16 and BF16 only widen.

        Raises InvalidInput for a tensor of another number format.
        """
        place = self._places[name]
        shape = place.facts.shape
        stored = _STORED.get(place.facts.dtype)
        if stored is None:
            what = f"{name} is stored as {place.facts.dtype}"
            remedy = f"edgeq reads {', '.join(_STORED)}: use the model before it was quantized"
            raise InvalidInput(Problem(str(place.file), what, remedy))
        per_row = int(np.prod(shape[1:], dtype=np.int64))
        held = np.empty((stop - start) * per_row, stored)
        with place.file.open("rb", buffering=0) as file:
            file.seek(place.start + start * per_row * stored.itemsize)
            view = held.data.cast("B")
            while view:
                count = file.readinto(view)
                if not count:
                    what = f"ends in the middle of {name}"
                    raise InvalidInput(Problem(str(place.file), what, "download it again"))
                view = view[count:]
        if place.facts.dtype == "BF16":
            wide = (held.astype(np.uint32) << 16).view(np.float32)
        else:
            wide = held.astype(np.float32, copy=False)
        result: Floats = wide.reshape(stop - start, *shape[1:])
        return result

    def read(self, name: str) -> Floats:
        """The whole tensor as float32."""
        shape = self.shape(name)
        if not shape:
            raise InvalidInput(
                Problem(str(self._places[name].file), f"{name} is a single number", "")
            )
        return self.rows(name, 0, shape[0])
