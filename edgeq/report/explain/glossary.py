"""Methods and formats by their usual names, in plain words, with a source for each."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgeq.formats.registry import file_format
from edgeq.quantize.methods import ROUNDING_METHODS
from edgeq.quantize.methods.kmeans import KMEANS
from edgeq.quantize.number_formats import NUMBER_FORMATS


@dataclass(frozen=True)
class Cited:
    """A general fact in a sentence, and its source."""

    text: str
    source: str


def method_words(method: str) -> tuple[str, Cited] | None:
    """A rounding method's usual name and description; None for an unknown method."""
    found = ROUNDING_METHODS.get(method)
    return (found.title, Cited(found.summary, found.source)) if found else None


RECOVERY = Cited(
    "The rounded weights stay as they are, and a small addition to them was trained to answer as "
    "the original does, which is the idea of QLoRA.",
    "Dettmers and others, QLoRA, https://arxiv.org/abs/2305.14314",
)
"""A description of adapters."""

_K_QUANTS = "llama.cpp, k-quants, https://github.com/ggml-org/llama.cpp/pull/1684"
_GGML = "llama.cpp, https://github.com/ggml-org/llama.cpp"
_ONNX = "ONNX, DequantizeLinear, https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html"
_FLOATS = "IEEE 754, https://standards.ieee.org/ieee/754/6210/"
_SIZES = {"S": "small", "M": "medium", "L": "large"}


def variant_words(variant: str, weights: str, format: str) -> tuple[str, Cited]:
    """The usual name of a number format, and what its letters mean.

    variant: as the recipe calls it. weights: its weights' format, as an artifact records it.

    >>> variant_words("small", "Q4_K_M", "gguf")[0], variant_words("int4", "int4-b32", "onnx")[0]
    ('Q4_K_M', 'INT4')
    """
    mix = re.fullmatch(r"I?Q(\d)_(K|\d|XS|XXS|NL|S|M)(?:_([SML]))?", weights)
    if mix is not None:
        return weights, _mix_words(weights, *mix.groups())
    kind, bits, block = re.fullmatch(  # type: ignore[union-attr]
        r"(int|palette|float|.*?)(\d*)(?:-b(\d+)|-.*)?", weights or variant
    ).groups()
    stored = NUMBER_FORMATS.get(weights or variant)
    if stored is not None:
        bits, block = stored.bits, stored.group_size
    name = f"{kind.upper()}{bits}"
    if kind == "palette":
        text = f"A palette of {bits} bits stores for each weight which entry of a table it is."
        return "a palette", Cited(text, KMEANS.source)
    if kind == "float":
        text = f"{name} keeps every weight as it is, in {bits} bits."
        if str(bits) == "16":
            text = f"{name} stores every weight in half of the usual 32 bits, as exactly as fits."
        return name, Cited(text, _FLOATS)
    shared = f"each block of {block} weights" if block else "each row of a layer"
    text = f"{name} stores a weight in {bits} bits, and {shared} has a scale of its own."
    if file_format(format).has_mixes:
        return name, Cited(f"{text} GGUF calls it Q{bits}_0.", _GGML)
    return name, Cited(text, _ONNX)


def label_of(number_format: str) -> str:
    """The usual name of a number format named in a record.

    >>> label_of("int4-b32"), label_of("Q3_K"), label_of("F32")
    ('INT4', 'Q3_K', 'FLOAT32')
    """
    if re.fullmatch(r"I?Q\d.*", number_format):
        return number_format
    return re.sub(r"^F(\d+)$", r"FLOAT\1", number_format.partition("-")[0].upper())


def mixed_words(formats: str, format: str, *, is_open: bool = False) -> tuple[str, Cited]:
    """Name and describe a mix of number formats; `formats` names them.

    is_open: the formats are still to be chosen.
    """
    start = f"Each part of the model {'gets' if is_open else 'got'} one of {formats}: "
    if file_format(format).has_mixes:
        text = f"{start}the digit stands for about how many bits a weight takes"
        if "_K" not in formats:
            return "mixed precision", Cited(f"{text}.", _GGML)
        text += (
            ", K for a format in which small blocks of weights share a scale and blocks of blocks "
            "share another."
        )
        return "mixed precision", Cited(text, _K_QUANTS)
    text = f"{start}the digits are how many bits a weight takes, and weights that lie together "
    source = KMEANS.source if file_format(format).has_releases else _ONNX
    return "mixed precision", Cited(f"{text}share a scale.", source)


def _mix_words(name: str, bits: str, kind: str, size: str | None) -> Cited:
    start = f"In the name {name}, Q{bits} stands for about {bits} bits a weight"
    if kind != "K":
        return Cited(f"{start}, in small blocks that share a scale.", _GGML)
    word = _SIZES.get(size or "")
    tail = f", and {size} says that it is the {word} one of its mixes" if word else ""
    text = (
        f"{start}, K for a format in which small blocks of weights share a scale and blocks of "
        f"blocks share another{tail}; important parts may get more bits."
    )
    return Cited(text, _K_QUANTS)
