"""The words a recipe may use: number formats of weights and activations, and presets of both."""

from __future__ import annotations

from typing import Literal, get_args

from edgeq.core.artifact import Frozen
from edgeq.core.validation_messages import refuse
from edgeq.quantize.ggml.words import UNWEIGHTED, GgufMix, GgufType
from edgeq.quantize.recover_spec import RecoverSpec

Grid = Literal["float32", "int8", "int8-b32", "int4-b32"]
"""A number format of weights. `int8`: one scale per output channel, symmetric. `int8-b32` and
`int4-b32`: symmetric with one scale, representable as fp16, for every 32 values of a row."""

PaletteGrid = Literal["palette4", "palette6", "palette4-g16", "palette6-g16"]
"""Number formats of Core ML alone: 4 or 6 bits choose from a table of values, which a whole tensor
or 16 neighbouring rows share."""

Weights = Literal[Grid, PaletteGrid, "float16", GgufMix]
"""What a variant makes of the weights: one grid for all, or a mix of GGUF types. `float16` is for
Core ML, which computes in it; in GGUF it is the mix F16."""

Format = Literal["onnx", "gguf", "coreml"]

Activations = Literal["float32", "dynamic-uint8", "static-uint8"]
"""A number format of activations. Dynamic ranges are taken from each input as it comes, static
ones are fixed from calibration data."""

Method = Literal["nearest", "gptq", "importance", "awq", "kmeans"]
"""How a weight is rounded onto its grid: to the nearest code, by GPTQ (Frantar et al., 2022),
which rounds column by column and lets later columns make up for the error of earlier ones, or by
llama.cpp's search, which weighs each column's error by the mean square of its input. Palettes are
made by k-means, weighed the same way where there is calibration data."""

Ranges = Literal["minmax", "entropy", "percentile", "error"]
"""How static ranges are chosen from what calibration saw; `error` takes the range that changes
the output least."""

PresetWord = Literal[
    "float32",
    "float16",
    "int8-dynamic",
    "int8-static",
    "int8-b32",
    "int4-b32",
    PaletteGrid,
    GgufMix,
]
NeutralWord = Literal["int8", "int4"]
"""Words that leave the details to the format: see `NEUTRAL`."""

Preset = Literal[PresetWord, NeutralWord]
Use = Literal[Grid, PaletteGrid, "float16", "int8-dynamic", "int8-static", NeutralWord, GgufType]
"""What a rule may name: the grid of the weights, a preset that has it, or a type of GGUF."""

MIXES: tuple[GgufMix, ...] = get_args(GgufMix)
PALETTE_WORDS: tuple[PaletteGrid, ...] = get_args(PaletteGrid)

ACTIVATIONS: dict[Weights, tuple[Activations, ...]] = {
    "float32": ("float32",),
    "float16": ("float32",),
    "int8": ("dynamic-uint8", "static-uint8", "float32"),
    "int8-b32": ("float32",),
    "int4-b32": ("float32",),
    **dict.fromkeys((*PALETTE_WORDS, *MIXES), ("float32",)),
}
"""What runs with weights on each grid; the first is the default."""

METHODS: dict[Weights, tuple[Method, ...]] = {
    "float32": ("nearest",),
    "float16": ("nearest",),
    "int8": ("nearest", "gptq"),
    "int8-b32": ("nearest", "gptq", "importance", "awq"),
    "int4-b32": ("gptq", "nearest", "importance", "awq"),
    **dict.fromkeys(PALETTE_WORDS, ("kmeans",)),
    **dict.fromkeys(MIXES, ("importance", "nearest", "gptq")),
    **dict.fromkeys(UNWEIGHTED, ("nearest",)),
}
"""How weights can be rounded onto each grid; the first is the default."""

_DEFAULT_RANGES: Ranges = "error"
# Nothing was lost, or no runtime of theirs adds to a product.
_WITHOUT_ADAPTER = ("float32", "float16", "F32", "F16", "BF16", "int8", *PALETTE_WORDS)

_INT8_FORMATS: dict[Activations, tuple[Format, ...]] = {
    "float32": ("coreml",),
    "dynamic-uint8": ("onnx",),  # ranges of a Core ML program are constants
    "static-uint8": ("onnx", "coreml"),
}


class Variant(Frozen):
    """One way to quantize a model; artifacts are named `<format>-<name>`.

    `ranges` is None unless the activations are static, `recover` without an adapter.
    """

    name: str
    weights: Weights
    activations: Activations
    method: Method
    ranges: Ranges | None
    recover: RecoverSpec | None = None

    @property
    def needs_calibration(self) -> bool:
        """Whether building it asks for calibration data."""
        weighted = self.method in ("gptq", "importance", "awq")
        return self.ranges is not None or weighted or self.recover is not None

    @property
    def formats(self) -> tuple[Format, ...]:
        """The file formats that can hold it."""
        if self.weights in MIXES:
            return ("gguf",)
        if self.weights in PALETTE_WORDS or self.weights == "float16":
            return ("coreml",)
        if self.weights == "int8":
            return _INT8_FORMATS[self.activations]
        if self.method == "awq":  # it changes the graph, which codes for several formats must not
            return ("onnx",)
        return ("onnx", "gguf") if self.recover else ("onnx", "gguf", "coreml")


