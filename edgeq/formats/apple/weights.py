"""The weights of a float graph that Apple's runtimes can read in codes, and their codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeq.core.terms import Progress
from edgeq.formats.apple.decide import settled
from edgeq.formats.apple.recurrent import GATES
from edgeq.models.graphs.rounding import Found, find_codes, find_quantized
from edgeq.models.graphs.weights import Decide, Weight, settle
from edgeq.quantize.decide import Decision
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.statistics import Feed, Observed


def settle_apple(weight: Weight, decide: Decide) -> Decision:
    """A decision that the weight's operators can carry out, or float with the reason."""
    if weight.stored:
        return settle(weight, decide)
    decision = decide(weight.name, weight.shape_by_rows)
    if decision.choice is not None and weight.obstacle:
        return Decision(None, f"stays float: {weight.obstacle}")
    is_convolved = weight.role == "convolution" and all(use.in_main_graph for use in weight.uses)
    is_multiplied = weight.product is not None
    rows, *columns = weight.shape_by_rows
    if weight.role == "recurrent":  # written gate by gate
        rows = min(weight.shape[1] // GATES[use.node.op_type] for use in weight.uses)
    return settled(
        decision,
        (rows, *columns),
        is_table=weight.role == "embedding",
        is_multiplied=is_multiplied,
        is_seen=is_multiplied or is_convolved,
    )


def find_codes_apple(
    float_directory: Path,
    decide: Decide,
    feeds: Sequence[Feed],
    progress: Progress,
) -> dict[str, QuantizedTensor]:
    """Codes of every weight that `decide` assigns a number format that Apple's runtimes support.

    The same codes as from `edgeq.formats.onnx.write.find_codes` if both have the number format.
    """
    return find_codes(float_directory, decide, feeds, progress, settle_apple)


def find_coded_apple(
    float_directory: Path,
    decide: Decide,
    feeds: Sequence[Feed],
    progress: Progress,
    observed: Observed | None = None,
) -> Found:
    """Codes of weights as from `find_codes_apple`, and codes of their inputs."""
    return find_quantized(float_directory, decide, feeds, progress, settle_apple, observed)
