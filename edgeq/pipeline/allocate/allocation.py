"""From a budget to a choice for every tensor: solve, build, measure, correct, and solve again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from edgeq.core import canonical
from edgeq.core.artifact import Frozen
from edgeq.formats.registry import file_format
from edgeq.pipeline.allocate.bounds import Site, require_possible
from edgeq.pipeline.allocate.file_ground import ground_of
from edgeq.pipeline.allocate.measure import Build, Ground
from edgeq.pipeline.allocate.options import allowed, intent_of, settled
from edgeq.pipeline.allocate.search import Search, Trial
from edgeq.pipeline.allocate.sensitivity import Sensitivity
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.recover.sizes import adapter_bytes
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format

FILE = "allocation.json"


class Allocation(Frozen):
    """The outcome of a budget. chosen: by the trial that is kept, the `best`-th."""

    format: Format
    name: str
    measure: str
    trials: tuple[Trial, ...]
    best: int
    samples: int = Field(description="Held-out samples that trials were measured on.")

    @property
    def kept(self) -> Trial:
        """The trial that became the artifact."""
        return self.trials[self.best]


def foresee(stages: Stages, format: Format, fit: FitSpec, build: Build) -> Intent | None:
    """The first or already made choice of a build; None if sensitivities are not known.

    Nothing is measured. Raises InvalidInput for a budget that cannot be kept.
    """
    ground = ground_of(stages, format, build)
    done = made_before(ground, fit)
    if done is not None:
        found = intent_of(ground.recipe, format, fit.variant_name, done.kept.chosen)
        return _finished(found, fit)
    _require_possible(ground, _left_for_weights(ground, fit))
    known = ground.known()
    if known is None:
        return None
    search = _search(ground, known, _left_for_weights(ground, fit))
    return _finished(search.intent(search.next()), fit)


def made_before(ground: Ground, fit: FitSpec) -> Allocation | None:
    """The outcome of a budget in an earlier build; None if there was none."""
    key = _key(ground, _left_for_weights(ground, fit))
    place = ground.stages.store.find("allocation", key)
    return Allocation.model_validate_json((place / FILE).read_bytes()) if place else None


def allocate(
    stages: Stages, format: Format, fit: FitSpec, build: Build
) -> tuple[Intent, Allocation]:
    """The best artifact for a budget, and how it was found.

    Each trial is in the store, so that an interrupted search resumes where it was. The same input
    gives the same choice, unless `fit.minutes` ends the search earlier on a slower machine. Raises
    InvalidInput for a budget that cannot be kept, naming the nearest that can.
    """
    ground, asked = ground_of(stages, format, build), fit
    fit = _left_for_weights(ground, asked)

    def make(destination: Path) -> None:
        _require_possible(ground, fit)  # before minutes are spent on sensitivities
        search = _search(ground, ground.sensitivity(), fit)
        best = search.run(build)
        found = Allocation(
            format=format,
            name=fit.variant_name,
            measure=search.sensitivity.measure,
            trials=tuple(search.trials),
            best=best,
            samples=search.samples,
        )
        text = canonical.to_json(found.model_dump(mode="json"))
        (destination / FILE).write_text(text, encoding="utf-8")

    describe = f"{format}-{fit.variant_name}"
    place = stages.store.stage("allocation", _key(ground, fit), make, describe=describe)
    done = Allocation.model_validate_json((place / FILE).read_bytes())
    found = intent_of(ground.recipe, format, fit.variant_name, done.kept.chosen)
    return _finished(found, asked), done


def _left_for_weights(ground: Ground, fit: FitSpec) -> FitSpec:
    """The budget minus the adapter's size, which is known in advance."""
    if fit.recover is None:
        return fit
    return fit.reduced_by(adapter_bytes(ground.model, ground.format, fit.recover.rank))


def _finished(found: Intent, fit: FitSpec) -> Intent:
    """Trials are rounded by GPTQ; what is trained, codes or an adapter, is so for the kept one."""
    if found.variant.weights == "float32":
        return found  # nothing was lost
    variant = found.variant.model_copy(update={"recover": fit.recover, "method": fit.method})
    return replace(found, variant=variant)


def _key(ground: Ground, fit: FitSpec) -> dict[str, object]:
    recipe, stages = ground.recipe, ground.stages
    devices = stages.planned.targets.get(ground.format, {})
    section = file_format(ground.format).section
    given = recipe.data.sensitivity
    path = stages.planned.path.parent
    return {
        **ground.key(),
        "fit": fit.model_dump(mode="json", exclude={"method"}),
        "rules": [rule.model_dump(mode="json") for rule in recipe.quantize.rules],
        "given": canonical.sha256_of_file(path / given.path) if given else None,
        "settings": getattr(recipe, section).model_dump(mode="json") if section else None,
        "workload": recipe.workload.model_dump(mode="json"),
        "devices": [d.model_dump(mode="json", exclude={"sources"}) for d in devices.values()],
    }


def _search(ground: Ground, sensitivity: Sensitivity, fit: FitSpec) -> Search:
    recipe, format, known = ground.recipe, ground.format, sensitivity.tensors
    free = allowed(ground.options, recipe, format, fit)
    # A weight that no piece of the graph reads has no known cost; it stays as wide as possible.
    fixed = {name: own[-1].use for name, own in free.items() if name not in known}
    ruled = {
        name: own
        for name, own in settled(ground.options, recipe, format, fit).items()
        if name in known
    }
    options = {name: own for name, own in free.items() if name in known}
    site = _site(ground, fit, fixed)
    return Search(site, ground, sensitivity, {**options, **ruled}, frozenset(ruled))


def _site(ground: Ground, fit: FitSpec, fixed: Mapping[str, str]) -> Site:
    devices = ground.stages.planned.targets.get(ground.format, {})
    return Site(ground.recipe, ground.model, ground.format, devices, fit, fixed)


def _require_possible(ground: Ground, fit: FitSpec) -> None:
    free = allowed(ground.options, ground.recipe, ground.format, fit)
    require_possible(_site(ground, fit, {}), free)
