"""Quantize a float GGUF file to another, as llama.cpp's `llama-quantize` does."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import writable
from edgeq.core.terms import Progress
from edgeq.formats.gguf.header import Header, TensorEntry
from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.parts import read_whole
from edgeq.formats.gguf.values import MetaValue
from edgeq.formats.gguf.writer import write_gguf
from edgeq.quantize.ggml.blocks import pack_codes
from edgeq.quantize.ggml.library import Bytes, Floats, widen
from edgeq.quantize.ggml.mixes import (
    MixFacts,
    file_order,
    file_type,
    is_quantized,
    mix_types,
    needs_importance,
)
from edgeq.quantize.ggml.quantize import ReadRows, in_order, pieces, usable_cores
from edgeq.quantize.ggml.types import GgmlType, nbytes
from edgeq.quantize.number_formats import QuantizedTensor

_STORED: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<u2"),
    "BF16": np.dtype("<u2"),
}
_QUANTIZATION_VERSION = 2  # ggml.h, GGML_QNT_VERSION
_BYTES_AT_ONCE = 1 << 20
_OF_PARTS = ("split.no", "split.count", "split.tensors.count")


def quantize_file(
    source: Path,
    destination: Path,
    mix: str,
    importance: Importance | None = None,
    progress: Progress = lambda step: None,
    threads: int | None = None,
    types: Mapping[str, GgmlType] | None = None,
    codes: Mapping[str, QuantizedTensor] | None = None,
) -> None:
    """Quantize the float file `source`; `destination` is written atomically.

    types: of every tensor, instead of the mix's, which then only names the file's type. codes: of
    tensors that are rounded already, all their rows.

    Byte for byte as llama.cpp's quantizer with the same importance matrix. Memory does not depend
    on the size of the model. Raises InvalidInput for a damaged file, one whose weights a mix would
    quantize twice, and a matrix that does not match or lacks data that the mix requires.
    """
    require_other(source, destination)
    header = read_whole(source)
    types = types or types_of(header, mix, importance is not None)
    order, codes = file_order(types), codes or {}
    weights = {
        name: _weights(header, header.tensors[name], mix, types[name], importance)
        for name in order
        if types[name] is not header.tensors[name].type and name not in codes
    }
    threads = threads or usable_cores()

    def work() -> Iterator[Callable[[], tuple[str, Bytes]]]:
        for name in order:
            entry, calls = header.tensors[name], _copies(header.tensors[name])
            if name in codes:
                calls = iter([partial(pack_codes, codes[name])])
            elif name in weights:
                read = rows_of(entry)
                calls = pieces(read, entry.shape, types[name], weights[name], threads)
            for call in calls:
                yield partial(_named, source, name, call)

    # One stream over all tensors, so that the last piece of one and the first of the next run in
    # parallel.
    stream = itertools.groupby(in_order(work(), threads), key=lambda piece: piece[0])

    def chunks(name: str) -> Iterator[Bytes]:
        progress(f"{name}: {types[name].name}")
        _, found = next(stream)
        for _, piece in found:
            yield piece

    specs = [(name, _written(header.tensors[name].shape), types[name]) for name in order]
    write_gguf(destination, quantized_metadata(header.metadata, mix, importance), specs, chunks)


def require_other(source: Path, destination: Path) -> None:
    """Raise InvalidInput unless `destination` can be written and is not the source."""
    writable(destination, str(destination))
    if destination.exists() and destination.samefile(source):
        what = "is the file to be quantized"
        raise InvalidInput(Problem(str(destination), what, "write to another"))


def types_of(header: Header, mix: str, has_importance: bool) -> dict[str, GgmlType]:
    """The type of each tensor of a float file; tensors that mixes do not quantize keep theirs.

    Raises InvalidInput for tensors that are already quantized.
    """
    shapes = [(entry.name, entry.shape) for entry in header.tensors.values()]
    wanted = mix_types(mix, shapes, facts_of(header), has_importance)
    types = {
        name: wanted[name] if is_quantized(name, entry.shape) else entry.type
        for name, entry in header.tensors.items()
    }
    for name, entry in header.tensors.items():
        if types[name] is not entry.type and entry.type.name not in _STORED:
            what = f"{name} is already {entry.type.name}; rounding twice only adds error"
            raise InvalidInput(Problem(str(header.path), what, "start from F32, BF16 or F16"))
    return types


def quantized_metadata(
    metadata: Mapping[str, MetaValue], mix: str, importance: Importance | None
) -> dict[str, MetaValue]:
    """The metadata of a float file after llama.cpp's quantizer, in its order."""
    own = {
        "general.quantization_version": MetaValue("uint32", _QUANTIZATION_VERSION),
        "general.file_type": MetaValue("uint32", file_type(mix)),
        **(importance.metadata() if importance else {}),
    }
    dropped = {*own, *_OF_PARTS}
    return {**{key: value for key, value in metadata.items() if key not in dropped}, **own}


