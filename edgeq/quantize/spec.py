"""How a recipe says what to quantize: variants of the whole model, and rules for single tensors."""

from __future__ import annotations

import fnmatch
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from edgeq.artifact import Frozen
from edgeq.quantize import presets
from edgeq.quantize.presets import Activations, Grid, Method, Preset, Ranges, Use
from edgeq.wording import refuse

Format = Literal["onnx"]

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
    weights: Grid = Field(
        description="Number format of the weights. int8: one scale per output channel; -b32: one "
        "scale for every 32 values.",
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
        description="How weights are rounded: to the nearest code, or by GPTQ with calibration.",
        examples=["gptq"],
    )
    calibration: Ranges | None = Field(
        default=None,
        description="How static ranges are chosen; error: the range that changes the output least.",
        examples=["error"],
    )


def _kind_of_choice(value: Any) -> str:
    return "mapping" if isinstance(value, dict | VariantSpec) else "word"


def _variant_of(choice: Preset | VariantSpec, format: Format) -> presets.Variant:
    if not isinstance(choice, VariantSpec):
        return presets.preset(choice, format)
    return presets.make_variant(
        weights=choice.weights,
        activations=choice.activations,
        method=choice.method,
        ranges=choice.calibration,
        name=choice.name,
    )


def _check_choice(choice: Preset | VariantSpec) -> Any:
    """Refuse settings that do not go together where they stand, not when they are used."""
    _variant_of(choice, "onnx")
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

    @property
    def grid(self) -> Grid:
        """The number format that `use` names."""
        return presets.grid_of(self.use)


class QuantizeSpec(Frozen):
    """How to quantize. Every variant in `default` becomes an artifact of its own."""

    default: Annotated[tuple[Choice, ...], BeforeValidator(_as_tuple)] = Field(
        min_length=1,
        description="One variant or a list of them; each a preset word or a mapping of settings.",
        examples=["int8", ["int8-dynamic", "int4-b32"]],
        json_schema_extra=_allow_single,
    )
    rules: tuple[Rule, ...] = Field(
        default=(),
        description="Exceptions by tensor name. The first that matches wins; one that matches "
        "nothing is an error.",
    )

    def variants(self, format: Format) -> tuple[presets.Variant, ...]:
        """The variants of `default`, in order, with every setting resolved for `format`."""
        return tuple(_variant_of(choice, format) for choice in self.default)

    def first_match(self, tensor: str, variant: str) -> int | None:
        """The index in `rules` of the rule that decides about a tensor, None for the default."""
        for index, rule in enumerate(self.rules):
            if rule.covers(variant) and fnmatch.fnmatchcase(tensor, rule.match):
                return index
        return None
