"""How a recording becomes a recogniser's input and its output a text: in recipes and bundles."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from edgeq.core.frozen import Frozen
from edgeq.core.validation_messages import refuse

_MOST_SAMPLES = 1 << 24


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class MelSettings(Frozen):
    """From samples to the logarithm of their mel spectrum (1, bins, frames), as Whisper takes it:
    powers of a Fourier transform under a Hann window, triangular filters of equal area from 0 Hz to
    half of the rate, logarithm to base 10 within 8 of the largest, plus 4, divided by 4."""

    bins: int = Field(ge=1, le=1024, description="Bands of frequencies.", examples=[80])
    window: int = Field(default=400, ge=2, le=1 << 16, description="Samples of one frame.")
    hop: int = Field(default=160, ge=1, description="Samples from one frame to the next.")


class AudioSettings(Frozen):
    """From a recording to the input (1, samples), in this order: mean of the channels, resample,
    normalize, add silence; then the spectrum, if there is one."""

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

    mel: MelSettings | None = Field(
        default=None,
        description="The spectrum that the input takes; by default samples.",
        examples=[{"bins": 80, "window": 400, "hop": 160}],
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
    def shape(self) -> tuple[int, ...]:
        """The input's."""
        if self.mel is not None:
            return (1, self.mel.bins, self.samples // self.mel.hop)
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


Ids = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_as_tuple)]


class DecodingSettings(Frozen):
    """From the scores of a decoder with a cache to a text: after the prompt, always the likeliest
    token that is not suppressed, until the end."""

    prompt: Ids = Field(
        min_length=1,
        description="Tokens before the text: start, language, task, no timestamps.",
        examples=[[50258, 50259, 50359, 50363]],
    )
    end: int = Field(ge=0, description="The token after the text.", examples=[50257])
    suppress: Ids = Field(default=(), description="Tokens that a text never has.")
    suppress_first: Ids = Field(default=(), description="Tokens that no text begins with.")
    length: int = Field(ge=2, description="Most tokens, including the prompt.", examples=[448])
    tidy: bool = Field(
        default=False,
        description="clean_up_tokenization_spaces in tokenizer_config.json: no space before "
        "punctuation and after apostrophes.",
    )