def facts_of(header: Header) -> MixFacts:
    """Facts about a model for the mixes' rules, from its metadata. Raises InvalidInput."""
    architecture = str(header.get("general.architecture", ""))

    def number(key: str, default: int) -> int:
        found = header.get(f"{architecture}.{key}", default)
        if isinstance(found, list) and found:  # one per layer: llama.cpp uses the first
            found = found[0]
        if not isinstance(found, int) or found < 0:
            what = f"{architecture}.{key} is {found!r}"
            raise InvalidInput(Problem(str(header.path), what, "convert the model again"))
        return found

    if f"{architecture}.block_count" not in header.metadata:
        what = f"does not state its number of layers: {architecture}.block_count"
        raise InvalidInput(Problem(str(header.path), what, "convert the model again"))
    heads = number("attention.head_count", 0)
    return MixFacts(
        architecture=architecture,
        layers=number("block_count", 0),
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        experts=number("expert_count", 0),
    )


@functools.cache
def is_readable(type: GgmlType) -> bool:
    """Whether values of a type can be read as float32."""
    try:
        kind = gguf.GGMLQuantizationType(type.id)
        gguf.quants.dequantize(np.zeros((1, type.block_bytes), np.uint8), kind)
    except (ValueError, NotImplementedError):
        return False
    return True


def rows_of(entry: TensorEntry) -> ReadRows:
    """Reads rows of a tensor as float32; safe to use from several threads."""
    columns = entry.shape[-1] if len(entry.shape) > 1 else 1
    if entry.type.name not in _STORED:
        kind, width = gguf.GGMLQuantizationType(entry.type.id), nbytes(entry.type, (columns,))

        def widened(start: int, stop: int) -> Floats:
            offset, count = entry.offset + start * width, (stop - start) * width
            content = _read(entry, np.dtype(np.uint8), count, offset).reshape(-1, width)
            values: Floats = gguf.quants.dequantize(content, kind).astype(np.float32, copy=False)
            return values

        return widened
    stored = _STORED[entry.type.name]

    def read(start: int, stop: int) -> Floats:
        offset = entry.offset + start * columns * stored.itemsize
        values = _read(entry, stored, (stop - start) * columns, offset).reshape(-1, columns)
        return values if entry.type.name == "F32" else widen(values, entry.type)

    return read


def _weights(
    header: Header,
    entry: TensorEntry,
    mix: str,
    type: GgmlType,
    importance: Importance | None,
) -> Floats | None:
    """Importance in the shape `pieces` expects, None if the matrix has none for this tensor."""
    found = importance.weights(entry.name) if importance else None
    if found is None:
        if needs_importance(mix, entry.name, type):
            what = f"{entry.name} cannot be rounded to {type.name} without an importance matrix"
            raise InvalidInput(Problem(str(header.path), what, "give one, or a mix of more bits"))
        return None
    matrices = math.prod(entry.shape[:-2])
    if found.size == matrices * entry.shape[-1]:
        return found.reshape(matrices, -1) if matrices > 1 else found.reshape(-1)
    if entry.name == "token_embd.weight":  # as in llama.cpp: such tables are rounded without
        return None
    where = str(importance.path if importance and importance.path else header.path)
    what = f"{entry.name} has importance {found.shape} for a tensor {entry.shape}"
    raise InvalidInput(Problem(where, what, "make a matrix for this model"))


def _written(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape as ggml writes it: without leading axes of length 1."""
    first = next((at for at, length in enumerate(shape[:-1]) if length > 1), len(shape) - 1)
    return shape[first:]


def _copies(entry: TensorEntry) -> Iterator[Callable[[], Bytes]]:
    for start in range(0, entry.nbytes, _BYTES_AT_ONCE):
        count = min(_BYTES_AT_ONCE, entry.nbytes - start)
        yield partial(_read, entry, np.dtype(np.uint8), count, entry.offset + start)


def _read(entry: TensorEntry, stored: np.dtype[Any], count: int, offset: int) -> NDArray[Any]:
    values: NDArray[Any] = np.fromfile(entry.path, stored, count, offset=offset)
    if values.size != count:
        what = "became shorter while it was read"
        raise InvalidInput(Problem(str(entry.path), what, "wait until it is written"))
    return values


def _named(source: Path, name: str, call: Callable[[], Bytes]) -> tuple[str, Bytes]:
    """Return a piece with its tensor's name; errors are attributed to that tensor."""
    try:
        return name, call()
    except InvalidInput as error:
        problems = [
            Problem(str(source), f"{name}: {x.where} {x.what}", x.remedy) for x in error.problems
        ]
        raise InvalidInput(problems) from None
