"""How each built-in budget is read from an artifact's measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.core.budgets import Budget
from edgeq.core.errors import InvalidInput, Problem
from edgeq.measure.metrics import METRICS
from edgeq.pipeline.check.observations import Observations
from edgeq.pipeline.check.subject import Observation

_READINGS: Mapping[str, Callable[[Observations], Observation]] = {
    "memory.peak": Observations.peak,
    "memory.growth": Observations.growth,
    "latency.p50": lambda observations: observations.latency("p50"),
    "latency.p90": lambda observations: observations.latency("p90"),
    "latency.first_token": Observations.first_token,
    "speed.prompt": lambda observations: observations.speed("prompt"),
    "speed.generation": lambda observations: observations.speed("generation"),
    "speed.sustained": Observations.sustained,
    "size.download": Observations.size,
    "quality.cosine": Observations.cosine,
    "quality.spearman": Observations.spearman,
    "quality.error": Observations.error,
    "quality.top1": Observations.top1,
    "quality.kl": Observations.kl,
    "quality.kl_p99": Observations.kl_p99,
    "quality.perplexity": Observations.perplexity,
    "placement.npu": lambda observations: observations.placement("npu"),
    "placement.gpu": lambda observations: observations.placement("gpu"),
}


def read(budget: Budget, observations: Observations) -> Observation:
    """Read a budget. Raises InvalidInput for a budget that does not say how it is read."""
    reading = budget.read or _READINGS.get(budget.name)
    if reading is None and budget.section == "quality" and budget.key in METRICS:
        return observations.score(budget.key)
    seen = None if reading is None else reading(observations)
    if not isinstance(seen, Observation):
        what = "it must be read from the measurements, as a Observation"
        where = f"the budget {budget.name!r}"
        raise InvalidInput(
            Problem(where, what, "give its Budget a function `read(observations) -> Observation`")
        )
    return seen
