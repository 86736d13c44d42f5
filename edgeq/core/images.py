"""How an image becomes a model's input: the same words in a recipe and in a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, model_validator

from edgeq.core.frozen import Frozen
from edgeq.core.validation_messages import refuse

Resampling = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
_CHANNELS = {"RGB": 3, "BGR": 3, "grayscale": 1}


def _both(value: Any) -> Any:
    """A square's side stands for its height and width."""
    return (value, value) if isinstance(value, int) else _as_tuple(value)


def _as_tuple(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


_Side = Annotated[int, Field(ge=1, le=16384, strict=True)]
_Size = tuple[_Side, _Side]
_ByChannel = Annotated[
    tuple[FiniteFloat, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=3)
]


@dataclass(frozen=True)
class Placed:
    """Where an image lies in the input: its height and width there, and its top left corner, which
    is negative where something is cut off."""

    height: int
    width: int
    top: int
    left: int


class ImageSettings(Frozen):
    """From an image to the input, in this order: turn as its metadata say, convert to the colors,
    resize, cut out the middle or fill the rest, scale, normalize."""

    size: Annotated[_Size, BeforeValidator(_both)] = Field(
        description="Height and width of the model's input; one number for a square.",
        examples=[224, [192, 256]],
    )
    resize: _Side | Annotated[_Size, BeforeValidator(_as_tuple)] | Literal["fit"] | None = Field(
        default=None,
        description="A number: the shorter side gets this length, the other in proportion. Two: "
        "exactly this height and width. By default, exactly `size`. What is larger than `size` is "
        "cut off evenly on both sides. fit: the whole image in proportion, as large as fits into "
        "`size` (a letterbox).",
        examples=[256, [256, 256], "fit"],
    )
    fill: int = Field(
        default=0,
        ge=0,
        le=255,
        strict=True,
        description="With `resize: fit`, the value of the pixels around the image. With another "
        "resize, 0 allows it to be smaller than `size`.",
    )
    align: Literal["center", "top-left"] = Field(
        default="center", description="With `resize: fit`, where in the input the image lies."
    )
    resample: Resampling = Field(default="bilinear", description="The filter, by Pillow's name.")
    antialias: bool = Field(
        default=True,
        description="Whether the filter covers all pixels of a larger image, as in Pillow; false "
        "for bilinear between the nearest four, as in OpenCV.",
    )
    scale: FiniteFloat = Field(
        default=1 / 255, gt=0, description="Pixels, from 0 to 255, are multiplied by it."
    )
    mean: _ByChannel = Field(
        default=(0.0,),
        description="Subtracted after that: one number, or one for each channel, in the order of "
        "`color`.",
        examples=[[0.485, 0.456, 0.406]],
    )
    deviation: _ByChannel = Field(
        default=(1.0,),
        description="Divided by after that: one number, or one for each channel.",
        examples=[[0.229, 0.224, 0.225]],
    )
    color: Literal["RGB", "BGR", "grayscale"] = Field(
        default="RGB", description="The channels, in the order that the model was trained with."
    )
    layout: Literal["NCHW", "NHWC"] = Field(
        default="NCHW", description="The axes: channels before height and width, or after them."
    )

    @model_validator(mode="after")
    def _fits(self) -> ImageSettings:
        for name, values in (("mean", self.mean), ("deviation", self.deviation)):
            if len(values) not in (1, self.channels):
                what = (
                    f"{name} has {len(values)} numbers, and {self.color} {self.channels} channels"
                )
                raise refuse(what, "give one number, or one for each channel")
        if any(value <= 0 for value in self.deviation):
            raise refuse("a deviation must be greater than 0", "leave it out if there is none")
        if self.resize != "fit" and (self.fill, self.align) != (0, "center"):
            raise refuse("fill and align are for 'resize: fit'", "remove them")
        if not self.antialias and self.resample != "bilinear":
            raise refuse("'antialias: false' is bilinear only", "remove 'resample'")
        if self.has_border and "fill" not in self.model_fields_set:
            what = f"resize {self.resize} is smaller than size {self.size}, which is cut out of it"
            remedy = f"write 'resize: {max(self.size)}' or more, or 'fill: 0' for black around it"
            raise refuse(what, remedy)
        return self

    @property
    def has_border(self) -> bool:
        """Whether an image that is resized to a given length may be smaller than the input."""
        least = (self.resize,) * 2 if isinstance(self.resize, int) else self._exact
        return least[0] < self.size[0] or least[1] < self.size[1]

    @property
    def channels(self) -> int:
        """Values per pixel."""
        return _CHANNELS[self.color]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The input's, for one image."""
        height, width = self.size
        if self.layout == "NCHW":
            return (1, self.channels, height, width)
        return (1, height, width, self.channels)

    @property
    def is_unscaled(self) -> bool:
        """Whether the model takes pixels as they are."""
        return self.scale == 1 and set(self.mean) == {0.0} and set(self.deviation) == {1.0}

    def placed(self, height: int, width: int) -> Placed:
        """Where an image of this size lies in the input."""
        if isinstance(self.resize, int):
            short, long = sorted((height, width))
            longer = int(self.resize * long / short)
            high, wide = (self.resize, longer) if height <= width else (longer, self.resize)
        elif self.resize == "fit":
            ratio = min(self.size[0] / height, self.size[1] / width)
            high, wide = (max(1, round(side * ratio)) for side in (height, width))
        else:
            high, wide = self._exact
        if self.align == "top-left":
            return Placed(high, wide, 0, 0)
        fits = self.resize == "fit"  # as Ultralytics places it; the other is transformers' way
        top, left = (
            (size - side + (not fits)) // 2 if side <= size else -((side - size) // 2)
            for size, side in zip(self.size, (high, wide), strict=True)
        )
        return Placed(high, wide, top, left)

    @property
    def _exact(self) -> _Size:
        """Height and width of every image before its middle is cut out."""
        return self.resize if isinstance(self.resize, tuple) else self.size
