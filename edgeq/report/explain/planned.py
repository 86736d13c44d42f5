"""Extract the facts for an explanation from a plan; every figure is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edgeq.core.budgets import BUDGETS, Unit
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.terms import Progress
from edgeq.core.units import format_bytes
from edgeq.core.validation_messages import suggest
from edgeq.devices.catalogue import Device
from edgeq.estimate.devices import Estimates
from edgeq.estimate.interval import Interval
from edgeq.formats.file_format import TensorPlan
from edgeq.models.naming import model_name
from edgeq.pipeline.allocate.prospects import foretold
from edgeq.pipeline.check.expected import expected_everywhere
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.verdict import Status
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.pipeline.plan.records import ArtifactPlan
from edgeq.quantize.adapter import METHOD as ADAPTER
from edgeq.quantize.budget_spec import FitSpec
from edgeq.recipe.budgets import Budgets
from edgeq.report.explain.facts import BudgetOutcome, ChosenForBudget, Facts, OpenBudget
from edgeq.report.explain.measured import asked_words, is_chosen
from edgeq.report.explain.weights import exceptions, formats, matrices, methods, number, usual_bits
from edgeq.report.page.sensed import asked_of

_FLOAT_BYTES = 4


def facts_of_plan(recipe: Path, devices: Sequence[str], progress: Progress) -> Facts:
    """Return the facts about a recipe before it is built; weights are not read.

    devices: one of the recipe's devices, or none for its first. Raises InvalidInput for others, and
    what planning and `planned_facts` raise.
    """
    progress("read the recipe")
    planned = make_plan(recipe)
    if len(devices) > 1 or not set(devices) <= set(planned.devices):
        what = f"{', '.join(devices)}: a plan covers one of the recipe's devices"
        known = list(planned.devices)
        raise InvalidInput(Problem("--device", what, suggest(devices[0], known)))
    if planned.recipe.quantize.fit:
        from edgeq.pipeline.allocate.workflow import foreseen

        planned = foretold(foreseen(planned, progress))
    return planned_facts(planned, expected_everywhere(planned), next(iter(devices), None))


def planned_facts(
    planned: Planned, estimates: Mapping[str, Mapping[str, Estimates]], device: str | None = None
) -> Facts:
    """Return the facts about the artifact that suits a device best, by default the recipe's first.

    If number formats of every artifact are still to be chosen for a budget, one of them is
    described. estimates: of every artifact, for every device, from `expected_everywhere`. Raises
    Missing if the packages that choose formats are not installed, so that nothing is known.
    """
    id = device or next(iter(planned.devices))
    every = [a for a in planned.plan.artifacts if id in a.devices]
    own = [a for a in every if not a.pending] or [a for a in every if a.name in planned.prospects]
    if not own:
        missing = ", ".join(planned.plan.missing_packages)
        what = f"the formats for its budget cannot be estimated without {missing}"
        remedy = f'pip install ".[{",".join(planned.plan.extras)}]"'
        raise Missing(Problem(planned.recipe.name, what, remedy))
    outcomes = {
        a.name: _outcomes(planned, a, planned.devices[id], estimates[a.name][id]) for a in own
    }
    # Fewest misses; then, among the quantized, the largest, which is nearest to the original.
    best = min(
        own, key=lambda a: (_misses(outcomes[a.name]), not _is_rounded(a), -a.download_bytes)
    )
    return facts_of_artifact(planned, best, planned.devices[id], outcomes[best.name])


def _is_rounded(artifact: ArtifactPlan) -> bool:
    return any(tensor.method != "none" for tensor in artifact.tensors)


def _misses(outcomes: tuple[BudgetOutcome, ...]) -> int:
    return sum(each.missing is not None for each in outcomes)


def facts_of_artifact(
    planned: Planned, artifact: ArtifactPlan, device: Device, outcomes: tuple[BudgetOutcome, ...]
) -> Facts:
    """Return the facts about one artifact. outcomes: its budgets on the device."""
    tensors = matrices({tensor.name: tensor for tensor in _tensors(planned, artifact)})
    original = _original(planned, artifact)
    ratio = original / artifact.download_bytes
    return Facts(
        name=planned.plan.recipe,
        model=model_name(planned.plan.source, planned.model.located.path),
        task=planned.recipe.model.task,
        device=device.name,
        artifact=artifact.name,
        format=artifact.format,
        variant=artifact.variant.name,
        weights=artifact.variant.weights,
        status="fail" if any(each.status == "fail" for each in outcomes) else "not run",
        size=format_bytes(artifact.download_bytes),
        original_size=format_bytes(original),
        smaller=f"{ratio:.1f}" if ratio > 1.05 else None,
        budgets=outcomes,
        bits=number(usual_bits(tensors)),
        methods=methods(tensors),
        exceptions=None
        if artifact.pending
        else exceptions(
            tensors,
            artifact.download_bytes,
            {},
            {name: each.reason for name, each in tensors.items()},
        ),
        budgeted=_budgeted(planned, artifact),
        recovered=None,
        memory=None,
        same_words=None,
        other_words=None,
        places=None,
        likeness=None,
        moved=None,
        others=tuple(d.name for d in planned.devices.values() if d.id != device.id),
        is_planned=True,
        pending=tuple(
            a.name for a in planned.plan.artifacts if a.pending and a.name not in planned.impossible
        ),
        waiting=_waiting(planned, artifact),
        refused=tuple(planned.impossible.values()),
    )


def _tensors(planned: Planned, artifact: ArtifactPlan) -> tuple[TensorPlan, ...]:
    """For a pending budget, the tensors of the largest file that it may become."""
    if artifact.pending:
        return planned.prospects[artifact.name].largest.tensors
    return artifact.tensors


def _waiting(planned: Planned, artifact: ArtifactPlan) -> OpenBudget | None:
    if not artifact.pending:
        return None
    found = planned.prospects[artifact.name]
    return OpenBudget(
        least=format_bytes(found.smallest.download_bytes),
        most=format_bytes(found.largest.download_bytes),
        is_spare=bool(found.note(_fit(planned, artifact), artifact.format)),
    )


def _fit(planned: Planned, artifact: ArtifactPlan) -> FitSpec:
    """The budget that an artifact is made for."""
    fits = {fit.variant_name: fit for fit in planned.recipe.quantize.fit}
    return fits[artifact.variant.name]


def _budgeted(planned: Planned, artifact: ArtifactPlan) -> ChosenForBudget | None:
    """The budget asked for, if number formats are chosen for one."""
    tensors = matrices({tensor.name: tensor for tensor in artifact.tensors})
    if artifact.pending:
        offered = planned.prospects[artifact.name].offered
        names = formats({f"{t.name} {t.number_format}": t for t in offered})
    elif is_chosen(tensor.reason for tensor in tensors.values()):
        names = formats(tensors)
    else:
        return None
    return ChosenForBudget(
        formats=names,
        asked=asked_words(asked_of(_fit(planned, artifact))),
        gap=None,
        other=None,
        other_size=None,
        other_quality=None,
    )


def _original(planned: Planned, artifact: ArtifactPlan) -> int:
    """Bytes of the weights in full precision, at 32 bits each."""
    own = (tensor for tensor in _tensors(planned, artifact) if tensor.method != ADAPTER)
    return _FLOAT_BYTES * sum(math.prod(tensor.shape) for tensor in own)


def _outcomes(
    planned: Planned, artifact: ArtifactPlan, device: Device, own: Estimates
) -> tuple[BudgetOutcome, ...]:
    """Every budget with its estimate; as in a check, an estimate never passes."""
    sizes = {"size.download": float(_original(planned, artifact))}
    return tuple(
        _line(name, limit, unit, at_most, expected, sizes.get(name))
        for name, limit, unit, at_most, expected in _lines(
            planned.recipe.budgets, artifact, device, own
        )
        if limit is not None
    )


def _lines(
    budgets: Budgets, artifact: ArtifactPlan, device: Device, own: Estimates
) -> Iterator[tuple[str, float | None, Unit, bool, Interval | None]]:
    """Name, limit, unit, whether the limit is an upper one, and the estimate."""
    size, least = artifact.download_bytes, artifact.smallest_bytes or artifact.download_bytes
    download = Interval(value=size, low=least, high=size, basis="the plan")
    memory = own.memory.counted(device.counts)
    computed = {
        "memory.peak": memory,
        "memory.growth": own.memory.growth,
        "latency.p50": own.latency,
        "latency.p90": own.latency,
        "latency.first_token": own.first_token,
        "speed.prompt": own.prompt,
        "speed.generation": own.decode,
        "size.download": download,
    }
    yield "device.memory", device.app_limit().bytes, "bytes", True, memory
    for each in BUDGETS.values():
        if not each.needs_compute_units:  # a plan does not know where operators run
            expected = computed.get(each.name)
            yield each.name, budgets.limit(each), each.unit, each.is_upper, expected


def _line(
    name: str,
    limit: float,
    unit: Unit,
    at_most: bool,
    expected: Interval | None,
    original: float | None,
) -> BudgetOutcome:
    status: Status = "not run"
    missing = None
    if expected is not None:
        short = expected.value - limit if at_most else limit - expected.value
        missing = format_value(short, unit) if short > 0 else None
        surely = expected.low > limit if at_most else expected.high < limit
        status = "fail" if surely else "not run"
    return BudgetOutcome(
        budget=name,
        limit=format_value(limit, unit),
        value=format_value(expected.value, unit) if expected is not None else None,
        original=format_value(original, unit) if original is not None else None,
        is_over=original is not None and original > limit,
        status=status,
        how="estimated" if expected is not None else "not run",
        missing=missing,
        remedy="",
    )
