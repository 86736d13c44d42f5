"""Allocation for the command line: sensitivities, and plans that use them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.store import Store
from edgeq.core.terms import Progress
from edgeq.core.validation_messages import suggest
from edgeq.pipeline.build.build import artifact_maker
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.pipeline.plan.requirements import missing, packages, require
from edgeq.quantize.presets import make_variant
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format

if TYPE_CHECKING:
    from edgeq.pipeline.allocate.sensitivity import Sensitivity


def sensitivity_of_recipe(recipe: Path, target: str | None, progress: Progress) -> Sensitivity:
    """Measure each tensor's sensitivity for a recipe's model in a file format, by default its
    first.

    Raises InvalidInput for a recipe without calibration data, Missing if the build side is not
    installed.
    """
    progress("read the recipe")
    planned = make_plan(recipe, weights=True)
    formats = list(planned.targets)
    if target is not None and target not in formats:
        what = f"{recipe} has no target of the format {target!r}"
        raise InvalidInput(Problem("--target", what, suggest(target, formats)))
    if planned.recipe.data.calibration is None:
        what = "has no calibration data to measure on"
        raise InvalidInput(Problem(str(recipe), what, "add data: {calibration: {path: ...}}"))
    format: Format = next(each for each in formats if target in (None, each))
    require([Intent(make_variant("int4-b32"), format, planned.recipe.model.task)], fits=True)
    from edgeq.pipeline.allocate.file_ground import ground_of

    stages = Stages(planned, Store(), progress)
    return ground_of(stages, format, artifact_maker(stages)).sensitivity()


def foreseen(planned: Planned, progress: Progress) -> Planned:
    """The plan with the choices for budgets whose sensitivities are known.

    Hashes the model's files to identify the model. An artifact stays pending if its sensitivities
    are unknown or packages are missing.
    """
    known: list[Intent] = []
    for format in planned.targets:
        spec = planned.recipe.quantize
        fits = spec.pending(format, planned.recipe.model.task)
        if planned.refuses(format) or missing(packages(fits, fits=True)):
            continue
        from edgeq.pipeline.allocate.allocation import foresee

        stages = Stages(planned, Store(), progress)
        for fit in spec.fit:
            intent = foresee(stages, format, fit, artifact_maker(stages))
            if intent is not None:
                known.append(intent)
    return planned.settled(known)
