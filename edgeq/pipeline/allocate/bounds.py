"""The bytes that tensors may use, so that size, memory and speed stay within the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.store import Store
from edgeq.core.units import format_bytes, format_seconds, format_speed
from edgeq.devices.catalogue import HERE, Device
from edgeq.estimate.bandwidth import bandwidth_here
from edgeq.estimate.contents import Contents
from edgeq.estimate.devices import Estimates, estimate_for
from edgeq.formats.registry import file_format
from edgeq.models.model import DescribedModel
from edgeq.pipeline.allocate.options import find_options, intent_of
from edgeq.pipeline.allocate.solve import Choices, Priced, best_within
from edgeq.pipeline.plan.contents import contents_of_plan
from edgeq.pipeline.plan.plan import Planned, plan_artifact
from edgeq.pipeline.plan.records import ArtifactPlan
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.storage import Format
from edgeq.recipe.schema import Recipe


@dataclass(frozen=True)
class Site:
    """The constraints of an allocation. fixed: tensors without a choice, and their formats."""

    recipe: Recipe
    model: DescribedModel
    format: Format
    devices: Mapping[str, Device]
    fit: FitSpec
    fixed: Mapping[str, str]

    def plan(self, chosen: Mapping[str, str]) -> ArtifactPlan:
        """The artifact that a choice would become."""
        intent = intent_of(
            self.recipe, self.format, self.fit.variant_name, {**self.fixed, **chosen}
        )
        apple = self.devices if file_format(self.format).has_releases else {}
        return plan_artifact(self.recipe, self.model, intent, self.devices, apple)

    def exceeded(self, chosen: Mapping[str, str]) -> list[str]:
        """Describe the memory, latency and speed bounds that a choice misses, by device."""
        fit = self.fit
        if not (fit.memory or fit.latency or fit.speed):
            return []
        contents = contents_of_plan(self.plan(chosen), self.recipe.model.task, self.model)
        found = []
        for device in self.devices.values():
            estimates = self._estimates(contents, device)
            memory = estimates.memory.counted(device.counts)
            if fit.memory and memory.value > fit.memory:
                found.append(f"{format_bytes(memory.value)} of memory on {device.id}")
            latency = estimates.latency or estimates.first_token
            if fit.latency and latency and latency.value > fit.latency:
                found.append(f"{format_seconds(latency.value)} on {device.id}")
            if fit.speed and estimates.decode and estimates.decode.value < fit.speed:
                found.append(f"{format_speed(estimates.decode.value)} on {device.id}")
        return found

    def _estimates(self, contents: Contents, device: Device) -> Estimates:
        """Raises InvalidInput if a bounded figure cannot be estimated."""
        workload, timed = self.recipe.workload, self.fit.latency or self.fit.speed
        bus = None
        if timed and device.id == HERE and device.memory_bandwidth is None:
            bus = bandwidth_here(Store())
        estimates = estimate_for(
            contents, device, context=workload.context, prompt=workload.prompt, bandwidth=bus
        )
        if timed and estimates.unknown:
            what = f"times cannot be estimated for {device.id}: {estimates.unknown}"
            raise InvalidInput(Problem(self.name, what, "set a size or memory budget instead"))
        return estimates

    @property
    def name(self) -> str:
        """The name under which a person finds the budget."""
        return f"quantize.fit: {self.format}-{self.fit.variant_name}"


class Sized(Protocol):
    """One way to store a tensor: its name in recipes, and its bytes."""

    @property
    def use(self) -> str: ...
    @property
    def bytes(self) -> int: ...


def uses(picked: Mapping[str, Priced]) -> dict[str, str]:
    """The chosen option of every tensor."""
    return {name: option.use for name, option in picked.items()}


def most_bytes(site: Site, choices: Choices, rest: int | None = None) -> int:
    """The most bytes that all tensors together may take within every bound except quality.

    rest: bytes of the files that do not belong to tensors with a choice, as seen in an artifact;
    by default as planned. Raises InvalidInput if not even the smallest choice keeps the bounds.
    """
    smallest, rest = require_possible(site, choices, rest)
    cap = sum(max(option.bytes for option in own) for own in choices.values())
    if site.fit.size is not None:
        cap = min(cap, site.fit.size - rest)
    return _bisect(smallest, cap, lambda size: not site.exceeded(uses(best_within(choices, size))))


def require_possible(
    site: Site, choices: Mapping[str, Sequence[Sized]], rest: int | None = None
) -> tuple[int, int]:
    """The bytes of the tensors at their smallest, and of everything else; nothing is measured.

    Raises InvalidInput if not even the smallest choice for every tensor keeps size, memory and
    speed.
    """
    picked = {name: min(own, key=lambda option: option.bytes) for name, own in choices.items()}
    smallest = sum(option.bytes for option in picked.values())
    least = {name: option.use for name, option in picked.items()}
    if rest is None:
        rest = site.plan(least).download_bytes - smallest
    if site.fit.size is not None and site.fit.size - rest < smallest:
        nearest = format_bytes(smallest + rest)
        raise _infeasible(site, f"this model takes at least {nearest}")
    found = site.exceeded(least)
    if found:
        raise _infeasible(site, f"at its smallest it is estimated at {found[0]}")
    return smallest, rest


def _bisect(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The largest number for which `holds` is true; it is for `low`."""
    if holds(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _infeasible(site: Site, what: str) -> InvalidInput:
    return InvalidInput(
        Problem(site.name, f"cannot be kept: {what}", "raise the budget, or use a smaller model")
    )


def sizes_of(planned: Planned, format: Format) -> tuple[int, int]:
    """Bytes of the smallest and the largest file that number formats can produce."""
    recipe, model = planned.recipe, planned.model
    options = find_options(model, recipe, format)
    found = []
    for end in (0, -1):
        intent = intent_of(recipe, format, "fit", {n: own[end].use for n, own in options.items()})
        found.append(plan_artifact(recipe, model, intent, {}, {}).download_bytes)
    return found[0], found[1]
