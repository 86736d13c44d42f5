"""How to quantize, in recipes: variants of the whole model, and rules for single tensors."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
)

from edgeq.core.artifact import Frozen
from edgeq.core.kv_cache import KvType
from edgeq.quantize import presets
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.name import Name
from edgeq.quantize.presets import (
    Activations,
    Method,
    Preset,
    Ranges,
    Use,
    Weights,
)
from edgeq.quantize.recover_spec import RecoverSpec
from edgeq.quantize.storage import Format, number_format_of, preset, storage

__all__ = ["FitSpec", "Intent", "Name", "QuantizeSpec", "Rule", "VariantSpec"]


CHOSEN = "fit"
"""The reason for number formats chosen for a budget."""


class VariantSpec(Frozen):
    """A way to quantize, setting by setting; omitted settings have the default for the weights."""

    name: Name | None = Field(
        default=None,
        description="The artifact is named <format>-<name>; by default, the name is derived from "
        "the settings.",
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
        description="How weights are rounded: to the nearest code; by GPTQ; weighted by the "
        "importance of each column (llama.cpp's mixes: its own search with an importance "
        "matrix); by AWQ, in ONNX; learned by training, for models in a directory. All but the "
        "first use calibration data.",
        examples=["gptq"],
    )
    calibration: Ranges | None = Field(
        default=None,
        description="How static ranges are chosen; error: the range that changes the output least.",
        examples=["error"],
    )
    recover: RecoverSpec | None = Field(
        default=None,
        description="Language models in GGUF and ONNX: train a low-rank adapter for the weights "
        "that recovers some of the loss from few bits. None by default.",
        examples=[{"rank": 8, "steps": 300}],
    )


def _kind_of_choice(value: Any) -> str:
    return "mapping" if isinstance(value, dict | VariantSpec) else "word"


def _variant_of(choice: Preset | VariantSpec, format: Format, task: str) -> presets.Variant:
    if not isinstance(choice, VariantSpec):
        return preset(choice, format, task)
    return _variant(choice, storage(format).activations)


def _variant(choice: VariantSpec, usual: Activations | None) -> presets.Variant:
    """usual: the default activations."""
    return presets.make_variant(
        weights=choice.weights,
        activations=choice.activations or usual,
        method=choice.method,
        ranges=choice.calibration,
        name=choice.name,
        recover=choice.recover,
    )


def _check_choice(choice: Preset | VariantSpec) -> Any:
    """Reject inconsistent settings where they stand, not when they are used."""
    if isinstance(choice, VariantSpec):
        _variant(choice, None)
    return choice


Choice = Annotated[
    Annotated[Preset, Tag("word")] | Annotated[VariantSpec, Tag("mapping")],
    Discriminator(_kind_of_choice),
    AfterValidator(_check_choice),
]


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _allow_single(schema: dict[str, Any]) -> None:
    """Let editors accept a single choice instead of a list of one."""
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
        description="The number format of these weights; float32 leaves them unchanged.",
        examples=["int8"],
    )
    variants: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Apply only to the variants with these names; by default, to all.",
        examples=[["int4-b32"]],
    )

    def covers(self, variant: str) -> bool:
        """Whether the rule applies to this variant."""
        return self.variants is None or variant in self.variants

    def number_format(self, format: Format, task: str) -> str | None:
        """The number format that `use` names; None if `format` does not have it."""
        return number_format_of(self.use, format, task)


class QuantizeSpec(Frozen):
    """How to quantize: every variant in `default`, and every budget in `fit`, is an artifact."""

    default: Annotated[tuple[Choice, ...], BeforeValidator(_as_tuple)] = Field(
        default=(),
        min_length=1,
        description="One variant or a list of them; each a preset or a mapping of settings.",
        examples=["int8", ["int8-dynamic", "int4-b32"]],
        json_schema_extra=_allow_single,
    )
    fit: Annotated[tuple[FitSpec, ...], BeforeValidator(_as_tuple)] = Field(
        default=(),
        min_length=1,
        description="A budget, or a list of them: number formats of tensors are chosen to fit it.",
        examples=[{"size": "4.2 MiB"}, {"quality": {"kl": 0.02}}],
        json_schema_extra=_allow_single,
    )
    rules: tuple[Rule, ...] = Field(
        default=(),
        description="Exceptions by tensor name. The first that matches wins; one that matches "
        "nothing is an error.",
    )

    @model_serializer(mode="wrap")
    def _without_empty(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omitted keys stay absent: an empty list in a file would be a mistake."""
        fields: dict[str, Any] = inner(self)
        return {key: value for key, value in fields.items() if value or key == "rules"}

    def choices(self, format: Format, task: str) -> tuple[presets.Variant | None, ...]:
        """Each entry of `default`, resolved for `format`; None if the format cannot store it."""
        found = (_variant_of(choice, format, task) for choice in self.default)
        holds = storage(format).holds
        return tuple(variant if holds(variant) else None for variant in found)

    def pending(self, format: Format, task: str) -> tuple[Intent, ...]:
        """Placeholders for budgets whose number formats are not chosen yet."""
        return tuple(
            Intent(
                presets.Variant(
                    name=fit.variant_name,
                    weights=storage(format).mixed_weights,
                    activations="float32",
                    method=fit.method,
                    ranges=None,
                    recover=fit.recover,
                ),
                format,
                task,
                self.rules,
            )
            for fit in self.fit
        )

    def intents(self, format: Format, task: str) -> tuple[Intent, ...]:
        """The variants that become artifacts of `format`, in order, with their rules."""
        return tuple(
            Intent(variant, format, task, self.rules)
            for variant in self.choices(format, task)
            if variant is not None
        )


@dataclass(frozen=True)
class Intent:
    """A recipe's intent for every tensor of one artifact: a variant, and its exceptions.

    chosen: number formats by tensor name, found for a budget; they take precedence over rules. kv:
    the type of the KV cache; None for the usual one.
    """

    variant: presets.Variant
    format: Format
    task: str
    rules: tuple[Rule, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    kv: KvType | None = None

    @property
    def name(self) -> str:
        """The artifact's name."""
        return f"{self.format}-{self.variant.name}"

    def exception(self, tensor: str) -> tuple[str, Any] | None:
        """Why a tensor differs from the default, and its number format; None if it does not."""
        if tensor in self.chosen:
            return CHOSEN, self.chosen[tensor]
        for index, rule in enumerate(self.rules):
            if rule.covers(self.variant.name) and fnmatch.fnmatchcase(tensor, rule.match):
                stored_as = rule.number_format(self.format, self.task)
                if stored_as is not None:
                    return f"rule {index + 1}: {rule.match}", stored_as
        return None
