"""Words for recipes: number formats, rounding methods, and presets of both.

All are derived from the registries: a registered number format or method is a valid word at once.
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
from edgeq.quantize.number_formats.floats import FLOAT32
from edgeq.quantize.number_formats.integers import INT8
from edgeq.quantize.number_formats.kquants import BLOCKS, BlockFormat
from edgeq.quantize.recover_spec import RecoverSpec

Activations = Literal["float32", "dynamic-uint8", "static-uint8"]
"""A number format of activations. Dynamic ranges are taken from each input, static ones are fixed
from calibration data."""

Ranges = Literal["minmax", "entropy", "percentile", "error"]
"""How static ranges are chosen from calibration data; `error` takes the range that changes
the output least."""

MIXES: tuple[GgufMix, ...] = get_args(GgufMix)
NEUTRAL = ("int8", "int4")
"""Presets that leave the details to the file format: see `Storage.preset`."""
_DEFAULT_RANGES: Ranges = "error"
_MIX_DEFAULT = "importance"


def portable_formats() -> tuple[NumberFormat, ...]:
    """Number formats for a whole model; GGUF has mixes in addition to its own."""
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
"""A variant's weights: one number format for all, or a mix of GGUF types.
`float16` is for Core ML, which computes in it; in GGUF it is the mix F16."""

Method = Annotated[str, Vocabulary(lambda: list(ROUNDING_METHODS))]
"""How a weight is rounded onto its number format: a name in `ROUNDING_METHODS`."""

Preset = Annotated[str, Vocabulary(_preset_words)]
Use = Annotated[str, Vocabulary(_use_words)]
"""Values of a rule: the number format of the weights, a preset that has it, or a type of
GGUF."""


def activations_of(weights: str) -> tuple[Activations, ...]:
    """Activation formats that run with such weights; the first is the default."""
    if weights in MIXES:
        return ("float32",)
    return cast("tuple[Activations, ...]", number_format(weights).activations)


def methods_of(weights: str) -> tuple[str, ...]:
    """Rounding methods for such weights; the first is the default."""
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
        """Whether building it requires calibration data."""
        needs_data = rounding_method(self.method).needs_calibration
        return self.ranges is not None or needs_data or self.recover is not None


def make_variant(
    weights: str,
    activations: Activations | None = None,
    method: str | None = None,
    ranges: Ranges | None = None,
    name: str | None = None,
    recover: RecoverSpec | None = None,
) -> Variant:
    """A variant with defaults filled in; the name includes every setting that is not a default.

    Raises a pydantic custom error for a combination that no runtime supports.
    """
    allowed = activations_of(weights)
    activations = activations or allowed[0]
    if activations not in allowed:
        what = f"weights {weights!r} do not run with activations {activations!r}"
        raise refuse(what, f"with {weights!r} write: {' or '.join(allowed)}")
    methods = methods_of(weights)
    method = method or methods[0]
    if method not in methods:
        nothing = f"method {method!r} does not apply to {FLOAT32.name!r} weights"
        what = f"weights {weights!r} are not rounded by the method {method!r}"
        remedy = f"with {weights!r} write: {' or '.join(methods)}, or remove it"
        raise refuse(nothing if weights == FLOAT32.name else what, remedy)
    if recover and (activations != "float32" or not _takes_adapter(weights)):
        what = f"weights {weights!r} with activations {activations!r} cannot have an adapter"
        raise refuse(what, "remove 'recover', or take int4-b32, int8-b32 or a mix of GGUF")
    if recover and rounding_method(method).folds_graph:
        title = rounding_method(method).title
        raise refuse(f"{title}'s weights cannot have an adapter", "write 'method: gptq'")
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
    """Weights and activations by the name of their preset."""
    settings: dict[str, tuple[str, Activations]] = {}
    for weights in _weights():
        default = methods_of(weights)[0]
        for activations in activations_of(weights):
            ranges = _DEFAULT_RANGES if activations == "static-uint8" else None
            name = _name_of(weights, activations, default, ranges, None)
            settings[name] = (weights, activations)
    return settings


class _Presets(Mapping[str, Variant]):
    """Every preset by name, for all available number formats."""

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
