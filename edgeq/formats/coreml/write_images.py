"""What apps expect of an image classifier: pixels in, the name of a class out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.coreml.coremltools import load_coremltools
from edgeq.formats.coreml.write_program import ProgramWriter

LABEL = "classLabel"
PROBABILITIES = "classLabel_probs"

Colour = Literal["RGB", "BGR", "grayscale"]


@dataclass(frozen=True)
class Image:
    """An input that takes pixel buffers; the model computes with `pixel × scale + bias`.

    scale, bias: one number, or one for each channel.
    """

    input: str
    scale: tuple[float, ...]
    bias: tuple[float, ...]
    colour: Colour

    @property
    def channels(self) -> int:
        """How many values a pixel has."""
        return 1 if self.colour == "grayscale" else 3


def normalised(writer: ProgramWriter, image: Image) -> Any:
    """What the model takes for the image, from the program's input of pixels."""
    pixels = writer.inputs[image.input]
    # In float32: scales of a pixel are near the end of float16's digits.
    scale, bias = (
        np.array(part, np.float32).reshape(1, -1, 1, 1) for part in (image.scale, image.bias)
    )
    scaled = writer.in_float32("mul", f"{image.input}.scaled", x=pixels, y=scale)
    return writer.in_float32("add", f"{image.input}.normalised", x=scaled, y=bias)


def classified(writer: ProgramWriter, name: str, logits: Any, labels: Sequence[str]) -> list[Any]:
    """The label of the largest value and the shares of all labels, as the program's last operator.

    logits: the output `name`, all axes 1 but the last. Raises InvalidInput where it has another
    number of classes than there are labels.
    """
    classes = logits.shape[-1]
    if classes != len(labels) or any(size != 1 for size in logits.shape[:-1]):
        what = f"the output has the shape {tuple(logits.shape)}, and there are {len(labels)} labels"
        raise InvalidInput(Problem(name, what, "give one label a line for each class"))
    shares = logits
    if logits.op.op_type != "softmax":
        shares = writer.in_float32("softmax", "probabilities", x=logits, axis=-1)
    return writer.classify(writer.cast(shares, "fp32"), list(labels), (LABEL, PROBABILITIES))


def colour_layout(image: Image) -> Any:
    """The layout of a pixel in coremltools' words."""
    layouts = load_coremltools().colorlayout
    names = {"RGB": layouts.RGB, "BGR": layouts.BGR, "grayscale": layouts.GRAYSCALE}
    return names[image.colour]
