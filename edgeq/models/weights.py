"""Read weights of a model piece by piece: never more in memory than requested."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.image_directory import ImageDirectory
from edgeq.models.names import ExpertPart
from edgeq.models.weight_files import TensorFacts, read_safetensors_header

Floats = NDArray[np.float32]

_STORED: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}

_SAME: Mapping[str, str] = {}
_SINGLE: Mapping[str, tuple[str, ...]] = {}
_WITHOUT: Mapping[str, ExpertPart] = {}
_ALL: Mapping[str, int] = {}
_NONE: Mapping[str, tuple[int, ...]] = {}
_ROWS_AT_ONCE = 4 << 20  # bytes, about


@dataclass(frozen=True)
class _Place:
    file: Path
    start: int
    facts: TensorFacts


class Weights:
    """The tensors of a model's safetensors files, as float32, a few rows at a time.

    Read with plain file reads: mapped pages would count as resident memory of this process.
    """

    def __init__(
        self,
        files: Sequence[Path],
        stored_names: Mapping[str, str] = _SAME,
        stacked: Mapping[str, tuple[str, ...]] = _SINGLE,
        of_experts: Mapping[str, ExpertPart] = _WITHOUT,
        extended: Mapping[str, int] = _ALL,
        absent: Mapping[str, tuple[int, ...]] = _NONE,
    ) -> None:
        """stored_names: names in the files of tensors that are requested by other names. stacked:
        tensors that lie one below the other in one, by its name. of_experts: those that lie in
        one of all experts. extended: rows of tables that have fewer in the files; the further ones
        are the first. absent: shapes of zeros.
        """
        self._extended, self._absent = extended, absent
        self._of_experts = of_experts
        self._expert: tuple[tuple[str, int], Floats] | None = None
        self._places: dict[str, _Place] = {}
        for file in files:
            facts = read_safetensors_header(file)
            with file.open("rb") as opened:
                (length,) = struct.unpack("<Q", opened.read(8))
                entries = json.loads(opened.read(length))
            for name, found in facts.items():
                start = 8 + length + entries[name]["data_offsets"][0]
                self._places[name] = _Place(file, start, found)
        for usual, stored in stored_names.items():
            self._places[usual] = self._places.pop(stored)
        for whole, parts in stacked.items():
            place = self._places.pop(whole)
            rows, *columns = place.facts.shape
            shape = (rows // len(parts), *columns)
            size = math.prod(shape) * _STORED[place.facts.dtype].itemsize
            for index, name in enumerate(parts):
                own = TensorFacts(place.facts.dtype, shape)
                self._places[name] = _Place(place.file, place.start + index * size, own)

    def __contains__(self, name: object) -> bool:
        return any(name in own for own in (self._places, self._of_experts, self._absent))

    def __iter__(self) -> Iterator[str]:
        wholes = {part.whole for part in self._of_experts.values()}
        yield from (name for name in self._places if name not in wholes)
        yield from self._of_experts
        yield from self._absent

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape as stored: outputs or tokens first."""
        part = self._of_experts.get(name)
        if part:
            return part.shape(self.shape(part.whole))
        if name in self._absent:
            return self._absent[name]
        stored = self._places[name].facts.shape
        return (self._extended[name], *stored[1:]) if name in self._extended else stored

    def dtype(self, name: str) -> str:
        """`F64`, `F32`, `F16` or `BF16`, according to the file."""
        part = self._of_experts.get(name)
        if name in self._absent:
            return "F32"
        return self._places[part.whole if part else name].facts.dtype

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """float32 `(stop - start, …)`: rows of the first axis. Exact except for F64, which is
        rounded.

        Raises InvalidInput for a tensor of another number format.
        """
        part = self._of_experts.get(name)
        if part is not None:
            return np.ascontiguousarray(self._of_expert(part)[start:stop])
        if name in self._absent:
            return np.zeros((stop - start, *self._absent[name][1:]), np.float32)
        place = self._places[name]
        shape = place.facts.shape
        if name in self._extended and stop > shape[0]:
            return self._with_first(name, start, stop, shape[0])
        stored = _STORED.get(place.facts.dtype)
        if stored is None:
            what = f"{name} is stored as {place.facts.dtype}"
            remedy = f"edgeq reads {', '.join(_STORED)}: use the model before it was quantized"
            raise InvalidInput(Problem(str(place.file), what, remedy))
        per_row = int(np.prod(shape[1:], dtype=np.int64))
        values = np.empty((stop - start) * per_row, stored)
        with place.file.open("rb", buffering=0) as file:
            file.seek(place.start + start * per_row * stored.itemsize)
            view = values.data.cast("B")
            while view:
                count = file.readinto(view)
                if not count:
                    what = f"ends within {name}"
                    raise InvalidInput(Problem(str(place.file), what, "download it again"))
                view = view[count:]
        if place.facts.dtype == "BF16":
            wide = (values.astype(np.uint32) << 16).view(np.float32)
        else:
            with np.errstate(over="ignore"):  # infinity is refused where weights are checked
                wide = values.astype(np.float32, copy=False)
        result: Floats = wide.reshape(stop - start, *shape[1:])
        return result

    def _with_first(self, name: str, start: int, stop: int, stored: int) -> Floats:
        begun = self.rows(name, min(start, stored), stored)
        first = self.rows(name, 0, 1)
        return np.concatenate([begun, np.repeat(first, stop - start - len(begun), axis=0)])

    def _of_expert(self, part: ExpertPart) -> Floats:
        """Outputs first. The last expert is kept: its rows are asked for a few at a time."""
        key, kept = (part.whole, part.expert), self._expert
        if kept is None or kept[0] != key:
            kept = self._expert = key, self.rows(part.whole, part.expert, part.expert + 1)[0]
        return part.cut(kept[1])

    def read(self, name: str) -> Floats:
        """The whole tensor as float32."""
        shape = self.shape(name)
        if not shape:
            raise InvalidInput(
                Problem(str(self._places[name].file), f"{name} is a single number", "")
            )
        return self.rows(name, 0, shape[0])


