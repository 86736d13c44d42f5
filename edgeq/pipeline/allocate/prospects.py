"""A budget in a plan, before sensitivities are known: possible sizes and estimates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeq.formats.file_format import TensorPlan
from edgeq.formats.registry import file_format
from edgeq.pipeline.plan.plan import Planned, plan_artifact
from edgeq.pipeline.plan.prospect import Prospect
from edgeq.pipeline.plan.records import ArtifactPlan
from edgeq.pipeline.plan.requirements import missing, packages
from edgeq.pipeline.recover.sizes import adapter_bytes
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.spec import CHOSEN
from edgeq.quantize.storage import Format

if TYPE_CHECKING:
    from edgeq.pipeline.allocate.bounds import Site
    from edgeq.pipeline.allocate.options import Options

Chosen = Mapping[str, str]


def foretold(planned: Planned) -> Planned:
    """The plan with everything known about each budget without measuring.

    A pending budget's artifact gets its possible sizes. Formats whose build side is not installed
    are left unchanged. Raises InvalidInput if no tensor of the model has a choice.
    """
    found = []
    prospects = dict(_prospects(planned))
    fits = {fit.variant_name: fit for fit in planned.recipe.quantize.fit}
    for artifact in planned.plan.artifacts:
        prospect = prospects.get(artifact.name)
        if prospect is not None:
            note = prospect.note(fits[artifact.variant.name], artifact.format)
            update: dict[str, object] = {"advice": (*artifact.advice, *([note] if note else []))}
            if artifact.pending:
                update["download_bytes"] = prospect.largest.download_bytes
                update["smallest_bytes"] = prospect.smallest.download_bytes
                update["kv"] = prospect.largest.kv
                update["cache_bytes"] = prospect.largest.cache_bytes
            artifact = artifact.model_copy(update=update)
        found.append(artifact)
    plan = planned.plan.model_copy(update={"artifacts": tuple(found)})
    return replace(planned, plan=plan, prospects=prospects)


def _prospects(planned: Planned) -> Iterator[tuple[str, Prospect]]:
    spec, task = planned.recipe.quantize, planned.recipe.model.task
    for format in planned.targets:
        if planned.refuses(format) or missing(packages(spec.pending(format, task), fits=True)):
            continue
        for fit in spec.fit:
            yield f"{format}-{fit.variant_name}", prospect(planned, format, fit)


def prospect(planned: Planned, format: Format, fit: FitSpec) -> Prospect:
    """The possible outcomes of one budget. Raises InvalidInput if no tensor has a choice."""
    from edgeq.pipeline.allocate.bounds import Site
    from edgeq.pipeline.allocate.options import allowed, find_options

    recipe, model = planned.recipe, planned.model
    options = allowed(find_options(model, recipe, format), recipe, format, fit)
    rank = fit.recover.rank if fit.recover else 0
    weights = fit.reduced_by(adapter_bytes(model, format, rank)) if rank else fit
    site = Site(recipe, model, format, planned.targets[format], weights, {})
    ladder = _ladder(options)
    within = _last(len(ladder) + 1, lambda count: _keeps(site, _chosen(options, ladder[:count])))
    steps = _filled(ladder, within, site, options)
    least, largest, most = (
        _whole(site, fit, _chosen(options, taken)) for taken in ((), steps, ladder)
    )
    shapes = {tensor.name: tensor.shape for tensor in least.tensors}
    offered = tuple(
        TensorPlan(
            name=name,
            shape=shapes[name],
            number_format=option.number_format,
            method=option.method,
            reason=CHOSEN,
            bytes=option.bytes,
        )
        for name, own in options.items()
        for option in own
    )
    return Prospect(least, largest, most.download_bytes, fit.limit is None, offered)


@dataclass(frozen=True)
class _Step:
    """A tensor that takes `bytes` more, and what it becomes."""

    name: str
    use: str
    bytes: int


def _ladder(options: Options) -> list[_Step]:
    """Go from the smallest choice to the largest, all tensors a step before one takes the next."""
    most = max((len(own) for own in options.values()), default=0)
    return [
        _Step(name, own[level].use, own[level].bytes - own[level - 1].bytes)
        for level in range(1, most)
        for name, own in options.items()
        if level < len(own)
    ]


def _filled(ladder: Sequence[_Step], within: int, site: Site, options: Options) -> list[_Step]:
    """The first `within` steps, and of the tensors that come next those for which size has room."""
    steps = list(ladder[:within])
    if site.fit.size is None:
        return steps
    room = site.fit.size - site.plan(_chosen(options, steps)).download_bytes
    more, waits = list(steps), set()
    for step in ladder[within:]:
        if step.name not in waits and step.bytes <= room:
            more.append(step)
            room -= step.bytes
        else:
            waits.add(step.name)
    return more if _keeps(site, _chosen(options, more)) else steps


def _chosen(options: Options, steps: Sequence[_Step]) -> Chosen:
    taken = {step.name: step.use for step in steps}
    return {name: taken.get(name, own[0].use) for name, own in options.items()}


def _keeps(site: Site, chosen: Chosen) -> bool:
    size = site.fit.size
    if size is not None and site.plan(chosen).download_bytes > size:
        return False
    return not site.exceeded(chosen)


def _whole(site: Site, fit: FitSpec, chosen: Chosen) -> ArtifactPlan:
    """Add the adapter that is trained with it, if there is one."""
    from edgeq.pipeline.allocate.options import intent_of

    intent = intent_of(site.recipe, site.format, fit.variant_name, chosen)
    intent = replace(intent, variant=intent.variant.model_copy(update={"recover": fit.recover}))
    apple = site.devices if file_format(site.format).has_releases else {}
    return plan_artifact(site.recipe, site.model, intent, site.devices, apple)


def _last(count: int, holds: Callable[[int], bool]) -> int:
    """The largest of `count` numbers from 0 for which `holds` does; 0 where none does."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
