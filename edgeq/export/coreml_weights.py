"""Which weights a Core ML package can hold on which grid, and their codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgeq.calibration.statistics import Feed
from edgeq.export.onnx import find_codes
from edgeq.export.onnx_weights import Decide, Weight
from edgeq.quantize.decide import Decision
from edgeq.quantize.grids import GRIDS, QuantizedTensor
from edgeq.quantize.model import Choice
from edgeq.quantize.palette import PALETTES


def obstacle(grid: str, shape: tuple[int, ...]) -> str:
    """Why Core ML cannot hold a weight of this shape on the grid; empty where it can.

    shape: outputs, tokens or filters first. Blocks run along its second axis, which the format
    wants to be whole blocks.
    """
    if grid in PALETTES:
        return ""
    block = GRIDS[grid].block
    if block is None:
        return ""
    if any(length != 1 for length in shape[2:]):
        return f"blocks of {block} cannot run over the taps of a filter; use int8 or a palette"
    if shape[1] % block:
        return f"{grid} needs columns in blocks of {block}, not {shape[1]}"
    return ""


def fitting(grid: str, shape: tuple[int, ...]) -> str:
    """The grid itself; for palettes whose groups do not divide the rows, the one of whole tensors.

    >>> fitting("palette4-g16", (30522, 384)), fitting("palette4-g16", (384, 384))
    ('palette4', 'palette4-g16')
    """
    rows = PALETTES[grid].rows if grid in PALETTES else None
    return grid.partition("-")[0] if rows is not None and shape[0] % rows else grid


def settle_coreml(weight: Weight, decide: Decide) -> Decision:
    """A decision that the weight's operators can carry out, or float with the reason.

    Activations stay float: integer ones pay on the newest Neural Engines alone, and nobody here
    can see what they do there.
    """
    decision = decide(weight.name, weight.shape_by_rows)
    choice = decision.choice
    if choice is None:
        return decision
    found = weight.obstacle or obstacle(choice.grid, weight.shape_by_rows)
    if weight.role == "recurrent":
        found = "edgeq does not write recurrent layers for Core ML"
    if found:
        return Decision(None, f"stays float: {found}")
    grid = fitting(choice.grid, weight.shape_by_rows)
    reason = decision.reason
    if grid != choice.grid:
        reason += f"; one table, {weight.shape_by_rows[0]} rows are not in groups"
    method = choice.method
    if weight.product is None:  # nothing is multiplied, or where calibration cannot look
        method = "kmeans" if choice.grid in PALETTES else "nearest"
    return Decision(Choice(grid, method, "float32", None), reason)


def find_codes_coreml(
    float_directory: Path,
    decide: Decide,
    feeds: Sequence[Feed],
    progress: Callable[[str], None],
) -> dict[str, QuantizedTensor]:
    """Codes of every weight of a float graph that `decide` wants on a grid Core ML can hold.

    As `edgeq.export.onnx.find_codes`, which gives the same codes where both formats have the grid.
    """
    return find_codes(float_directory, decide, feeds, progress, settle_coreml)
