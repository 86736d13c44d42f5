"""A float GGUF file quantized to another: what llama.cpp's `llama-quantize` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import InvalidInput, Problem
from edgeq.gguf.header import Header, MetaValue, TensorEntry, read_header
from edgeq.gguf.imatrix import Importance
from edgeq.gguf.mixes import (
    MixFacts,
    file_order,
    file_type,
    is_quantized,
    mix_types,
    needs_importance,
)
from edgeq.gguf.quantize import ReadRows, quantize_tensor
from edgeq.gguf.writer import write_gguf

Floats = NDArray[np.float32]

_STORED: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_QUANTIZATION_VERSION = 2  # ggml.h, GGML_QNT_VERSION
_BYTES_AT_ONCE = 4 << 20


def quantize_file(
    source: Path,
    destination: Path,
    mix: str,
    importance: Importance | None = None,
    progress: Callable[[str], None] = lambda step: None,
    threads: int | None = None,
) -> None:
    """Quantize the float file `source`; `destination` is written whole or not at all.

    Byte for byte what llama.cpp's quantizer makes of it with the same importance matrix. Memory
    does not depend on the size of the model. Raises InvalidInput for a damaged file, and for one
    whose weights were quantized before.
    """
    header = read_header(source)
    facts = facts_of(header)
    shapes = [(entry.name, entry.shape) for entry in header.tensors.values()]
    wanted = mix_types(mix, shapes, facts, importance is not None)
    types = {
        name: wanted[name] if is_quantized(name, entry.shape) else entry.type
        for name, entry in header.tensors.items()
    }
    order = file_order(list(types))
    for name in order:
        entry = header.tensors[name]
        if types[name] is not entry.type and entry.type.name not in _STORED:
            what = f"{name} is {entry.type.name} already; rounding twice only adds error"
            raise InvalidInput(Problem(str(source), what, "start from F32, BF16 or F16"))
        weighted = importance is not None and name in importance.sums
        if not weighted and needs_importance(mix, name, types[name]):
            what = f"{name} cannot become {types[name].name} without an importance matrix"
            raise InvalidInput(Problem(str(source), what, "give one, or a mix of more bits"))

    def chunks(name: str) -> Iterator[NDArray[np.uint8]]:
        progress(f"{name}: {types[name].name}")
        entry = header.tensors[name]
        if types[name] is entry.type:
            return _copied(header, entry)
        weights = importance.weights(name) if importance else None
        return quantize_tensor(rows_of(header, entry), entry.shape, types[name], weights, threads)

    specs = [(name, header.tensors[name].shape, types[name]) for name in order]
    write_gguf(destination, quantized_metadata(header.metadata, mix, importance), specs, chunks)


def quantized_metadata(
    metadata: Mapping[str, MetaValue], mix: str, importance: Importance | None
) -> dict[str, MetaValue]:
    """The metadata of a float file as llama.cpp's quantizer leaves it, in its order."""
    own = {
        "general.quantization_version": MetaValue("uint32", _QUANTIZATION_VERSION),
        "general.file_type": MetaValue("uint32", file_type(mix)),
    }
    kept = {key: value for key, value in metadata.items() if key not in own}
    return {**kept, **own, **(importance.metadata() if importance else {})}


def facts_of(header: Header) -> MixFacts:
    """What the mixes' rules want to know of a model, from its metadata."""
    architecture = str(header.get("general.architecture", ""))

    def number(key: str, default: int | None = None) -> int:
        found = header.get(f"{architecture}.{key}", default)
        if isinstance(found, list) and found:  # one for each layer: llama.cpp takes the first
            found = found[0]
        if not isinstance(found, int) or found < 1:
            what = f"{architecture}.{key} is {found!r}"
            raise InvalidInput(Problem(str(header.path), what, "convert the model again"))
        return found

    heads = number("attention.head_count")
    return MixFacts(
        architecture=architecture,
        layers=number("block_count"),
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
    )


def rows_of(header: Header, entry: TensorEntry) -> ReadRows:
    """Reads rows of a float tensor as float32; safe to use from several threads."""
    stored = _STORED[entry.type.name]
    columns = entry.shape[-1]

    def read(start: int, stop: int) -> Floats:
        held = np.fromfile(
            header.path,
            stored,
            (stop - start) * columns,
            offset=entry.offset + start * columns * stored.itemsize,
        ).reshape(-1, columns)
        if entry.type.name == "BF16":
            held = (held.astype(np.uint32) << 16).view(np.float32)
        result: Floats = held.astype(np.float32, copy=False)
        return result

    return read


def _copied(header: Header, entry: TensorEntry) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, entry.nbytes, _BYTES_AT_ONCE):
        count = min(_BYTES_AT_ONCE, entry.nbytes - start)
        yield np.fromfile(header.path, np.uint8, count, offset=entry.offset + start)
