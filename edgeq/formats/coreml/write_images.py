"""Image classifiers for apps: pixels in, class names out."""

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
        """Number of values per pixel."""
        return 1 if self.colour == "grayscale" else 3


def normalised(writer: ProgramWriter, image: Image) -> Any:
    """The model's image input, computed from the program's pixel input."""
    pixels = writer.inputs[image.input]
    # In float32: scales of a pixel are near the limit of float16's precision.
    scale, bias = (
        np.array(part, np.float32).reshape(1, -1, 1, 1) for part in (image.scale, image.bias)
    )
    scaled = writer.in_float32("mul", f"{image.input}.scaled", x=pixels, y=scale)
    return writer.in_float32("add", f"{image.input}.normalised", x=scaled, y=bias)


def classified(writer: ProgramWriter, name: str, logits: Any, labels: Sequence[str]) -> list[Any]:
    """The most probable label and all labels' probabilities, as the program's last operator.

    logits: the output `name`, all axes 1 except the last. Raises InvalidInput if the number of
    classes differs from the number of labels.
    """
    classes = logits.shape[-1]
    if classes != len(labels) or any(size != 1 for size in logits.shape[:-1]):
        what = f"the output has the shape {tuple(logits.shape)}, and there are {len(labels)} labels"
        raise InvalidInput(Problem(name, what, "give one label per line, one for each class"))
    shares = logits
    if logits.op.op_type != "softmax":
        shares = writer.in_float32("softmax", "probabilities", x=logits, axis=-1)
    return writer.classify(writer.cast(shares, "fp32"), list(labels), (LABEL, PROBABILITIES))


def colour_layout(image: Image) -> Any:
    """The layout of a pixel by coremltools' name."""
    layouts = load_coremltools().colorlayout
    names = {"RGB": layouts.RGB, "BGR": layouts.BGR, "grayscale": layouts.GRAYSCALE}
    return names[image.colour]
