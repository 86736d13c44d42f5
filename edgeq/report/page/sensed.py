"""Stored results for a built recipe: sensitivity of tensors, and outcomes of budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgeq.core.artifact import Artifact
from edgeq.core.errors import InvalidInput
from edgeq.core.store import Store
from edgeq.core.terms import Progress
from edgeq.core.units import format_bytes, format_seconds, format_speed
from edgeq.pipeline.build.build import artifact_maker
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.plan.plan import Planned
from edgeq.pipeline.plan.requirements import missing, packages
from edgeq.quantize.presets import make_variant
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format
from edgeq.report.page.record import BudgetResult, TensorLoss

if TYPE_CHECKING:
    from edgeq.pipeline.allocate.measure import Ground
    from edgeq.pipeline.allocate.sensitivity import Sensitivity
    from edgeq.quantize.budget_spec import FitSpec


class Known:
    """Earlier measurements of a plan's model; nothing is built or measured."""

    def __init__(self, planned: Planned, progress: Progress) -> None:
        self._planned = planned
        self._stages = Stages(planned, Store(), progress)
        self._grounds: dict[Format, Ground | None] = {}

    def losses(self, record: Artifact) -> dict[str, TensorLoss]:
        """The loss of each tensor of an artifact; empty if `edgeq sensitivity` was not run."""
        ground = self._ground(record.format)
        if ground is None:
            return {}
        try:
            found = ground.known()
        except InvalidInput:  # the recipe names the sensitivity of another format
            return {}
        return _sensed(record, found, ground) if found is not None else {}

    def fitted(self, record: Artifact) -> BudgetResult | None:
        """An artifact's predicted and measured loss; None unless it was built for a budget."""
        ground = self._ground(record.format)
        for fit in self._planned.recipe.quantize.fit:
            if ground is not None and fit.variant_name == record.variant:
                return _fitted(ground, fit)
        return None

    def _ground(self, format: Format) -> Ground | None:
        """Return None if the packages needed to measure are not installed."""
        if format not in self._grounds:
            self._grounds[format] = self._open(format)
        return self._grounds[format]

    def _open(self, format: Format) -> Ground | None:
        intent = Intent(make_variant("int4-b32"), format, self._planned.recipe.model.task)
        if missing({**packages([intent]), "fit": ("scipy",)}):
            return None
        from edgeq.pipeline.allocate.file_ground import ground_of

        try:
            return ground_of(self._stages, format, artifact_maker(self._stages))
        except InvalidInput:  # no tensor of the model has a choice of formats
            return None


def _sensed(record: Artifact, found: Sensitivity, ground: Ground) -> dict[str, TensorLoss]:
    losses = {}
    for name, tensor in record.tensors.items():
        costs = found.tensors.get(name)
        if not costs:
            continue
        options = [option for option in ground.options[name] if option.use in costs]
        own = next((o for o in options if tensor.number_format in (o.number_format, o.use)), None)
        least = options[0].use
        losses[name] = TensorLoss(
            least=least,
            loss=costs[least].loss,
            error=costs[least].error,
            here=costs[own.use].loss if own is not None else None,
            here_error=costs[own.use].error if own is not None else None,
            measure=found.measure,
        )
    return losses


def _fitted(ground: Ground, fit: FitSpec) -> BudgetResult | None:
    from edgeq.pipeline.allocate.allocation import made_before

    done = made_before(ground, fit)
    if done is None:
        return None
    return BudgetResult(
        asked=asked_of(fit),
        measure="kl" if done.measure == "kl" else "cosine",
        predicted=done.kept.predicted,
        measured=done.kept.measured,
        error=done.kept.error,
        samples=done.samples,
        trials=len(done.trials),
    )


def asked_of(fit: FitSpec) -> dict[str, str]:
    """Format a budget as the recipe writes it."""
    values: Mapping[str, str | None] = {
        "size": format_bytes(fit.size) if fit.size else None,
        "memory": format_bytes(fit.memory) if fit.memory else None,
        "latency": format_seconds(fit.latency) if fit.latency else None,
        "speed": format_speed(fit.speed) if fit.speed else None,
        "quality.kl": f"{fit.quality.kl:g}" if fit.quality.kl else None,
        "quality.cosine": f"{fit.quality.cosine:g}" if fit.quality.cosine else None,
    }
    return {name: value for name, value in values.items() if value is not None}
