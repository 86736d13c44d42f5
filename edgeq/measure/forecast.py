"""Predict how long a latency pass will take, from the speed of full precision."""

from __future__ import annotations

from collections.abc import Mapping

from edgeq.measure.generation import LEAST_TEXTS
from edgeq.measure.records import Generation, Latency
from edgeq.measure.sequential import needed

_QUANTILES = {"p50": 0.5, "p90": 0.9, "first_token": 0.9, "prompt": 0.5, "generation": 0.5}


def foretell(limits: Mapping[str, float], pace: Latency | Generation | None) -> str:
    """Describe the minimum number of runs for time budgets, and their duration.

    Empty without budgets or without a speed.
    """
    asked = {_QUANTILES[key] for key in limits if key in _QUANTILES}
    if pace is None or not asked:
        return ""
    runs = max(map(needed, asked))
    if isinstance(pace, Latency):
        return f"at least {runs} runs for its budgets of time, {_about(runs * pace.p50.seconds)}"
    first, token = pace.first_token_p50.seconds, pace.token_p50.seconds
    texts = LEAST_TEXTS * pace.generated_tokens * token
    seconds = texts + max(runs, LEAST_TEXTS) * first
    return f"at least {runs} prompts for its budgets of time, {_about(seconds)}"


def _about(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"
