"""From a budget to a choice for every tensor: solve, build, measure, correct, and solve again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import Field

from edgeq import canonical
from edgeq.allocate.bounds import Site, most_bytes, require_possible, uses
from edgeq.allocate.measure import Build, Ground
from edgeq.allocate.options import allowed, intent_of
from edgeq.allocate.sensitivity import Sensitivity
from edgeq.allocate.solve import Choices, best_within, smallest_within, total
from edgeq.artifact import Frozen, read_artifact
from edgeq.errors import InvalidInput, Problem
from edgeq.quantize.fit_spec import FitSpec
from edgeq.quantize.presets import Format
from edgeq.quantize.spec import Intent
from edgeq.recover.sizes import adapter_bytes
from edgeq.stages import Stages
from edgeq.units import format_bytes

FILE = "allocation.json"
_NEAR = 0.02  # of a bound: what lies so close below it is not worth another trial


class Trial(Frozen):
    """A whole model that was built for a budget: what was expected of it, and what was seen."""

    chosen: dict[str, str] = Field(description="The number format of every tensor with a choice.")
    predicted: float = Field(description="Loss: KL in nats, or 1 − cosine.")
    measured: float = Field(description="Loss on held-back calibration data, by the runtime.")
    error: float
    planned_bytes: int
    bytes: int = Field(description="Of all files.")


class Allocation(Frozen):
    """What became of a budget. chosen: of the trial that is kept, the `best`-th."""

    format: Format
    name: str
    measure: str
    trials: tuple[Trial, ...]
    best: int
    samples: int = Field(description="Held-back samples that trials were measured on.")

    @property
    def kept(self) -> Trial:
        """The trial that became the artifact."""
        return self.trials[self.best]


@dataclass
class _Search:
    """The trials so far, and what they teach."""

    site: Site
    ground: Ground
    sensitivity: Sensitivity
    choices: Choices
    trials: list[Trial] = field(default_factory=list)
    correction: float = 1.0
    beside: int | None = None
    samples: int = 0

    def next(self) -> dict[str, str]:
        """The best choice by what is known now. Raises InvalidInput where there is none."""
        cap = most_bytes(self.site, self.choices, self.beside)
        limit = self.site.fit.limit
        if limit is None:
            return uses(best_within(self.choices, cap))
        least = total(best_within(self.choices, cap))
        if self.expected(least[0]) > limit:
            what = (
                f"cannot be kept: {limit:.3g} of loss is asked for, and the least that fits the "
                f"rest, with {format_bytes(least[1])} of weights, is predicted to lose "
                f"{self.expected(least[0]):.3g}"
            )
            name = f"quantize.fit: {self.site.format}-{self.site.fit.variant_name}"
            raise InvalidInput(Problem(name, what, "ask for less quality, or give it more"))
        within = self.sensitivity.additive_for(limit / self.correction)
        return uses(smallest_within(self.choices, max(within, least[0]), cap))

    def expected(self, additive: float) -> float:
        """What a whole model will lose."""
        return self.correction * self.sensitivity.predicted(additive)

    def intent(self, chosen: Mapping[str, str]) -> Intent:
        """The artifact of a choice."""
        site = self.site
        every = {**site.fixed, **chosen}
        return intent_of(site.recipe, site.format, site.fit.variant_name, every)

    def attempt(self, chosen: Mapping[str, str], build: Build) -> Trial:
        """Build a choice, measure it, and learn from it."""
        intent = self.intent(chosen)
        additive = self.sensitivity.additive({**self.site.fixed, **chosen})
        size = read_artifact(build(intent)).bytes
        seen = self.ground.loss(intent)
        trial = Trial(
            chosen={**self.site.fixed, **chosen},
            predicted=self.expected(additive),
            measured=seen.loss,
            error=seen.error,
            planned_bytes=self.site.plan(chosen).download_bytes,
            bytes=size,
        )
        self.trials.append(trial)
        self.samples = seen.samples
        if seen.loss > 0 and self.sensitivity.predicted(additive) > 0:
            self.correction = seen.loss / self.sensitivity.predicted(additive)
        held = sum(
            next(o.bytes for o in self.choices[name] if o.use == use)
            for name, use in chosen.items()
        )
        self.beside = size - held
        return trial


def keeps(fit: FitSpec, trial: Trial) -> bool:
    """Whether a trial keeps what was asked for of size and quality."""
    within = fit.size is None or trial.bytes <= fit.size
    return within and (fit.limit is None or trial.measured <= fit.limit)


def foresee(stages: Stages, format: Format, fit: FitSpec, build: Build) -> Intent | None:
    """What a build will choose first, or has chosen; None where sensitivities are not known.

    Nothing is measured. Raises InvalidInput for a budget that cannot be kept.
    """
    ground = Ground(stages, format, build)
    done = made_before(ground, fit)
    if done is not None:
        found = intent_of(ground.recipe, format, done.name, done.kept.chosen)
        return _with_adapter(found, fit)
    _require_possible(ground, _left_for_weights(ground, fit))
    known = ground.known()
    if known is None:
        return None
    search = _search(ground, known, _left_for_weights(ground, fit))
    return _with_adapter(search.intent(search.next()), fit)


def made_before(ground: Ground, fit: FitSpec) -> Allocation | None:
    """What became of a budget in an earlier build; None where there was none."""
    key = _key(ground, _left_for_weights(ground, fit))
    place = ground.stages.store.find("allocation", key)
    return Allocation.model_validate_json((place / FILE).read_bytes()) if place else None


def allocate(
    stages: Stages, format: Format, fit: FitSpec, build: Build
) -> tuple[Intent, Allocation]:
    """The best artifact for a budget, and how it was found.

    Each trial is in the store, so that a search that was stopped goes on where it was. The same
    input gives the same choice, but where `fit.minutes` ends a search earlier on a slower machine.
    Raises InvalidInput for a budget that cannot be kept, with the nearest that can.
    """
    ground, asked = Ground(stages, format, build), fit
    fit = _left_for_weights(ground, asked)

    def make(destination: Path) -> None:
        _require_possible(ground, fit)  # before minutes are spent on sensitivities
        found = _find(_search(ground, ground.sensitivity(), fit), build)
        text = canonical.to_json(found.model_dump(mode="json"))
        (destination / FILE).write_text(text, encoding="utf-8")

    describe = f"{format}-{fit.variant_name}"
    place = stages.store.stage("allocation", _key(ground, fit), make, describe=describe)
    done = Allocation.model_validate_json((place / FILE).read_bytes())
    found = intent_of(ground.recipe, format, done.name, done.kept.chosen)
    return _with_adapter(found, asked), done


def _left_for_weights(ground: Ground, fit: FitSpec) -> FitSpec:
    """The budget without what an adapter takes of it, which is known beforehand."""
    if fit.recover is None:
        return fit
    return fit.beside(adapter_bytes(ground.model, ground.format, fit.recover.rank))


def _with_adapter(found: Intent, fit: FitSpec) -> Intent:
    """Trials are of weights alone; the adapter is trained for those that are kept."""
    if found.variant.weights == "float32":
        return found  # nothing was lost
    variant = found.variant.model_copy(update={"recover": fit.recover})
    return replace(found, variant=variant)


def _key(ground: Ground, fit: FitSpec) -> dict[str, object]:
    recipe, stages = ground.recipe, ground.stages
    devices = stages.planned.targets.get(ground.format, {})
    given = recipe.data.sensitivity
    path = stages.planned.path.parent
    return {
        **ground.key(),
        "fit": fit.model_dump(mode="json"),
        "rules": [rule.model_dump(mode="json") for rule in recipe.quantize.rules],
        "given": canonical.sha256_of_file(path / given.path) if given else None,
        "coreml": recipe.coreml.model_dump(mode="json") if ground.format == "coreml" else None,
        "workload": recipe.workload.model_dump(mode="json"),
        "devices": [d.model_dump(mode="json", exclude={"sources"}) for d in devices.values()],
    }


def _search(ground: Ground, sensitivity: Sensitivity, fit: FitSpec) -> _Search:
    recipe, format = ground.recipe, ground.format
    free = allowed(ground.options, recipe, format, fit)
    free = {name: own for name, own in free.items() if name in sensitivity.tensors}
    # What no piece of the graph reads has no known cost: it stays as wide as may be.
    fixed = {
        name: own[-1].use
        for name, own in allowed(ground.options, recipe, format, fit).items()
        if name not in free
    }
    return _Search(_site(ground, fit, fixed), ground, sensitivity, sensitivity.choices(free))


def _site(ground: Ground, fit: FitSpec, fixed: Mapping[str, str]) -> Site:
    devices = ground.stages.planned.targets.get(ground.format, {})
    return Site(ground.recipe, ground.model, ground.format, devices, fit, fixed)


def _require_possible(ground: Ground, fit: FitSpec) -> None:
    free = allowed(ground.options, ground.recipe, ground.format, fit)
    require_possible(_site(ground, fit, {}), free)


def _find(search: _Search, build: Build) -> Allocation:
    fit, begun = search.site.fit, time.monotonic()
    while len(search.trials) < fit.trials:
        chosen = search.next()
        if any(trial.chosen == {**search.site.fixed, **chosen} for trial in search.trials):
            break
        progress = search.ground.stages.progress
        progress(f"trial {len(search.trials) + 1} of at most {fit.trials}")
        trial = search.attempt(chosen, build)
        close = fit.limit and (1 - _NEAR) * fit.limit <= trial.measured <= fit.limit
        if (close and keeps(fit, trial)) or time.monotonic() - begun > 60 * fit.minutes:
            break
    kept = [index for index, trial in enumerate(search.trials) if keeps(fit, trial)]
    if not kept:
        raise _missed(search)
    by_size = fit.limit is not None
    best = min(
        kept,
        key=lambda i: search.trials[i].bytes if by_size else search.trials[i].measured,
    )
    return Allocation(
        format=search.site.format,
        name=fit.variant_name,
        measure=search.sensitivity.measure,
        trials=tuple(search.trials),
        best=best,
        samples=search.samples,
    )


def _missed(search: _Search) -> InvalidInput:
    """No trial kept the budget: the nearest of them is told."""
    fit = search.site.fit
    nearest = min(
        search.trials,
        key=lambda trial: (
            trial.measured if fit.limit is not None else 0.0,
            trial.bytes,
        ),
    )
    what = (
        f"was not kept in {len(search.trials)} trials: the nearest has "
        f"{format_bytes(nearest.bytes)} and loses {nearest.measured:.3g}"
    )
    name = f"quantize.fit: {search.site.format}-{fit.variant_name}"
    return InvalidInput(Problem(name, what, "ask for a little less, or allow more trials"))