def open_weights(directory: ModelDirectory | ImageDirectory) -> Weights:
    """The weights of a model, by their usual names."""
    return Weights(
        directory.weight_files,
        directory.stored_names,
        directory.stacked,
        directory.of_experts,
        directory.extended,
        directory.absent,
    )


def check_values(directory: ModelDirectory, tied: bool) -> None:
    """Read every weight once; raises InvalidInput for NaN and infinity, naming the tensor.

    tied: whether the configuration says that the output layer is the embedding; a separate one that
    differs is then refused too.
    """
    weights = open_weights(directory)
    for name, facts in directory.tensors.items():
        if not facts.is_float:
            continue
        for start, rows in _pieces(weights, name):
            if not np.isfinite(rows).all():
                place = start + int(np.argwhere(~np.isfinite(rows).reshape(len(rows), -1))[0, 0])
                what = f"{name} contains NaN or infinity (row {place})"
                raise InvalidInput(Problem(str(directory.path), what, "download or train it again"))
    table, head = "model.embed_tokens.weight", "lm_head.weight"
    if tied and head in weights and table in weights:
        for start, rows in _pieces(weights, table):
            if not np.array_equal(rows, weights.rows(head, start, start + len(rows))):
                what = f"{head} differs from {table}, and config.json says tie_word_embeddings"
                remedy = f"set tie_word_embeddings to false, or delete {head}"
                raise InvalidInput(Problem(str(directory.path), what, remedy))


def _pieces(weights: Weights, name: str) -> Iterator[tuple[int, Floats]]:
    """A few rows at a time, with the first one's number."""
    shape = weights.shape(name)
    if not shape:
        return
    step = max(1, _ROWS_AT_ONCE // max(4 * int(np.prod(shape[1:], dtype=np.int64)), 1))
    for start in range(0, shape[0], step):
        yield start, weights.rows(name, start, min(start + step, shape[0]))
