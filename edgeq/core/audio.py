"""How a recording becomes a recogniser's input and its output a text: in recipes and bundles."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from edgeq.core.frozen import Frozen
from edgeq.core.validation_messages import refuse

_MOST_SAMPLES = 1 << 24


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class AudioSettings(Frozen):
    """From a recording to the input (1, samples), in this order: mean of the channels, resample,
    normalize, add silence."""

    rate: int = Field(
        default=16_000, ge=1000, le=192_000, description="Samples per second of the input."
    )
    seconds: float = Field(
        gt=0,
        allow_inf_nan=False,
        description="Length of the input. Silence is added to shorter recordings; longer ones are "
        "refused.",
        examples=[20],
    )
    normalize: bool = Field(
        default=False,
        description="Whether a recording gets a mean of 0 and a variance of 1, before silence is "
        "added.",
    )

    @model_validator(mode="after")
    def _is_short(self) -> AudioSettings:
        if self.samples > _MOST_SAMPLES:
            raise refuse(f"an input of {self.samples} samples is too long", "write fewer seconds")
        return self

    @property
    def samples(self) -> int:
        """The input's length."""
        return round(self.rate * self.seconds)

    @property
    def shape(self) -> tuple[int, int]:
        """The input's."""
        return (1, self.samples)


class TranscriptionSettings(Frozen):
    """From scores of (1, frames, symbols) to a text, in this order: the likeliest symbol of each
    frame without those to ignore, repeated ones once, without the blank, `space` as a space."""

    blank: str = Field(
        description="The label that means no symbol.", examples=["<pad>", "[PAD]", "<blank>"]
    )
    space: str = Field(default=" ", description="The label that separates words.", examples=["|"])
    ignore: Annotated[tuple[str, ...], BeforeValidator(_as_tuple)] = Field(
        default=(), description="Labels that are no part of a text.", examples=[["<s>", "</s>"]]
    )
