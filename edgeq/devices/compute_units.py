"""Names of a device's compute units, and of the number formats that suit them."""

from __future__ import annotations

from typing import Annotated, Literal

from edgeq.core.vocabulary import Vocabulary
from edgeq.quantize.presets import portable_formats

Unit = Literal["cpu", "gpu", "npu"]
"""The CPU, the GPU, or a neural unit such as Apple's Neural Engine."""

ComputeUnits = Literal["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"]
"""Units that Core ML may use, by coremltools' names; the CPU is always included."""

INT8_ACTIVATIONS = "int8-activations"


def _words() -> list[str]:
    return [each.name for each in portable_formats()]


WeightFormat = Annotated[str, Vocabulary(_words)]
"""A number format of weights that a unit may suit."""

Suited = Annotated[str, Vocabulary(lambda: [*_words(), INT8_ACTIVATIONS])]
"""A property that can suit a unit: a number format of weights, or int8 activations with int8
weights."""

ALLOWED: dict[ComputeUnits, tuple[Unit, ...]] = {
    "all": ("cpu", "gpu", "npu"),
    "cpu_only": ("cpu",),
    "cpu_and_gpu": ("cpu", "gpu"),
    "cpu_and_ne": ("cpu", "npu"),
}
"""The units that each choice allows."""

UNIT_NAMES: dict[Unit, str] = {"cpu": "the CPU", "gpu": "the GPU", "npu": "the Neural Engine"}
"""Names of Apple's units in a plan."""
