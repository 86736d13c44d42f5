"""An adapter as a GGUF file next to the model's, in llama.cpp's LoRA format.

Keys and names as read by llama.cpp's `llama_adapter_lora_init`: for a weight `NAME` of the model a
`NAME.lora_a` `(rank, columns)` and a `NAME.lora_b` `(rows, rank)`, whose product is scaled by
`alpha / rank`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import gguf
import numpy as np

from edgeq.formats.gguf.convert import column_order, row_order
from edgeq.formats.gguf.header import ALIGNMENT, read_header
from edgeq.formats.gguf.names import architecture_of, gguf_name
from edgeq.formats.gguf.values import MetaValue
from edgeq.formats.gguf.writer import TensorSpec, header_bytes, write_gguf
from edgeq.models.architectures import Decoder
from edgeq.quantize.adapter import Adapter, Halves
from edgeq.quantize.ggml.mixes import file_type
from edgeq.quantize.ggml.types import TYPES, nbytes
from edgeq.quantize.number_formats import Floats

_TYPE = TYPES["F16"]


def write_adapter(path: Path, adapter: Adapter, decoder: Decoder) -> None:
    """Write `adapter` for the GGUF file of the model `decoder`, atomically.

    Rows are in the order of the model's file. The file works with llama.cpp's own programs too:
    `llama-cli -m model.gguf --lora adapter.gguf`.
    """
    halves: dict[str, Halves] = {}
    for own, factors in adapter.items():
        down, up = _stored(decoder, own)
        order = row_order(decoder, own)
        columns = column_order(decoder, own)
        halves[down] = factors.down if columns is None else factors.down[:, columns]
        halves[up] = factors.up if order is None else factors.up[order]

    def chunks(stored: str) -> Iterator[np.ndarray]:
        yield np.ascontiguousarray(halves[stored], "<f2").view(np.uint8)

    shapes = {name: factors.shape for name, factors in adapter.items()}
    rank = next(iter(adapter.values())).rank
    write_gguf(path, _metadata(decoder, rank), _specs(decoder, shapes, rank), chunks)


def planned_file_bytes(decoder: Decoder, shapes: Mapping[str, tuple[int, ...]], rank: int) -> int:
    """The size of the file `write_adapter` would write. shapes: of the weights that get factors."""
    specs = _specs(decoder, shapes, rank)
    sizes = [len(header_bytes(_metadata(decoder, rank), specs))]
    sizes += [nbytes(type, shape) for _, shape, type in specs]
    return sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)


def values_of_file(
    path: Path, decoder: Decoder, names: Iterable[str]
) -> Iterator[tuple[str, Floats]]:
    """The values that llama.cpp computes with: the matrices `names` of the model in the file
    `path`.

    Each with its name, float32 `(rows, columns)`, rows in the model's own order.
    """
    entries = read_header(path).tensors
    for name in names:
        entry = entries[gguf_name(decoder.family, name)]
        with path.open("rb") as file:
            file.seek(entry.offset)
            halves = np.frombuffer(file.read(entry.nbytes), np.uint8).reshape(entry.shape[0], -1)
        kind = gguf.GGMLQuantizationType(entry.type.id)
        rows: Floats = gguf.quants.dequantize(halves, kind).astype(np.float32, copy=False)
        order = row_order(decoder, name)
        if order is not None:
            stored, rows = rows, np.empty_like(rows)
            rows[order] = stored
        columns = column_order(decoder, name)
        if columns is not None:
            stored, rows = rows, np.empty_like(rows)
            rows[:, columns] = stored
        yield name, rows


def _stored(decoder: Decoder, own: str) -> tuple[str, str]:
    """The names of a weight's factors."""
    name = gguf_name(decoder.family, own)
    return f"{name}.lora_a", f"{name}.lora_b"


def _specs(decoder: Decoder, shapes: Mapping[str, tuple[int, ...]], rank: int) -> list[TensorSpec]:
    specs: list[TensorSpec] = []
    for own, (rows, columns) in shapes.items():
        down, up = _stored(decoder, own)
        specs += [(down, (rank, columns), _TYPE), (up, (rows, rank), _TYPE)]
    return specs


def _metadata(decoder: Decoder, rank: int) -> dict[str, MetaValue]:
    return {
        "general.architecture": MetaValue("string", architecture_of(decoder.family)),
        "general.type": MetaValue("string", "adapter"),
        "general.file_type": MetaValue("uint32", file_type(_TYPE.name)),
        "adapter.type": MetaValue("string", "lora"),
        # divided by the rank: factors count once
        "adapter.lora.alpha": MetaValue("float32", float(rank)),
    }
