"""The oldest operating systems that support the contents of a Core ML package."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.formats.apple.releases import Release
from edgeq.quantize.number_formats import number_format
from edgeq.quantize.number_formats.palettes import Palette


@dataclass(frozen=True, order=True)
class Target(Release):
    """A release, as `specification` numbers it in a model file."""

    specification: int

    @property
    def name(self) -> str:
        """The name that Apple's own tools write, such as `iOS18`."""
        return f"iOS{self.ios}"


IOS16 = Target(16, 13, 7)
IOS17 = Target(17, 14, 8)
IOS18 = Target(18, 15, 9)
TARGETS = {target.name: target for target in (IOS16, IOS17, IOS18)}

CODED_INPUTS = IOS17
"""First release with quantized activations (operators quantize and dequantize)."""
STATES = IOS18
"""First release with stateful programs."""
SEVERAL_SHAPES = IOS18
"""First release in which more than one input can have several listed shapes."""


def needs_os(stored_as: str) -> Target:
    """The oldest release that can read weights in a number format, by the number format's name.

    One table of values, or one scale per row, for a tensor: since iOS 16 (operators
    constexpr_lut_to_dense and constexpr_affine_dequantize); scales for blocks and tables for groups
    of rows: since iOS 18 (constexpr_blockwise_shift_scale and the newer constexpr_lut_to_dense).
    """
    stored = number_format(stored_as)
    groups = stored.rows if isinstance(stored, Palette) else stored.group_size
    return IOS16 if groups is None else IOS18
