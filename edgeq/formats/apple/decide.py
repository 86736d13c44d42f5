"""The number format of each weight in a file for Apple's runtimes, and its size there."""

from __future__ import annotations

import math
from collections.abc import Callable

from edgeq.quantize.decide import Decision
from edgeq.quantize.methods import plain_method, rounding_method
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import number_format
from edgeq.quantize.number_formats.integers import INT8
from edgeq.quantize.number_formats.palettes import Palette

Decide = Callable[[str, tuple[int, ...]], Decision]


def settled(
    decision: Decision,
    shape: tuple[int, ...],
    *,
    is_table: bool,
    is_multiplied: bool,
    is_seen: bool,
) -> Decision:
    """A decision that a file can store, or float with the reason.

    is_table: whether its rows are looked up, and not also multiplied: GPTQ then measures the effect
    of errors. is_multiplied: whether calibration has access to the weight's input in a product.
    is_seen: that, or the input of a convolution; only these can have a static range.
    """
    choice = decision.choice
    if choice is None:
        return decision
    found = obstacle(choice.number_format, shape)
    if found:
        return Decision(None, f"stays float: {found}")
    stored_as, reason = fitting(choice.number_format, shape), decision.reason
    if stored_as != choice.number_format:
        reason += f"; one table, {shape[0]} rows are not in groups"
    method = choice.method
    if not is_multiplied and not (is_table and rounding_method(method).rounds_tables):
        method = plain_method(number_format(stored_as)).name
    if choice.activations == "static-uint8" and stored_as == INT8.name and is_seen:
        return Decision(Choice(stored_as, method, "static-uint8", choice.ranges), reason)
    return Decision(Choice(stored_as, method, "float32", None), reason)


def obstacle(stored_as: str, shape: tuple[int, ...]) -> str:
    """Why Apple's runtimes cannot store a weight of this shape so; empty if they can.

    shape: outputs, tokens or filters first. Blocks run along its second axis, which must consist of
    whole blocks.
    """
    block = number_format(stored_as).group_size
    if block is None:
        return ""
    if any(length != 1 for length in shape[2:]):
        return f"blocks of {block} cannot span the taps of a filter; use int8 or a palette"
    if shape[1] % block:
        return f"{stored_as} needs columns in blocks of {block}, not {shape[1]}"
    return ""


def fitting(stored_as: str, shape: tuple[int, ...]) -> str:
    """The format itself; for palettes whose groups do not divide the rows, that of whole tensors.

    >>> fitting("palette4-g16", (30522, 384)), fitting("palette4-g16", (384, 384))
    ('palette4', 'palette4-g16')
    """
    palette = number_format(stored_as)
    rows = palette.rows if isinstance(palette, Palette) else None
    return stored_as.partition("-")[0] if rows is not None and shape[0] % rows else stored_as


def stored_bytes_apple(
    decision: Decision, shape: tuple[int, ...], compute: str, scales: str
) -> int:
    """Bytes of a weight: codes and scales, or values in `compute`. scales: the type of scales."""
    if decision.choice is None:
        return math.prod(shape) * width(compute)
    rows, columns = shape[0], math.prod(shape[1:])
    stored = number_format(decision.choice.number_format)
    wider = (width(scales) - 2) * stored.scale_count(rows, columns)
    return stored.nbytes(rows, columns) + wider


def width(compute: str) -> int:
    """Bytes of a number."""
    return 2 if compute == "float16" else 4
