"""Methods and formats by their right names, in plain words, with who says so."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Cited:
    """A general fact in a sentence, and where it can be read."""

    text: str
    source: str


_GPTQ = Cited(
    "GPTQ rounds a layer's weights one after the other, and after each it corrects those that are "
    "still to come, so that errors cancel instead of adding up.",
    "Frantar and others, GPTQ, https://arxiv.org/abs/2210.17323",
)
METHODS = {
    "gptq": ("GPTQ", _GPTQ),
    "nearest": (
        "rounding to the nearest value",
        Cited(
            "Each weight becomes the nearest value that the smaller format has.",
            "Nagel and others, A White Paper on Neural Network Quantization, "
            "https://arxiv.org/abs/2106.08295",
        ),
    ),
    "awq": (
        "AWQ",
        Cited(
            "Columns of weights that meet strong inputs are made larger before rounding, and what "
            "comes before them smaller by as much, so that they get finer steps.",
            "Lin and others, AWQ, https://arxiv.org/abs/2306.00978",
        ),
    ),
    "kmeans": (
        "a palette",
        Cited(
            "Weights become entries of a small table of values that are chosen for them, as a GIF "
            "file chooses its colours.",
            "Core ML Tools, Palettization, https://apple.github.io/coremltools/docs-guides/source/"
            "opt-palettization-overview.html",
        ),
    ),
    "importance": (
        "an importance matrix",
        Cited(
            "Rounding weighs each column of weights by how strongly example texts use it, so that "
            "what is used most is kept most exactly.",
            "llama.cpp, imatrix, https://github.com/ggml-org/llama.cpp/tree/master/tools/imatrix",
        ),
    ),
}
"""How weights are rounded: the method's name, and what it does."""

RECOVERY = Cited(
    "Beside the rounded weights, which stay as they are, a small addition was trained to answer as "
    "the original does, which is the idea of QLoRA.",
    "Dettmers and others, QLoRA, https://arxiv.org/abs/2305.14314",
)
"""What an adapter is."""

_K_QUANTS = "llama.cpp, k-quants, https://github.com/ggml-org/llama.cpp/pull/1684"
_GGML = "llama.cpp, https://github.com/ggml-org/llama.cpp"
_ONNX = "ONNX, DequantizeLinear, https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html"
_FLOATS = "IEEE 754, https://standards.ieee.org/ieee/754/6210/"
_SIZES = {"S": "small", "M": "medium", "L": "large"}


def variant_words(variant: str, weights: str, format: str) -> tuple[str, Cited]:
    """The right name of a number format, and what its letters mean.

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
    name = f"{kind.upper()}{bits}"
    if kind == "palette":
        text = f"A palette of {bits} bits stores for each weight which entry of a table it is."
        return "a palette", Cited(text, METHODS["kmeans"][1].source)
    if kind == "float":
        text = f"{name} keeps every weight as it is, in {bits} bits."
        if bits == "16":
            text = f"{name} stores every weight in half of the usual 32 bits, as exactly as fits."
        return name, Cited(text, _FLOATS)
    shared = f"each block of {block} weights" if block else "each row of a layer"
    text = f"{name} stores a weight in {bits} bits, and {shared} has a scale of its own."
    if format == "gguf":
        return name, Cited(f"{text} GGUF calls it Q{bits}_0.", _GGML)
    return name, Cited(text, _ONNX)


def grid_name(grid: str) -> str:
    """The right name of a number format that a record names.

    >>> grid_name("int4-b32"), grid_name("Q3_K"), grid_name("F32")
    ('INT4', 'Q3_K', 'FLOAT32')
    """
    if re.fullmatch(r"I?Q\d.*", grid):
        return grid
    return re.sub(r"^F(\d+)$", r"FLOAT\1", grid.partition("-")[0].upper())


def mixed_words(formats: str, format: str, *, is_open: bool = False) -> tuple[str, Cited]:
    """What it is called when every weight has a number format of its own; `formats` names them.

    is_open: they are still to be chosen.
    """
    start = f"Each part of the model {'gets' if is_open else 'got'} one of {formats}: "
    if format == "gguf":
        text = f"{start}the digit stands for about how many bits a weight takes"
        if "_K" not in formats:
            return "mixed precision", Cited(f"{text}.", _GGML)
        text += (
            ", K for a format in which small blocks of weights share a scale and blocks of blocks "
            "share another."
        )
        return "mixed precision", Cited(text, _K_QUANTS)
    text = f"{start}the digits are how many bits a weight takes, and weights that lie together "
    source = METHODS["kmeans"][1].source if format == "coreml" else _ONNX
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
