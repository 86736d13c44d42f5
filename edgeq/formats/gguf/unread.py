"""Another GGUF of a file whose architecture edgeq does not read: types of tensors, and its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edgeq.core.terms import Progress
from edgeq.formats.gguf.decide import GgufDecision, decide_gguf
from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.parts import read_whole
from edgeq.formats.gguf.requantize import (
    facts_of,
    is_readable,
    quantize_file,
    quantized_metadata,
)
from edgeq.formats.gguf.writer import header_bytes
from edgeq.quantize.ggml.mixes import MIXES, is_quantized
from edgeq.quantize.ggml.types import nbytes
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.number_formats.kquants import TYPE_OF
from edgeq.quantize.spec import Intent

_KEPT = "llama.cpp keeps it as it is"
_FINE = "already as small in the source: rounding again only adds error"


def decide_unread(source: Path, intent: Intent) -> dict[str, GgufDecision]:
    """A decision for every tensor of the file, by its name there."""
    header = read_whole(source)
    shapes = {name: entry.shape for name, entry in header.tensors.items()}
    found = decide_gguf(shapes, {name: name for name in shapes}, facts_of(header), intent)
    for name, entry in header.tensors.items():
        reason = ""
        if not (is_quantized(name, entry.shape) and is_readable(entry.type)):
            reason = _KEPT
        elif found[name].type.bits >= entry.type.bits:
            reason = _FINE if entry.type.block > 1 else found[name].reason
        if reason:
            own = entry.type
            found[name] = GgufDecision(own, own.name, "none", reason, entry.nbytes)
    return found


def unread_bytes(source: Path, decisions: Mapping[str, GgufDecision]) -> int:
    """The size of the file that `write_unread` writes, up to what names an importance matrix."""
    header = read_whole(source)
    metadata = quantized_metadata(header.metadata, "Q4_K_M", None)
    types = {name: decision.type for name, decision in decisions.items()}
    specs = [(name, entry.shape, types[name]) for name, entry in header.tensors.items()]
    sizes = [len(header_bytes(metadata, specs))]
    sizes += [nbytes(type, shape) for _, shape, type in specs]
    return sum(-(-size // header.alignment) * header.alignment for size in sizes)


def write_unread(
    source: Path,
    destination: Path,
    decisions: Mapping[str, GgufDecision],
    codes: Mapping[str, QuantizedTensor],
    importance: Importance | None,
    weights: str,
    progress: Progress,
) -> None:
    """Write the file in other types; tokenizer and metadata are those of the source.

    codes: of tensors that have their own, all experts' rows one below the other. weights: the
    variant's number format or mix, which the file is named after. Raises what `quantize_file` does.
    """
    quantize_file(
        source,
        destination,
        _mix(weights),
        replace(importance, path=None) if importance else None,
        progress,
        types={name: decision.type for name, decision in decisions.items()},
        codes=codes,
    )


def _mix(weights: str) -> str:
    stored = TYPE_OF.get(weights, weights)
    return stored if stored in MIXES else "F32"
