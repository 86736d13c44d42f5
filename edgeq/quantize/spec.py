"""How a recipe says what to quantize: variants of the whole model, and rules for single tensors."""

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
from edgeq.quantize import presets
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.methods.gptq import GPTQ
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
from edgeq.quantize.storage import Format, grid_of, preset, storage

__all__ = ["FitSpec", "Intent", "Name", "QuantizeSpec", "Rule", "VariantSpec"]


CHOSEN = "fit"
"""Why a tensor has its number format where it was chosen for a budget."""


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
        description="How weights are rounded: to the nearest code; by GPTQ; weighed with the "
        "importance of each column (llama.cpp's mixes: its own search with an importance matrix); "
        "by AWQ, in ONNX. All but the first look at calibration data.",
        examples=["gptq"],
    )
    calibration: Ranges | None = Field(
        default=None,
        description="How static ranges are chosen; error: the range that changes the output least.",
        examples=["error"],
    )
    recover: RecoverSpec | None = Field(
        default=None,
        description="Language models in GGUF and ONNX: train a low-rank adapter beside the weights "
        "that gives back some of what few bits took. Without it, none.",
        examples=[{"rank": 8, "steps": 300}],
    )


def _kind_of_choice(value: Any) -> str:
    return "mapping" if isinstance(value, dict | VariantSpec) else "word"


def _variant_of(choice: Preset | VariantSpec, format: Format, task: str) -> presets.Variant:
    if not isinstance(choice, VariantSpec):
        return preset(choice, format, task)
    return _variant(choice, storage(format).activations)


def _variant(choice: VariantSpec, usual: Activations | None) -> presets.Variant:
    """usual: the activations where the choice does not say."""
    return presets.make_variant(
        weights=choice.weights,
        activations=choice.activations or usual,
        method=choice.method,
        ranges=choice.calibration,
        name=choice.name,
        recover=choice.recover,
    )


def _check_choice(choice: Preset | VariantSpec) -> Any:
    """Refuse settings that do not go together where they stand, not when they are used."""
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
    """Let editors accept a single choice in place of a list of one."""
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

    def grid(self, format: Format, task: str) -> str | None:
        """The number format that `use` names; None where `format` does not have it."""
        return grid_of(self.use, format, task)


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

    @model_serializer(mode="wrap")
    def _without_empty(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What a file leaves out stays out: an empty list in it would be a mistake."""
        held: dict[str, Any] = inner(self)
        return {key: value for key, value in held.items() if value or key == "rules"}

    def choices(self, format: Format, task: str) -> tuple[presets.Variant | None, ...]:
        """What each entry of `default` means for `format`; None where it cannot hold it."""
        found = (_variant_of(choice, format, task) for choice in self.default)
        holds = storage(format).holds
        return tuple(variant if holds(variant) else None for variant in found)

    def pending(self, format: Format, task: str) -> tuple[Intent, ...]:
        """What stands for each budget while its number formats are still to be found."""
        return tuple(
            Intent(
                presets.Variant(
                    name=fit.variant_name,
                    weights=storage(format).mixed_weights,
                    activations="float32",
                    method=GPTQ.name,
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
            return CHOSEN, self.chosen[tensor]
        for index, rule in enumerate(self.rules):
            if rule.covers(self.variant.name) and fnmatch.fnmatchcase(tensor, rule.match):
                grid = rule.grid(self.format, self.task)
                if grid is not None:
                    return f"rule {index + 1}: {rule.match}", grid
        return None
