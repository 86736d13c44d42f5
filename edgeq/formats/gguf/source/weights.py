"""The weights of a GGUF file as a safetensors file, in the order of Hugging Face's models."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import replacing
from edgeq.formats.gguf.convert import row_order
from edgeq.formats.gguf.header import Header, TensorEntry
from edgeq.formats.gguf.names import hugging_face_name
from edgeq.formats.gguf.requantize import is_readable
from edgeq.formats.gguf.source.config import DIVISORS
from edgeq.models.architectures import Decoder
from edgeq.quantize.number_formats import Floats

KEPT = {"F32": "F32", "F16": "F16", "BF16": "BF16"}
"""Types whose bytes stay as they are, by safetensors' name; others are widened to float32."""
_BYTES_AT_ONCE = 8 << 20


def float_rows(entry: TensorEntry) -> Iterator[Floats]:
    """The tensor's values in float32, a few rows at a time.

    Raises InvalidInput for a type whose values only llama.cpp knows.
    """
    if not is_readable(entry.type):
        what = f"{entry.name} is stored as {entry.type.name}, which edgeq cannot read"
        raise InvalidInput(Problem(str(entry.path), what, "use the model in another type"))
    for rows in _stored_rows(entry):
        kind = gguf.GGMLQuantizationType(entry.type.id)
        values: Floats = gguf.quants.dequantize(rows, kind).astype(np.float32, copy=False)
        yield values


def _stored_rows(entry: TensorEntry) -> Iterator[NDArray[np.uint8]]:
    """uint8 `(rows, bytes per row)`; a vector is one row."""
    count = entry.shape[0] if len(entry.shape) > 1 else 1
    width = entry.nbytes // count
    step = max(1, _BYTES_AT_ONCE // width)
    for start in range(0, count, step):
        rows = min(step, count - start)
        found = np.fromfile(entry.path, np.uint8, rows * width, offset=entry.offset + start * width)
        if found.size != rows * width:
            what = f"ends within {entry.name}"
            raise InvalidInput(Problem(str(entry.path), what, "download it again"))
        yield found.reshape(rows, width)


def write_weights(header: Header, decoder: Decoder, destination: Path) -> None:
    """Write every weight of the model to `destination`, atomically.

    Raises InvalidInput for tensors that the model does not have, and for missing ones.
    """
    wanted = decoder.tensors()
    entries: dict[str, TensorEntry] = {}
    for name, entry in header.tensors.items():
        own = hugging_face_name(decoder.family, name)
        if own in wanted and entry.shape == _stored_shape(wanted[own]):
            entries[own] = entry
        elif name != DIVISORS:
            what = f"{name} {entry.shape} is not a weight of this {decoder.family} model"
            remedy = "use the model in Hugging Face's format"
            raise InvalidInput(Problem(str(header.path), what, remedy))
    missing = next((own for own in wanted if own not in entries), None)
    if missing is not None:
        what = f"it lacks {missing}"
        raise InvalidInput(Problem(str(header.path), what, "download it again"))
    with replacing(destination) as partial, partial.open("wb") as file:
        file.write(_header(entries, wanted, decoder))
        for own, entry in entries.items():
            for piece in _pieces(entry, decoder, own):
                file.write(np.ascontiguousarray(piece).data)


def write_empty(destination: Path) -> None:
    """Write a file without weights."""
    with replacing(destination) as partial:
        partial.write_bytes(struct.pack("<Q", 8) + b"{}".ljust(8))


def _is_kept(entry: TensorEntry, decoder: Decoder, own: str) -> bool:
    return entry.type.name in KEPT and not _has_one_added(decoder, own)


def _has_one_added(decoder: Decoder, own: str) -> bool:
    return decoder.norm_plus_one and own.endswith("norm.weight")


def _stored_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A convolution of each column by itself has two axes in a file."""
    return (shape[0], *shape[2:]) if len(shape) > 2 else shape


def _header(
    entries: dict[str, TensorEntry], shapes: Mapping[str, tuple[int, ...]], decoder: Decoder
) -> bytes:
    facts, offset = {}, 0
    for own, entry in entries.items():
        kept = _is_kept(entry, decoder, own)
        size = entry.nbytes if kept else 4 * int(np.prod(entry.shape))
        dtype = KEPT[entry.type.name] if kept else "F32"
        facts[own] = {
            "dtype": dtype,
            "shape": list(shapes[own]),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    content = json.dumps(facts).encode()
    content += b" " * (-len(content) % 8)
    return struct.pack("<Q", len(content)) + content


def _pieces(entry: TensorEntry, decoder: Decoder, own: str) -> Iterator[NDArray[np.generic]]:
    kept = _is_kept(entry, decoder, own)
    rows = _stored_rows(entry) if kept else float_rows(entry)
    order = row_order(decoder, own)
    if order is not None:
        whole = np.concatenate([piece.reshape(-1) for piece in rows]).reshape(entry.shape[0], -1)
        back = np.empty_like(whole)
        back[order] = whole
        yield back
    elif _has_one_added(decoder, own):
        yield from (piece - np.float32(1) for piece in float_rows(entry))
    else:
        yield from rows
