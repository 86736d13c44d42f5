"""How each of edgeq's budgets is read from the measurements of an artifact."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.core.budgets import Budget
from edgeq.core.errors import InvalidInput, Problem
from edgeq.pipeline.check.observations import Sight
from edgeq.pipeline.check.subject import Seen

_READINGS: Mapping[str, Callable[[Sight], Seen]] = {
    "memory.peak": Sight.peak,
    "memory.growth": Sight.growth,
    "latency.p50": lambda sight: sight.latency("p50"),
    "latency.p90": lambda sight: sight.latency("p90"),
    "latency.first_token": Sight.first_token,
    "speed.prompt": lambda sight: sight.speed("prompt"),
    "speed.generation": lambda sight: sight.speed("generation"),
    "size.download": Sight.size,
    "quality.cosine": Sight.cosine,
    "quality.spearman": Sight.spearman,
    "quality.error": Sight.error,
    "quality.top1": Sight.top1,
    "quality.kl": Sight.kl,
    "quality.kl_p99": Sight.kl_p99,
    "quality.perplexity": Sight.perplexity,
    "placement.npu": lambda sight: sight.placement("npu"),
    "placement.gpu": lambda sight: sight.placement("gpu"),
}


def read(budget: Budget, sight: Sight) -> Seen:
    """What was seen of a budget. Raises InvalidInput for one that says no way to read it."""
    reading = budget.read or _READINGS.get(budget.name)
    seen = None if reading is None else reading(sight)
    if not isinstance(seen, Seen):
        what = "it must be read from the measurements, as a Seen"
        where = f"the budget {budget.name!r}"
        raise InvalidInput(Problem(where, what, "give its Budget a function `read(sight) -> Seen`"))
    return seen
