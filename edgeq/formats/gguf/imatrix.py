"""Importance matrices in llama.cpp's GGUF format, readable and writable by either tool.

For every weight of a product, the file has `<name>.in_sum2`, the sum over all tokens of the square
of each input, and `<name>.counts`, the number of tokens (llama.cpp, tools/imatrix). Rounding is
weighted with the ratio of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.header import Header, TensorEntry, read_header
from edgeq.formats.gguf.values import MetaValue, Strings
from edgeq.formats.gguf.writer import write_gguf
from edgeq.quantize.ggml.types import TYPES

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_AGAIN = "make it again, from calibration text"
_LONGEST_NOTE = 127  # bytes that llama.cpp's quantizer reserves for a text it adds


@dataclass(frozen=True)
class Importance:
    """The strength of each input of each weight on calibration text.

    sums: by the weight's GGUF name, float32 `(columns,)`, the sum of squares over all tokens; for
    mixtures `(experts, columns)`. counts: number of tokens in each sum; for mixtures int64
    `(experts,)`. datasets: names of the texts. chunks, chunk_tokens: number of windows, and tokens
    in each. path: where it was read from.
    """

    sums: Mapping[str, Floats]
    counts: Mapping[str, int | Counts]
    datasets: tuple[str, ...] = ()
    chunks: int = 0
    chunk_tokens: int = 0
    path: Path | None = field(default=None, compare=False)

    def weights(self, name: str) -> Floats | None:
        """float32, shaped like `sums`, the mean square of each input; None for a missing weight.

        In float32, divided as in llama.cpp's quantizer, so that rounding is the same bit for bit. A
        weight, or expert, that saw no token weights all inputs equally, as there.
        """
        if name not in self.sums:
            return None
        counts = np.asarray(self.counts[name], np.float32)[..., None]
        result: Floats = np.where(counts > 0, self.sums[name] / np.maximum(counts, 1), 1)
        return result.astype(np.float32, copy=False)

    def metadata(self) -> dict[str, MetaValue]:
        """The metadata about the matrix that llama.cpp's quantizer writes into a file.

        The file is named without its directory, which is private.
        """
        notes = {
            "quantize.imatrix.file": _text(self.path.name) if self.path else None,
            "quantize.imatrix.dataset": _text(self.datasets[0]) if self.datasets else None,
            "quantize.imatrix.entries_count": MetaValue("uint32", len(self.sums)),
            "quantize.imatrix.chunks_count": (
                MetaValue("uint32", self.chunks) if self.chunks > 0 else None
            ),
        }
        return {key: value for key, value in notes.items() if value is not None}


def _text(text: str) -> MetaValue:
    return MetaValue("string", text.encode()[:_LONGEST_NOTE].decode(errors="ignore"))


def write_imatrix(path: Path, importance: Importance) -> None:
    """Write `path` atomically, byte for byte as llama.cpp's tool would."""
    metadata = {
        "general.type": MetaValue("string", "imatrix"),
        "imatrix.datasets": MetaValue("array", list(importance.datasets), "string"),
        "imatrix.chunk_count": MetaValue("uint32", importance.chunks),
        "imatrix.chunk_size": MetaValue("uint32", importance.chunk_tokens),
    }
    arrays: dict[str, Floats] = {}
    for name in sorted(importance.sums):
        counts = np.atleast_1d(np.asarray(importance.counts[name], "<f4"))
        arrays[f"{name}{_SUMS}"] = importance.sums[name]
        arrays[f"{name}{_COUNTS}"] = counts[:, None] if len(counts) > 1 else counts
    tensors = [(name, values.shape, TYPES["F32"]) for name, values in arrays.items()]

    def chunks(name: str) -> Iterator[bytes]:
        yield arrays[name].astype("<f4").tobytes()

    write_gguf(path, metadata, tensors, chunks)


def read_imatrix(path: Path) -> Importance:
    """Read a matrix written by edgeq or llama.cpp.

    Raises InvalidInput for another kind of file, for a sum without its count or a count that does
    not match, and for values that are negative or not finite.
    """
    if path.suffix == ".dat":
        what = "has llama.cpp's format from before GGUF"
        remedy = "convert it: llama-imatrix --in-file OLD.dat -o NEW.gguf"
        raise InvalidInput(Problem(str(path), what, remedy))
    header = read_header(path)
    if header.get("general.type") != "imatrix":
        what = "is a GGUF file, but not an importance matrix"
        raise InvalidInput(Problem(str(path), what, "make one with llama.cpp's or this tool"))
    sums: dict[str, Floats] = {}
    counts: dict[str, int | Counts] = {}
    for name, entry in header.tensors.items():
        if name.endswith(_SUMS):
            weight = name.removesuffix(_SUMS)
            if f"{weight}{_COUNTS}" not in header.tensors:
                raise InvalidInput(Problem(str(path), f"has no {weight}{_COUNTS}", _AGAIN))
            values = _floats(header, entry)
            seen = np.rint(_floats(header, header.tensors[f"{weight}{_COUNTS}"])).astype(np.int64)
            if values.size % seen.size:
                what = f"{entry.name} has {values.size} values for {seen.size} counts"
                raise InvalidInput(Problem(str(path), what, _AGAIN))
            sums[weight] = values.reshape(seen.size, -1) if seen.size > 1 else values
            counts[weight] = seen if seen.size > 1 else int(seen[0])
    datasets = header.get("imatrix.datasets")
    return Importance(
        sums=sums,
        counts=counts,
        datasets=tuple(datasets) if isinstance(datasets, Strings) else (),
        chunks=_whole(header, "imatrix.chunk_count"),
        chunk_tokens=_whole(header, "imatrix.chunk_size"),
        path=path,
    )


def _whole(header: Header, key: str) -> int:
    value = header.get(key, 0)
    if not isinstance(value, int) or value < 0:
        raise InvalidInput(Problem(str(header.path), f"{key} is {value!r}", _AGAIN))
    return value


def _floats(header: Header, entry: TensorEntry) -> Floats:
    """All values of a tensor, in one axis."""
    if entry.type is not TYPES["F32"]:
        what = f"{entry.name} is {entry.type.name}, not F32"
        raise InvalidInput(Problem(str(header.path), what, _AGAIN))
    values = np.fromfile(header.path, "<f4", entry.nbytes // 4, offset=entry.offset)
    if not (np.isfinite(values) & (values >= 0)).all():
        what = f"{entry.name} contains values that are negative or not finite"
        remedy = "make it again, from a model whose float answers are finite"
        raise InvalidInput(Problem(str(header.path), what, remedy))
    return values.astype(np.float32, copy=False)
