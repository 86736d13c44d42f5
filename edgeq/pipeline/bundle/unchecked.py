"""The choice of an artifact for a bundle without a check, by one stated rule."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.units import format_bytes
from edgeq.pipeline.plan.records import ArtifactPlan

RULE = "the most bits per weight"


def choose_unchecked(artifacts: Sequence[ArtifactPlan], budget: int | None) -> tuple[str, str]:
    """The name of the artifact nearest to full precision by its plan, and the rule in words.

    The most bits per weight among those with a planned size within `budget`; on a tie, one that
    leaves activations in floating point, then the first in the recipe. Raises InvalidInput if the
    plan cannot tell.
    """
    names = ", ".join(each.name for each in artifacts)
    remedy = f"choose one with --artifact: {names}"
    pending = [each.name for each in artifacts if each.pending]
    if pending and len(artifacts) > 1:
        what = f"the size of {pending[0]} is not known before it is built"
        raise InvalidInput(Problem("--allow-unchecked", what, remedy))
    fitting = [each for each in artifacts if budget is None or each.download_bytes <= budget]
    if not fitting:
        what = f"nothing is planned within the size budget of {format_bytes(budget or 0)}"
        raise InvalidInput(Problem("--allow-unchecked", what, remedy))
    best = max(fitting, key=_nearness)
    if len(artifacts) == 1:
        return best.name, "the only one"
    within = "" if budget is None else f" of those within {format_bytes(budget)}"
    return best.name, f"{RULE}{within}: {_nearness(best)[0]:.2f}"


def _nearness(artifact: ArtifactPlan) -> tuple[float, bool]:
    weights = sum(math.prod(tensor.shape) for tensor in artifact.tensors)
    has_float_activations = all(each.activations == "float32" for each in artifact.tensors)
    return artifact.weight_bytes * 8 / max(1, weights), has_float_activations
