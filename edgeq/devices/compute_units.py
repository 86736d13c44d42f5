"""The words for what runs a model on a device, and for the number formats that suit it."""

from __future__ import annotations

from typing import Annotated, Literal

from edgeq.core.vocabulary import Vocabulary
from edgeq.quantize.presets import portable_formats

Unit = Literal["cpu", "gpu", "npu"]
"""The CPU, the GPU, or a neural unit such as Apple's Neural Engine."""

ComputeUnits = Literal["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"]
"""What Core ML may use, in the words of coremltools; it always may use the CPU."""

INT8_ACTIVATIONS = "int8-activations"


def _words() -> list[str]:
    return [each.name for each in portable_formats()]


WeightFormat = Annotated[str, Vocabulary(_words)]
"""A number format of weights that can suit a unit."""

Suited = Annotated[str, Vocabulary(lambda: [*_words(), INT8_ACTIVATIONS])]
"""What can suit a unit: a number format of weights, or int8 activations with int8 weights."""

ALLOWED: dict[ComputeUnits, tuple[Unit, ...]] = {
    "all": ("cpu", "gpu", "npu"),
    "cpu_only": ("cpu",),
    "cpu_and_gpu": ("cpu", "gpu"),
    "cpu_and_ne": ("cpu", "npu"),
}
"""Which units each choice allows."""

UNIT_NAMES: dict[Unit, str] = {"cpu": "the CPU", "gpu": "the GPU", "npu": "the Neural Engine"}
"""What a reader of a plan knows Apple's units as."""
