"""Importance matrices in llama.cpp's GGUF format, which either tool can write and read.

For every weight that multiplies something, the file has `<name>.in_sum2`, the sum over all tokens
of the square of each input, and `<name>.counts`, how many tokens that were (llama.cpp,
tools/imatrix). What rounding is weighed with is the one divided by the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import InvalidInput, Problem
from edgeq.gguf.header import Header, MetaValue, TensorEntry, read_header
from edgeq.gguf.types import TYPES
from edgeq.gguf.writer import write_gguf

Floats = NDArray[np.float32]

_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True)
class Importance:
    """How strong each input of each weight is on calibration text.

    sums: by the weight's GGUF name, float32 `(columns,)`, the sum of squares over all tokens.
    counts: how many tokens each sum is over. datasets: names of the texts. chunks, chunk_tokens:
    how many windows, of how many tokens.
    """

    sums: Mapping[str, Floats]
    counts: Mapping[str, int]
    datasets: tuple[str, ...] = ()
    chunks: int = 0
    chunk_tokens: int = 0
    path: Path | None = field(default=None, compare=False)

    def weights(self, name: str) -> Floats | None:
        """float32 `(columns,)`, the mean square of each input; None for a weight not in it.

        In float32, divided as llama.cpp's quantizer divides, so that rounding is the same to the
        bit. A weight that saw no token weighs all inputs alike, as there.
        """
        if name not in self.sums:
            return None
        count = self.counts[name]
        if count <= 0:
            return np.ones_like(self.sums[name])
        result: Floats = self.sums[name] / np.float32(count)
        return result

    def metadata(self) -> dict[str, MetaValue]:
        """What llama.cpp's quantizer notes in a file about the matrix it was rounded with."""
        return {
            "quantize.imatrix.file": MetaValue("string", self.path.name if self.path else ""),
            "quantize.imatrix.dataset": MetaValue("string", next(iter(self.datasets), "")),
            "quantize.imatrix.entries_count": MetaValue("uint32", len(self.sums)),
            "quantize.imatrix.chunks_count": MetaValue("uint32", self.chunks),
        }


def write_imatrix(path: Path, importance: Importance) -> None:
    """Write `path` whole or not at all."""
    metadata = {
        "general.type": MetaValue("string", "imatrix"),
        "imatrix.datasets": MetaValue("array", list(importance.datasets), "string"),
        "imatrix.chunk_count": MetaValue("uint32", importance.chunks),
        "imatrix.chunk_size": MetaValue("uint32", importance.chunk_tokens),
    }
    held: dict[str, Floats] = {}
    for name in sorted(importance.sums):
        held[f"{name}{_SUMS}"] = importance.sums[name].reshape(1, -1)
        held[f"{name}{_COUNTS}"] = np.array([[importance.counts[name]]], np.float32)
    tensors = [(name, values.shape, TYPES["F32"]) for name, values in held.items()]

    def chunks(name: str) -> Iterator[bytes]:
        yield held[name].astype("<f4").tobytes()

    write_gguf(path, metadata, tensors, chunks)


def read_imatrix(path: Path) -> Importance:
    """Read a matrix that edgeq or llama.cpp wrote.

    Raises InvalidInput for another kind of file, for a sum without its count, and for values that
    are not finite.
    """
    header = read_header(path)
    if header.get("general.type") != "imatrix":
        what = "is a GGUF file, but no importance matrix"
        raise InvalidInput(Problem(str(path), what, "make one with `edgeq imatrix`"))
    sums: dict[str, Floats] = {}
    counts: dict[str, int] = {}
    for name, entry in header.tensors.items():
        if name.endswith(_SUMS):
            weight = name.removesuffix(_SUMS)
            if f"{weight}{_COUNTS}" not in header.tensors:
                raise InvalidInput(Problem(str(path), f"has no {weight}{_COUNTS}", "make it again"))
            sums[weight] = _floats(header, entry)
            count = _floats(header, header.tensors[f"{weight}{_COUNTS}"])
            counts[weight] = int(count[0])
    return Importance(
        sums=sums,
        counts=counts,
        datasets=tuple(header.get("imatrix.datasets", ())),
        chunks=int(header.get("imatrix.chunk_count", 0)),
        chunk_tokens=int(header.get("imatrix.chunk_size", 0)),
        path=path,
    )


def _floats(header: Header, entry: TensorEntry) -> Floats:
    if entry.type is not TYPES["F32"]:
        what = f"{entry.name} is {entry.type.name}, not F32"
        raise InvalidInput(Problem(str(header.path), what, "make it again"))
    values = np.fromfile(header.path, "<f4", entry.nbytes // 4, offset=entry.offset)
    if not np.isfinite(values).all():
        what = f"{entry.name} holds values that are not finite"
        remedy = "make it again from a model whose float answers are finite"
        raise InvalidInput(Problem(str(header.path), what, remedy))
    return values.astype(np.float32, copy=False)
