"""The words a recipe may use: number formats of weights and activations, and presets of both."""

from __future__ import annotations

from typing import Literal

from edgeq.artifact import Frozen
from edgeq.wording import refuse

Grid = Literal["float32", "int8", "int8-b32", "int4-b32"]
"""A number format of weights. `int8`: one scale per output channel, symmetric. `int8-b32` and
`int4-b32`: symmetric with one scale, representable as fp16, for every 32 values of a row."""

Activations = Literal["float32", "dynamic-uint8", "static-uint8"]
"""A number format of activations. Dynamic ranges are taken from each input as it comes, static
ones are fixed from calibration data."""

Method = Literal["nearest", "gptq"]
"""How a weight is rounded onto its grid: to the nearest code, or by GPTQ (Frantar et al., 2022),
which rounds column by column and lets later columns make up for the error of earlier ones."""

Ranges = Literal["minmax", "entropy", "percentile", "error"]
"""How static ranges are chosen from what calibration saw; `error` takes the range that changes
the output least."""

PresetWord = Literal["float32", "int8-dynamic", "int8-static", "int8-b32", "int4-b32"]
NeutralWord = Literal["int8", "int4"]
"""Words that leave the details to the format: see `NEUTRAL`."""

Preset = Literal[PresetWord, NeutralWord]
Use = Literal[Grid, PresetWord, NeutralWord]
"""What a rule may name: the grid of the weights, or a preset that has it."""

ACTIVATIONS: dict[Grid, tuple[Activations, ...]] = {
    "float32": ("float32",),
    "int8": ("dynamic-uint8", "static-uint8"),
    "int8-b32": ("float32",),
    "int4-b32": ("float32",),
}
"""What runs with weights on each grid; the first is the default."""

_DEFAULT_METHOD: dict[Grid, Method] = {"int4-b32": "gptq"}
_DEFAULT_RANGES: Ranges = "error"


class Variant(Frozen):
    """One way to quantize a model; artifacts are named `<format>-<name>`.

    `ranges` is None unless the activations are static.
    """

    name: str
    weights: Grid
    activations: Activations
    method: Method
    ranges: Ranges | None

    @property
    def needs_calibration(self) -> bool:
        """Whether building it asks for calibration data."""
        return self.ranges is not None or self.method == "gptq"


def make_variant(
    weights: Grid,
    activations: Activations | None = None,
    method: Method | None = None,
    ranges: Ranges | None = None,
    name: str | None = None,
) -> Variant:
    """A variant with defaults filled in; the name tells every setting that is not a default.

    Raises a pydantic custom error for a combination that no runtime has.
    """
    allowed = ACTIVATIONS[weights]
    activations = activations or allowed[0]
    if activations not in allowed:
        what = f"weights {weights!r} do not run with activations {activations!r}"
        raise refuse(what, f"with {weights!r} write: {' or '.join(allowed)}")
    default_method = _DEFAULT_METHOD.get(weights, "nearest")
    method = method or default_method
    if weights == "float32" and method != "nearest":
        raise refuse(f"method {method!r} has nothing to round in 'float32' weights", "remove it")
    is_static = activations == "static-uint8"
    if ranges and not is_static:
        what = f"calibration {ranges!r} chooses static ranges, but activations are {activations!r}"
        raise refuse(what, "remove it, or write 'activations: static-uint8'")
    ranges = (ranges or _DEFAULT_RANGES) if is_static else None
    variant = Variant(
        name=name or _name_of(weights, activations, method, ranges),
        weights=weights,
        activations=activations,
        method=method,
        ranges=ranges,
    )
    owner = PRESETS.get(variant.name)
    if owner is not None and owner != variant:
        what = f"the name {variant.name!r} belongs to a preset with other settings"
        raise refuse(what, "choose another name, or remove 'name'")
    return variant


def _name_of(weights: Grid, activations: Activations, method: Method, ranges: Ranges | None) -> str:
    parts: list[str] = [weights]
    if activations != "float32":
        parts.append(activations.removesuffix("-uint8"))
    if method != _DEFAULT_METHOD.get(weights, "nearest"):
        parts.append(method)
    if ranges not in (None, _DEFAULT_RANGES):
        parts.append(str(ranges))
    return "-".join(parts)


PRESETS: dict[str, Variant] = {}
PRESETS |= {
    variant.name: variant
    for variant in (
        make_variant("float32"),
        make_variant("int8", "dynamic-uint8"),
        make_variant("int8", "static-uint8"),
        make_variant("int8-b32"),
        make_variant("int4-b32"),
    )
}

NEUTRAL: dict[NeutralWord, dict[str, PresetWord]] = {
    "int8": {"onnx": "int8-dynamic"},
    "int4": {"onnx": "int4-b32"},
}
"""What a format-neutral word means for each format."""

_NEUTRAL_GRIDS: dict[NeutralWord, Grid] = {"int8": "int8", "int4": "int4-b32"}


def preset(word: Preset, format: str) -> Variant:
    """The variant that a preset word means for a format.

    >>> preset("int4", "onnx").name
    'int4-b32'
    """
    if word == "int8" or word == "int4":
        return PRESETS[NEUTRAL[word][format]]
    return PRESETS[word]


def grid_of(word: Use) -> Grid:
    """The number format of weights that a rule's word names, itself a grid or a preset.

    >>> grid_of("int8-static"), grid_of("int4")
    ('int8', 'int4-b32')
    """
    if word == "int8" or word == "int4":
        return _NEUTRAL_GRIDS[word]
    return PRESETS[word].weights
