"""Rotary positions in config.json, with the keys of every version of transformers.

Up to 4.x: `rope_theta`, `rope_scaling`, for Gemma 3 `rope_local_base_freq`, for Phi-3
`original_max_position_embeddings`. From 5.0: `rope_parameters` with all of it, in Gemma 3 and
OLMo 3 one for each type of layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from edgeq.core.errors import InvalidInput
from edgeq.models.settings import Settings

RopeKind = Literal["default", "linear", "llama3", "yarn", "longrope", "proportional"]
KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope", "proportional")
_LAYER_TYPES = ("full_attention", "sliding_attention")
_FILE = "config.json"


@dataclass(frozen=True)
class Rope:
    """How queries and keys are rotated by their position.

    theta: the base. dim: columns of a head that rotate. factor: stretching of positions. original:
    positions before stretching. magnitude: factor of cosines and sines. low, high:
    `low_freq_factor` and `high_freq_factor` of llama3, `beta_slow` and `beta_fast` of yarn, in
    turns. rounded: whether yarn's bounds are whole columns. short, long: longrope's divisors of
    frequencies for texts up to `original` positions, and for longer ones. still: pairs of columns
    that do not rotate, the last ones.
    """

    kind: RopeKind
    theta: float
    dim: int
    factor: float = 1.0
    original: int = 0
    magnitude: float = 1.0
    low: float = 0.0
    high: float = 0.0
    rounded: bool = True
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()
    still: int = 0


def read_rope(
    config: Settings,
    head_dim: int,
    context: int,
    outside: Mapping[str, Any] = MappingProxyType({}),
    *,
    theta: float = 1e4,
    others: Iterable[str] = (),
) -> Rope:
    """The rotation of a model with one for all its layers.

    outside: further settings of it that older files of the family have outside, with the values
    that they have if the file does not say. theta: the base if the file does not say. others:
    settings that the family reads itself. Raises InvalidInput for an unsupported type, for a
    setting that its type does not have, and if old and new keys contradict each other.
    """
    parameters = _parameters(config)
    if any(kind in parameters for kind in _LAYER_TYPES):
        family = config.get("model_type")
        what = f"{_FILE}: rope_parameters for each type of layer, which {family} does not have"
        raise config.error(what, "save the model again with the library it was trained with")
    own = {name: config.get(name) for name in ("rope_theta", *outside)}
    usual = {"rope_theta": theta, **outside}
    found = _merged(config, parameters or config.mapping("rope_scaling"), own, usual)
    found = {name: value for name, value in found.items() if name not in tuple(others)}
    return _rope(config, found, head_dim, context, "rope_parameters")


def has_layered_ropes(config: Settings) -> bool:
    """Whether the file has a rotation for each type of layer, as from transformers 5.0."""
    return any(kind in _parameters(config) for kind in _LAYER_TYPES)


def read_layered_ropes(
    config: Settings, head_dim: int, context: int, keys: Mapping[str, float]
) -> tuple[Rope, Rope]:
    """The rotations of layers with full attention and of those with a window.

    keys: of older files for the base of each, with its value if the file does not say.
    """
    parameters = _parameters(config)
    if parameters and not has_layered_ropes(config):
        family = config.get("model_type")
        what = f"{_FILE}: rope_parameters of a {family} model name no type of layer"
        raise config.error(what, "save the model again with the library it was trained with")
    unknown = sorted(set(parameters) - set(_LAYER_TYPES))
    if unknown:
        raise config.error(f"{_FILE}: rope_parameters has the key {unknown[0]!r}", "remove it")
    older: tuple[dict[str, Any], ...] = (config.mapping("rope_scaling"), {})
    ropes = []
    for kind, inner, (key, theta) in zip(_LAYER_TYPES, older, keys.items(), strict=True):
        own = {"rope_theta": config.get(key)}
        found = _merged(config, parameters.get(kind) or inner, own, {"rope_theta": theta})
        ropes.append(_rope(config, found, head_dim, context, kind))
    return ropes[0], ropes[1]


def read_rope_of(config: Settings, kind: str, head_dim: int, usual: Mapping[str, Any]) -> Rope:
    """The rotation of layers of one type, which `rope_parameters` must name if it is there."""
    parameters = config.mapping("rope_parameters")
    unknown = sorted(set(parameters) - set(_LAYER_TYPES))
    if unknown:
        raise config.error(f"{_FILE}: rope_parameters has the key {unknown[0]!r}", "remove it")
    found = _merged(config, parameters.get(kind, dict(usual)), {}, {})
    return _rope(config, found, head_dim, config.whole("max_position_embeddings"), kind)


def _parameters(config: Settings) -> dict[str, Any]:
    parameters, scaling = config.mapping("rope_parameters"), config.mapping("rope_scaling")
    if parameters and scaling and not _agree(parameters, scaling):
        raise _contradiction(config, "rope_scaling")
    return parameters


def _agree(parameters: Mapping[str, Any], scaling: Mapping[str, Any]) -> bool:
    inner = parameters.get(_LAYER_TYPES[0], parameters)
    return isinstance(inner, dict) and all(
        value is None or inner.get("rope_type" if key == "type" else key) == value
        for key, value in scaling.items()
    )


def _contradiction(config: Settings, name: str) -> InvalidInput:
    what = f"{_FILE}: rope_parameters and {name} contradict each other"
    return config.error(what, "delete the one that the model was not trained with")


def _merged(
    config: Settings, inner: Any, outer: Mapping[str, Any], usual: Mapping[str, Any]
) -> dict[str, Any]:
    """`inner`, with additional keys of older files and what neither says."""
    if not isinstance(inner, dict):
        raise config.unusable("rope_parameters", inner, "a mapping")
    found = {key: value for key, value in inner.items() if value is not None}
    for name, value in outer.items():
        if value is not None and found.setdefault(name, value) != value:
            raise _contradiction(config, name)
    return {**{name: value for name, value in usual.items() if value is not None}, **found}


def _rope(config: Settings, found: dict[str, Any], head_dim: int, context: int, name: str) -> Rope:
    rope = Settings(found, config.where, f"{_FILE}: {name}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    older = rope.get("type", kind)
    if config.get("model_type") == "phi3" and kind == "su":  # longrope's first name
        kind = "longrope"
        older = kind if older == "su" else older
    if kind not in KINDS or older != kind:
        what = f"{rope.file}: the type {kind!r} is not supported"
        raise rope.error(what, f"use a model with one of: {', '.join(KINDS)}")
    part = rope.number("partial_rotary_factor", 1.0)
    dim = head_dim if kind == "proportional" else int(head_dim * part)
    made = _KINDS[kind](rope, rope.number("rope_theta"), dim, context)
    problems = list(rope.unread())
    if problems:
        raise InvalidInput(problems)
    return made


def _default(rope: Settings, theta: float, dim: int, context: int) -> Rope:
    rope.ignore(["original_max_position_embeddings"])  # nothing is stretched
    return Rope("default", theta, dim)


def _linear(rope: Settings, theta: float, dim: int, context: int) -> Rope:
    rope.ignore(["original_max_position_embeddings"])
    return Rope("linear", theta, dim, rope.number("factor"))


def _dynamic(rope: Settings, theta: float, dim: int, context: int) -> Rope:
    """Affects only texts of more than `context` positions, and no file supports those."""
    rope.number("factor")
    original = rope.get("original_max_position_embeddings", context)
    if original != context:
        what = f"{rope.file}: stretched from {original} positions to {context} by a dynamic rope"
        raise rope.error(what, f"set max_position_embeddings to {original}")
    return Rope("default", theta, dim)


def _llama3(rope: Settings, theta: float, dim: int, context: int) -> Rope:
    return Rope(
        "llama3",
        theta,
        dim,
        rope.number("factor"),
        rope.whole("original_max_position_embeddings"),
        low=rope.number("low_freq_factor"),
        high=rope.number("high_freq_factor"),
    )


def _yarn(rope: Settings, theta: float, dim: int, context: int) -> Rope:
    factor = rope.number("factor")
    magnitude = rope.optional("attention_factor")
    scales = rope.optional("mscale"), rope.optional("mscale_all_dim")
    if magnitude is None:
        magnitude = _yarn_magnitude(factor, 1.0)
        if scales[0] and scales[1]:
            magnitude = _yarn_magnitude(factor, scales[0]) / _yarn_magnitude(factor, scales[1])
    return Rope(
        "yarn",
        theta,
        dim,
        factor,
        rope.whole("original_max_position_embeddings", context),
        magnitude,
        low=rope.number("beta_slow", 1.0),
        high=rope.number("beta_fast", 32.0),
        rounded=rope.flag("truncate", True),
    )


def _yarn_magnitude(factor: float, scale: float) -> float:
    return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0


def _longrope(rope: Settings, theta: float, dim: int, context: int) -> Rope:
    original = rope.whole("original_max_position_embeddings", context)
    ratio = context / original
    factor = rope.number("factor", ratio)
    magnitude = rope.optional("attention_factor")
    if magnitude is None:
        if original != context and not math.isclose(factor, ratio):
            what = (
                f"{rope.file}: factor is {factor:g}, but {context} positions are {ratio:g} times "
                f"{original}: versions of transformers take different ones"
            )
            raise rope.error(what, "set attention_factor")
        growth = math.log(factor) / math.log(original) if factor > 1 else 0.0
        magnitude = math.sqrt(1 + growth)
    short, long = (_factors(rope, name, dim) for name in ("short_factor", "long_factor"))
    return Rope("longrope", theta, dim, factor, original, magnitude, short=short, long=long)


def _factors(rope: Settings, name: str, dim: int) -> tuple[float, ...]:
    values = rope.need(name)
    if not isinstance(values, list) or len(values) != dim // 2:
        raise rope.unusable(name, values, f"a list of {dim // 2} numbers")
    if not all(isinstance(value, int | float) and value > 0 for value in values):
        raise rope.unusable(name, values, "a list of positive numbers")
    return tuple(map(float, values))


def _proportional(rope: Settings, theta: float, dim: int, context: int) -> Rope:
    """Frequencies as if all columns rotated, of which the first do."""
    rotating = int(rope.number("partial_rotary_factor", 1.0) * dim // 2)
    if rope.number("factor", 1.0) != 1:
        raise rope.unusable("factor", rope.get("factor"), "1")
    return Rope("proportional", theta, dim, still=dim // 2 - rotating)


_KINDS = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "proportional": _proportional,
}
