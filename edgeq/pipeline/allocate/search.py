"""Trials for a budget: choose by what is known, build, measure, learn, and choose again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import Field

from edgeq.core.artifact import Frozen, read_artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.units import format_bytes
from edgeq.pipeline.allocate.bounds import Site, most_bytes, uses
from edgeq.pipeline.allocate.measure import Build, Ground
from edgeq.pipeline.allocate.options import Options, intent_of
from edgeq.pipeline.allocate.sensitivity import Sensitivity
from edgeq.pipeline.allocate.solve import Choices, Priced, best_within, smallest_within, total
from edgeq.pipeline.plan.kv_cache import cached
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.spec import Intent

_NEAR = 0.02  # fraction of a bound; a choice this close below it is not worth another trial
# A choice depends on prices, and these on the amount chosen; equal within one percent.
_PRICINGS, _SAME = 4, 0.01


class Trial(Frozen):
    """A whole model built for a budget: its predicted and measured loss."""

    chosen: dict[str, str] = Field(description="The number format of every tensor with a choice.")
    predicted: float = Field(description="Loss: KL in nats, or 1 − cosine.")
    measured: float = Field(description="Loss on held-out calibration data, in the runtime.")
    error: float
    planned_bytes: int
    bytes: int = Field(description="Bytes of all files.")


@dataclass
class Search:
    """The trials so far, and their corrections.

    options: for every tensor whose cost is known; those decided by a rule of the recipe have one.
    """

    site: Site
    ground: Ground
    sensitivity: Sensitivity
    options: Options
    ruled: frozenset[str]
    trials: list[Trial] = field(default_factory=list)
    correction: float = 1.0
    rest: int | None = None
    samples: int = 0

    def next(self) -> dict[str, str]:
        """The best choice by current knowledge. Raises InvalidInput if there is none."""
        cap = most_bytes(self.site, self.sensitivity.choices(self.options), self.rest)
        limit = self.site.fit.limit
        least = self._solve(lambda choices: best_within(choices, cap))
        if limit is None:
            return uses(least)
        lost = self.expected(uses(least))
        if lost > limit:
            what = (
                f"cannot be kept: {limit:.3g} of loss is asked for, and the least that fits the "
                f"other bounds, with {format_bytes(total(least)[1])} of weights, is predicted to "
                f"lose "
                f"{lost:.3g}"
            )
            raise InvalidInput(
                Problem(self.site.name, what, "allow more loss, or raise the other budgets")
            )
        return uses(self._solve(lambda choices: self._smallest(choices, limit, cap)))

    def expected(self, chosen: Mapping[str, str]) -> float:
        """The predicted loss of a whole model."""
        return self.correction * self.sensitivity.predicted(chosen)

    def intent(self, chosen: Mapping[str, str]) -> Intent:
        """The artifact of a choice."""
        site = self.site
        found = intent_of(site.recipe, site.format, site.fit.variant_name, self._unruled(chosen))
        return cached(found, site.plan(chosen))

    def attempt(self, chosen: Mapping[str, str], build: Build) -> Trial:
        """Build a choice, measure it, and learn from it."""
        intent = self.intent(chosen)
        size = read_artifact(build(intent)).bytes
        seen = self.ground.loss(intent)
        trial = Trial(
            chosen=self._unruled(chosen),
            predicted=self.expected(chosen),
            measured=seen.loss,
            error=seen.error,
            planned_bytes=self.site.plan(chosen).download_bytes,
            bytes=size,
        )
        self.trials.append(trial)
        self.samples = seen.samples
        if seen.loss > 0 and trial.predicted > 0:
            self.correction *= seen.loss / trial.predicted
        self.rest = size - sum(
            next(option.bytes for option in self.options[name] if option.use == use)
            for name, use in chosen.items()
        )
        return trial

    def run(self, build: Build) -> int:
        """Run trials while they are informative and within the caps; returns the index of the best.

        Raises InvalidInput if none kept the budget.
        """
        fit, begun = self.site.fit, time.monotonic()
        while len(self.trials) < fit.trials:
            chosen = self.next()
            if any(trial.chosen == self._unruled(chosen) for trial in self.trials):
                break
            self.ground.stages.progress(f"trial {len(self.trials) + 1} of at most {fit.trials}")
            trial = self.attempt(chosen, build)
            close = fit.limit and (1 - _NEAR) * fit.limit <= trial.measured <= fit.limit
            if (close and keeps(fit, trial)) or time.monotonic() - begun > 60 * fit.minutes:
                break
        kept = [index for index, trial in enumerate(self.trials) if keeps(fit, trial)]
        if not kept:
            raise self._missed()
        by_size = fit.limit is not None
        return min(
            kept,
            key=lambda i: self.trials[i].bytes if by_size else self.trials[i].measured,
        )

    def _solve(self, pick: Callable[[Choices], dict[str, Priced]]) -> dict[str, Priced]:
        """The choice by `pick` at prices that are consistent with it."""
        factor = 1.0
        for _ in range(_PRICINGS):
            picked = pick(self.sensitivity.choices(self.options, factor))
            now = self.sensitivity.factor(self.sensitivity.additive(uses(picked)))
            if abs(now - factor) <= _SAME * factor:
                break
            factor = now
        return picked

    def _smallest(self, choices: Choices, limit: float, cap: int) -> dict[str, Priced]:
        least = total(best_within(choices, cap))[0]
        return smallest_within(choices, max(limit / self.correction, least), cap)

    def _unruled(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """Choices not made by rules, which apply to an artifact anyway."""
        free = {name: use for name, use in chosen.items() if name not in self.ruled}
        return {**self.site.fixed, **free}

    def _missed(self) -> InvalidInput:
        """The error if no trial kept the budget, with the nearest trial."""
        fit = self.site.fit
        nearest = min(
            self.trials,
            key=lambda trial: (trial.measured if fit.limit is not None else 0.0, trial.bytes),
        )
        what = (
            f"was not kept in {len(self.trials)} trials: the nearest has "
            f"{format_bytes(nearest.bytes)} and loses {nearest.measured:.3g}"
        )
        return InvalidInput(
            Problem(self.site.name, what, "relax the budget slightly, or allow more trials")
        )


def keeps(fit: FitSpec, trial: Trial) -> bool:
    """Whether a trial keeps the size and quality asked for."""
    within = fit.size is None or trial.bytes <= fit.size
    return within and (fit.limit is None or trial.measured <= fit.limit)