def make_variant(
    weights: Weights,
    activations: Activations | None = None,
    method: Method | None = None,
    ranges: Ranges | None = None,
    name: str | None = None,
    recover: RecoverSpec | None = None,
) -> Variant:
    """A variant with defaults filled in; the name tells every setting that is not a default.

    Raises a pydantic custom error for a combination that no runtime has.
    """
    allowed = ACTIVATIONS[weights]
    activations = activations or allowed[0]
    if activations not in allowed:
        what = f"weights {weights!r} do not run with activations {activations!r}"
        raise refuse(what, f"with {weights!r} write: {' or '.join(allowed)}")
    method = method or METHODS[weights][0]
    if method not in METHODS[weights]:
        nothing = f"method {method!r} has nothing to round in 'float32' weights"
        what = f"weights {weights!r} are not rounded by the method {method!r}"
        remedy = f"with {weights!r} write: {' or '.join(METHODS[weights])}, or remove it"
        raise refuse(nothing if weights == "float32" else what, remedy)
    if recover and (activations != "float32" or weights in _WITHOUT_ADAPTER):
        what = f"weights {weights!r} with activations {activations!r} have no adapter beside them"
        raise refuse(what, "remove 'recover', or take int4-b32, int8-b32 or a mix of GGUF")
    if recover and method == "awq":
        raise refuse("AWQ's weights have no adapter beside them", "write 'method: gptq'")
    is_static = activations == "static-uint8"
    if ranges and not is_static:
        what = f"calibration {ranges!r} chooses static ranges, but activations are {activations!r}"
        raise refuse(what, "remove it, or write 'activations: static-uint8'")
    ranges = (ranges or _DEFAULT_RANGES) if is_static else None
    variant = Variant(
        name=name or _name_of(weights, activations, method, ranges, recover),
        weights=weights,
        activations=activations,
        method=method,
        ranges=ranges,
        recover=recover,
    )
    owner = PRESETS.get(variant.name)
    if owner is not None and owner != variant:
        what = f"the name {variant.name!r} belongs to a preset with other settings"
        raise refuse(what, "choose another name, or remove 'name'")
    return variant


def _name_of(
    weights: Weights,
    activations: Activations,
    method: Method,
    ranges: Ranges | None,
    recover: RecoverSpec | None,
) -> str:
    parts: list[str] = [weights]
    if activations != "float32":
        parts.append(activations.removesuffix("-uint8"))
    if method != METHODS[weights][0]:
        parts.append(method)
    if ranges not in (None, _DEFAULT_RANGES):
        parts.append(str(ranges))
    if recover:
        parts.append(f"recover{recover.rank}")
    return "-".join(parts)


PRESETS: dict[str, Variant] = {}
PRESETS |= {
    variant.name: variant
    for variant in (
        make_variant("float32"),
        make_variant("float16"),
        make_variant("int8", "float32"),
        make_variant("int8", "dynamic-uint8"),
        make_variant("int8", "static-uint8"),
        make_variant("int8-b32"),
        make_variant("int4-b32"),
        *map(make_variant, PALETTE_WORDS),
        *map(make_variant, MIXES),
    )
}


def preset(word: Preset, format: Format, task: str) -> Variant:
    """The variant that a preset word means for a format and a task.

    `int8` leaves the rest to the format: encoders and nets on ONNX are fastest with int8
    activations; language models read every weight for each token, so only weights matter, and
    GGUF has no other kind. On Core ML it is one scale per channel, which every unit reads.

    >>> preset("int4", "onnx", "tensor").name, preset("int8", "onnx", "text-generation").name
    ('int4-b32', 'int8-b32')
    """
    if word == "int4":
        return PRESETS["int4-b32"]
    if word == "int8":
        if format == "coreml":
            return PRESETS["int8"]
        is_weight_only = format == "gguf" or task == "text-generation"
        return PRESETS["int8-b32" if is_weight_only else "int8-dynamic"]
    return PRESETS[word]


def grid_of(word: Use, format: Format, task: str) -> Grid | GgufType | None:
    """What a rule's word, a grid, a preset or a GGUF type, means; None where the format lacks it.

    >>> grid_of("int8-static", "onnx", "tensor"), grid_of("int4", "gguf", "text-generation")
    ('int8', 'int4-b32')
    >>> grid_of("Q6_K", "onnx", "text-generation") is None
    True
    """
    if word in get_args(GgufType):
        return word if format == "gguf" else None  # type: ignore[return-value]
    variant = preset(word, format, task)  # type: ignore[arg-type]
    return variant.weights if format in variant.formats else None  # type: ignore[return-value]
