"""The oldest operating systems that support the contents of a Core ML package."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.quantize.number_formats import number_format
from edgeq.quantize.number_formats.palettes import Palette


@dataclass(frozen=True, order=True)
class Target:
    """A release of the operating systems, as `specification` numbers them in a model file."""

    specification: int
    ios: int
    macos: int

    @property
    def name(self) -> str:
        """The name that Apple's own tools write, such as `iOS18`."""
        return f"iOS{self.ios}"

    def __str__(self) -> str:
        return f"iOS {self.ios} / macOS {self.macos}"


IOS16 = Target(7, 16, 13)
IOS17 = Target(8, 17, 14)
IOS18 = Target(9, 18, 15)
TARGETS = {target.name: target for target in (IOS16, IOS17, IOS18)}

CODED_INPUTS = IOS17
"""First release with quantized activations (operators quantize and dequantize)."""
STATES = IOS18
"""First release with stateful programs."""
SEVERAL_SHAPES = IOS18
"""First release in which more than one input can have several listed shapes."""


def needs_os(grid: str) -> Target:
    """The oldest release that can read weights on a grid, by the grid's name.

    One table of values, or one scale per row, for a tensor: since iOS 16 (operators
    constexpr_lut_to_dense and constexpr_affine_dequantize); scales for blocks and tables for groups
    of rows: since iOS 18 (constexpr_blockwise_shift_scale and the newer constexpr_lut_to_dense).
    """
    stored = number_format(grid)
    groups = stored.rows if isinstance(stored, Palette) else stored.group_size
    return IOS16 if groups is None else IOS18
