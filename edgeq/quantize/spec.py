"""How a recipe says what to quantize: variants of the whole model, and rules for single tensors."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from edgeq.artifact import Frozen
from edgeq.quantize import presets
from edgeq.quantize.gguf_words import GgufType
from edgeq.quantize.presets import (
    Activations,
    Format,
    Grid,
    Method,
    Preset,
    Ranges,
    Use,
    Weights,
)
from edgeq.units import MIB, Bytes, Seconds, TokensPerSecond
from edgeq.wording import refuse

__all__ = ["FitSpec", "Format", "Intent", "Name", "QuantizeSpec", "Rule", "VariantSpec"]

_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def _check_name(value: Any) -> Any:
    if isinstance(value, str) and not _PLAIN_NAME.fullmatch(value):
        what = f"{value!r} cannot be a name: it becomes part of file names"
        raise refuse(what, "use a-z, 0-9, '-', '_' and '.', e.g. 'minilm-search'")
    return value


Name = Annotated[str, BeforeValidator(_check_name)]
"""A word that can be part of a file name."""


class VariantSpec(Frozen):
    """A way to quantize, setting by setting; what is left out has the default of the weights."""

    name: Name | None = Field(
        default=None,
        description="The artifact becomes <format>-<name>; without it, made from the settings.",
        examples=["int4-nearest"],
    )
    weights: Weights = Field(
        description="Number format of the weights. int8: one scale per output channel; -b32: one "
        "scale for every 32 values; in capitals: llama.cpp's file types, for GGUF.",
        examples=["int4-b32"],
    )
    activations: Activations | None = Field(
        default=None,
        description="Number format of the activations. dynamic: ranges from each input; static: "
        "ranges fixed from calibration data.",
        examples=["dynamic-uint8"],
    )
    method: Method | None = Field(
        default=None,
        description="How weights are rounded: to the nearest code, by GPTQ with calibration, or by "
        "llama.cpp's search weighed with an importance matrix from calibration.",
        examples=["gptq"],
    )
    calibration: Ranges | None = Field(
        default=None,
        description="How static ranges are chosen; error: the range that changes the output least.",
        examples=["error"],
    )


def _kind_of_choice(value: Any) -> str:
    return "mapping" if isinstance(value, dict | VariantSpec) else "word"


def _variant_of(choice: Preset | VariantSpec, format: Format, task: str) -> presets.Variant:
    if not isinstance(choice, VariantSpec):
        return presets.preset(choice, format, task)
    return presets.make_variant(
        weights=choice.weights,
        activations=choice.activations or ("float32" if format == "coreml" else None),
        method=choice.method,
        ranges=choice.calibration,
        name=choice.name,
    )


def _check_choice(choice: Preset | VariantSpec) -> Any:
    """Refuse settings that do not go together where they stand, not when they are used."""
    if isinstance(choice, VariantSpec):
        _variant_of(choice, "onnx", "tensor")
    return choice


Choice = Annotated[
    Annotated[Preset, Tag("word")] | Annotated[VariantSpec, Tag("mapping")],
    Discriminator(_kind_of_choice),
    AfterValidator(_check_choice),
]


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _allow_single(schema: dict[str, Any]) -> None:
    """In an editor, too, a single choice may stand for a list of one."""
    choices = {key: schema.pop(key) for key in ("type", "items", "minItems")}
    schema["anyOf"] = [choices["items"], choices]


class Rule(Frozen):
    """An exception from the default for the tensors whose names match."""

    match: str = Field(
        min_length=1,
        description="A pattern for tensor names: * any text, ? one character, [ab] one of these.",
        examples=["*.word_embeddings.weight"],
    )
    use: Use = Field(
        description="The number format of these weights; float32 leaves them as they are.",
        examples=["int8"],
    )
    variants: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Only for the variants with these names; without it, for all.",
        examples=[["int4-b32"]],
    )

    def covers(self, variant: str) -> bool:
        """Whether the rule is meant for this variant."""
        return self.variants is None or variant in self.variants

    def grid(self, format: Format, task: str) -> Grid | GgufType | None:
        """The number format that `use` names; None where `format` does not have it."""
        return presets.grid_of(self.use, format, task)


class FitQuality(Frozen):
    """How far from full precision it may be, on calibration data that rounding does not see."""

    kl: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Language models: upper bound of the mean KL divergence, in nats.",
        examples=[0.02],
    )
    cosine: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Other models: lower bound of the mean cosine of the outputs.",
        examples=[0.99],
    )


class FitSpec(Frozen):
    """A budget instead of bits: every tensor gets the number format that serves the whole best.

    With `quality`, the smallest file that keeps it and all else; without, the best that fits.
    """

    name: Name | None = Field(
        default=None,
        description="The artifact becomes <format>-<name>; without it, made from the budget.",
        examples=["fit-phone"],
    )
    size: Bytes | None = Field(
        default=None, description="Upper bound of all files together.", examples=["4.2 MiB"]
    )
    memory: Bytes | None = Field(
        default=None,
        description="Upper bound of what a process takes, estimated, on each of the devices.",
        examples=["64 MiB"],
    )
    latency: Seconds | None = Field(
        default=None,
        description="Upper bound of one run, or of a language model until its first token, "
        "estimated, on each of the devices.",
        examples=["40 ms"],
    )
    speed: TokensPerSecond | None = Field(
        default=None,
        description="Language models: lower bound of generation, estimated, on each device.",
        examples=["20 tok/s"],
    )
    quality: FitQuality = Field(
        default=FitQuality(), description="What must be kept; the smallest file then."
    )
    trials: int = Field(
        default=3, ge=1, description="How many whole models are built and measured at most."
    )
    minutes: float = Field(
        default=10,
        gt=0,
        allow_inf_nan=False,
        description="After so many minutes no further trial begins.",
    )

    @property
    def limit(self) -> float | None:
        """The largest loss, a KL divergence or 1 − cosine; None where quality has no bound."""
        cosine = self.quality.cosine
        return self.quality.kl or (None if cosine is None else 1 - cosine)

    @property
    def bounds(self) -> dict[str, str]:
        """What is asked for, by its name in a recipe, in a word each."""
        sizes = {"size": self.size, "memory": self.memory}
        found = {key: f"{value / MIB:.6g}mib" for key, value in sizes.items() if value}
        if self.latency:
            found["latency"] = f"{self.latency * 1000:.6g}ms"
        if self.speed:
            found["speed"] = f"{self.speed:.6g}tps"
        if self.quality.kl:
            found["kl"] = f"{self.quality.kl:g}"
        if self.quality.cosine:
            found["cosine"] = f"{self.quality.cosine:g}"
        return found

    @property
    def variant_name(self) -> str:
        """`fit-4.2mib`, `fit-kl-0.02`, or as the recipe names it."""
        if self.name:
            return self.name
        parts = (v if k == "size" else f"{k}-{v}" for k, v in self.bounds.items())
        return "-".join(("fit", *parts)).replace("+", "")


class QuantizeSpec(Frozen):
    """How to quantize: every variant in `default`, and every budget in `fit`, is an artifact."""

    default: Annotated[tuple[Choice, ...], BeforeValidator(_as_tuple)] = Field(
        default=(),
        min_length=1,
        description="One variant or a list of them; each a preset word or a mapping of settings.",
        examples=["int8", ["int8-dynamic", "int4-b32"]],
        json_schema_extra=_allow_single,
    )
    fit: Annotated[tuple[FitSpec, ...], BeforeValidator(_as_tuple)] = Field(
        default=(),
        min_length=1,
        description="A budget, or a list of them: what each tensor becomes is chosen to fit it.",
        examples=[{"size": "4.2 MiB"}, {"quality": {"kl": 0.02}}],
        json_schema_extra=_allow_single,
    )
    rules: tuple[Rule, ...] = Field(
        default=(),
        description="Exceptions by tensor name. The first that matches wins; one that matches "
        "nothing is an error.",
    )

    def choices(self, format: Format, task: str) -> tuple[presets.Variant | None, ...]:
        """What each entry of `default` means for `format`; None where it cannot hold it."""
        found = (_variant_of(choice, format, task) for choice in self.default)
        return tuple(variant if format in variant.formats else None for variant in found)

    def intents(self, format: Format, task: str) -> tuple[Intent, ...]:
        """The variants that become artifacts of `format`, in order, with their rules."""
        return tuple(
            Intent(variant, format, task, self.rules)
            for variant in self.choices(format, task)
            if variant is not None
        )


@dataclass(frozen=True)
class Intent:
    """What a recipe wants of every tensor in one artifact: a variant, and its exceptions.

    chosen: number formats by tensor name, found for a budget; they decide before rules do.
    """

    variant: presets.Variant
    format: Format
    task: str
    rules: tuple[Rule, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the artifact is called."""
        return f"{self.format}-{self.variant.name}"

    def exception(self, tensor: str) -> tuple[str, Any] | None:
        """Why a tensor is no default, and its number format; None where it is."""
        if tensor in self.chosen:
            return "fit", self.chosen[tensor]
        for index, rule in enumerate(self.rules):
            if rule.covers(self.variant.name) and fnmatch.fnmatchcase(tensor, rule.match):
                grid = rule.grid(self.format, self.task)
                if grid is not None:
                    return f"rule {index + 1}: {rule.match}", grid
        return None
