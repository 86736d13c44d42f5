"""The words for what runs a model on a device, and for the number formats that suit it."""

from __future__ import annotations

from typing import Literal

from edgeq.quantize.presets import Grid, PaletteGrid

Unit = Literal["cpu", "gpu", "npu"]
"""The CPU, the GPU, or a neural unit such as Apple's Neural Engine."""

ComputeUnits = Literal["all", "cpu_only", "cpu_and_gpu", "cpu_and_ne"]
"""What Core ML may use, in the words of coremltools; it always may use the CPU."""

WeightGrid = Literal[Grid, PaletteGrid, "float16"]
"""A number format of weights that a unit can be said to like."""

Suited = Literal[WeightGrid, "int8-activations"]
"""What can suit a unit: weights on a grid, or int8 activations beside int8 weights."""

ALLOWED: dict[ComputeUnits, tuple[Unit, ...]] = {
    "all": ("cpu", "gpu", "npu"),
    "cpu_only": ("cpu",),
    "cpu_and_gpu": ("cpu", "gpu"),
    "cpu_and_ne": ("cpu", "npu"),
}
"""Which units each choice allows."""

UNIT_NAMES: dict[Unit, str] = {"cpu": "the CPU", "gpu": "the GPU", "npu": "the Neural Engine"}
"""What a reader of a plan knows Apple's units as."""
