"""The words a recipe may use: number formats, rounding methods, and presets of both.

All are made from the registries: a number format or a method that is registered is a word at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, cast, get_args

from edgeq.core.artifact import Frozen
from edgeq.core.validation_messages import refuse
from edgeq.core.vocabulary import Vocabulary
from edgeq.quantize.ggml.words import UNWEIGHTED, GgufMix, GgufType
from edgeq.quantize.methods import ROUNDING_METHODS, methods_for, rounding_method
from edgeq.quantize.number_formats import NUMBER_FORMATS, NumberFormat, number_format
from edgeq.quantize.number_formats.floats import FLOAT16, FLOAT32
from edgeq.quantize.number_formats.integers import INT4_B32, INT8, INT8_B32, IntegerFormat
from edgeq.quantize.number_formats.kquants import BLOCKS, TYPE_OF, BlockFormat
from edgeq.quantize.number_formats.palettes import Palette
from edgeq.quantize.recover_spec import RecoverSpec

Format = Literal["onnx", "gguf", "coreml"]

Activations = Literal["float32", "dynamic-uint8", "static-uint8"]
"""A number format of activations. Dynamic ranges are taken from each input as it comes, static
ones are fixed from calibration data."""

Ranges = Literal["minmax", "entropy", "percentile", "error"]
"""How static ranges are chosen from what calibration saw; `error` takes the range that changes
the output least."""

MIXES: tuple[GgufMix, ...] = get_args(GgufMix)
NEUTRAL = ("int8", "int4")
"""Words that leave the details to the file format: see `preset`."""
_DEFAULT_RANGES: Ranges = "error"
_MIX_DEFAULT = "importance"


def portable_formats() -> tuple[NumberFormat, ...]:
    """Number formats that a whole model can be in; GGUF has mixes in place of its own."""
    return tuple(each for each in NUMBER_FORMATS.values() if not isinstance(each, BlockFormat))


def _weights() -> list[str]:
    return [*(each.name for each in portable_formats()), *MIXES]


def _preset_words() -> list[str]:
    return [*dict.fromkeys((*(word for word in PRESETS if word != INT8.name), *NEUTRAL))]


def _use_words() -> list[str]:
    formats = [each.name for each in portable_formats()]
    coded = [word for word, (weights, _) in _settings().items() if weights not in MIXES]
    return [*dict.fromkeys((*formats, *coded, *NEUTRAL, *get_args(GgufType)))]


Weights = Annotated[str, Vocabulary(_weights)]
"""What a variant makes of the weights: one number format for all, or a mix of GGUF types.
`float16` is for Core ML, which computes in it; in GGUF it is the mix F16."""

Method = Annotated[str, Vocabulary(lambda: list(ROUNDING_METHODS))]
"""How a weight is rounded onto its number format: a word of `ROUNDING_METHODS`."""

Preset = Annotated[str, Vocabulary(_preset_words)]
Use = Annotated[str, Vocabulary(_use_words)]
"""What a rule may name: the number format of the weights, a preset that has it, or a type of
GGUF."""


def activations_of(weights: str) -> tuple[Activations, ...]:
    """What runs with such weights; the first is the default."""
    if weights in MIXES:
        return ("float32",)
    return cast("tuple[Activations, ...]", number_format(weights).activations)


def methods_of(weights: str) -> tuple[str, ...]:
    """How such weights can be rounded; the first is the default."""
    if weights in UNWEIGHTED:
        return ("nearest",)
    if weights not in MIXES:
        return methods_for(number_format(weights))
    able = [m.name for m in ROUNDING_METHODS.values() if all(map(m.rounds_onto, BLOCKS))]
    return tuple(sorted(able, key=lambda name: name != _MIX_DEFAULT))


def _takes_adapter(weights: str) -> bool:
    if weights in MIXES:
        return weights not in ("F16", "BF16")
    return number_format(weights).takes_adapter


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
        needs_data = rounding_method(self.method).needs_calibration
        return self.ranges is not None or needs_data or self.recover is not None

    @property
    def formats(self) -> tuple[Format, ...]:
        """The file formats that can hold it."""
        if self.weights in MIXES:
            return ("gguf",)
        stored = number_format(self.weights)
        if isinstance(stored, Palette) or stored == FLOAT16:
            return ("coreml",)
        if isinstance(stored, IntegerFormat):
            return self._of_integers(stored)
        return ("onnx", "gguf", "coreml") if stored == FLOAT32 else ()

    def _of_integers(self, stored: IntegerFormat) -> tuple[Format, ...]:
        if stored.group_size is None:
            return _ROWS_IN[self.activations]
        if rounding_method(self.method).folds_graph:  # codes for several formats share one graph
            return ("onnx",)
        held: tuple[Format, ...] = ("onnx", "gguf") if self.recover else ("onnx", "gguf", "coreml")
        return tuple(each for each in held if each != "gguf" or stored.name in TYPE_OF)


_ROWS_IN: dict[Activations, tuple[Format, ...]] = {
    "float32": ("coreml",),
    "dynamic-uint8": ("onnx",),  # ranges of a Core ML program are constants
    "static-uint8": ("onnx", "coreml"),
}


def make_variant(
    weights: str,
    activations: Activations | None = None,
    method: str | None = None,
    ranges: Ranges | None = None,
    name: str | None = None,
    recover: RecoverSpec | None = None,
) -> Variant:
    """A variant with defaults filled in; the name tells every setting that is not a default.

    Raises a pydantic custom error for a combination that no runtime has.
    """
    allowed = activations_of(weights)
    activations = activations or allowed[0]
    if activations not in allowed:
        what = f"weights {weights!r} do not run with activations {activations!r}"
        raise refuse(what, f"with {weights!r} write: {' or '.join(allowed)}")
    methods = methods_of(weights)
    method = method or methods[0]
    if method not in methods:
        nothing = f"method {method!r} has nothing to round in {FLOAT32.name!r} weights"
        what = f"weights {weights!r} are not rounded by the method {method!r}"
        remedy = f"with {weights!r} write: {' or '.join(methods)}, or remove it"
        raise refuse(nothing if weights == FLOAT32.name else what, remedy)
    if recover and (activations != "float32" or not _takes_adapter(weights)):
        what = f"weights {weights!r} with activations {activations!r} have no adapter beside them"
        raise refuse(what, "remove 'recover', or take int4-b32, int8-b32 or a mix of GGUF")
    if recover and rounding_method(method).folds_graph:
        title = rounding_method(method).title
        raise refuse(f"{title}'s weights have no adapter beside them", "write 'method: gptq'")
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
    weights: str,
    activations: Activations,
    method: str,
    ranges: Ranges | None,
    recover: RecoverSpec | None,
) -> str:
    parts: list[str] = [weights]
    if activations != "float32":
        parts.append(activations.removesuffix("-uint8"))
    if method != methods_of(weights)[0]:
        parts.append(method)
    if ranges not in (None, _DEFAULT_RANGES):
        parts.append(str(ranges))
    if recover:
        parts.append(f"recover{recover.rank}")
    return "-".join(parts)


def _settings() -> dict[str, tuple[str, Activations]]:
    """Weights and activations by the name of the preset that has them."""
    settings: dict[str, tuple[str, Activations]] = {}
    for weights in _weights():
        default = methods_of(weights)[0]
        for activations in activations_of(weights):
            ranges = _DEFAULT_RANGES if activations == "static-uint8" else None
            name = _name_of(weights, activations, default, ranges, None)
            settings[name] = (weights, activations)
    return settings


class _Presets(Mapping[str, Variant]):
    """Every preset by its name, for whatever number formats there are."""

    def __getitem__(self, word: str) -> Variant:
        return _preset(word, *_settings()[word])

    def __iter__(self) -> Iterator[str]:
        return iter(_settings())

    def __len__(self) -> int:
        return len(_settings())


PRESETS = _Presets()


def _preset(name: str, weights: str, activations: Activations) -> Variant:
    return Variant(
        name=name,
        weights=weights,
        activations=activations,
        method=methods_of(weights)[0],
        ranges=_DEFAULT_RANGES if activations == "static-uint8" else None,
    )


def preset(word: str, format: Format, task: str) -> Variant:
    """The variant that a preset word means for a format and a task.

    `int8` leaves the rest to the format: encoders and nets on ONNX are fastest with int8
    activations; language models read every weight for each token, so only weights matter, and
    GGUF has no other kind. On Core ML it is one scale per channel, which every unit reads.

    >>> preset("int4", "onnx", "tensor").name, preset("int8", "onnx", "text-generation").name
    ('int4-b32', 'int8-b32')
    """
    if word == "int4":
        return PRESETS[INT4_B32.name]
    if word == INT8.name:
        if format == "coreml":
            return PRESETS[INT8.name]
        is_weight_only = format == "gguf" or task == "text-generation"
        return PRESETS[INT8_B32.name if is_weight_only else "int8-dynamic"]
    return PRESETS[word]


def grid_of(word: str, format: Format, task: str) -> str | None:
    """What a rule's word, a grid, a preset or a GGUF type, means; None where the format lacks it.

    >>> grid_of("int8-static", "onnx", "tensor"), grid_of("int4", "gguf", "text-generation")
    ('int8', 'int4-b32')
    >>> grid_of("Q6_K", "onnx", "text-generation") is None
    True
    """
    if word in get_args(GgufType):
        return word if format == "gguf" else None
    variant = preset(word, format, task)
    return variant.weights if format in variant.formats else None
