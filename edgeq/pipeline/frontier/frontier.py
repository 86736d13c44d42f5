"""Quality against size for one model: presets, llama.cpp's mixes and our allocations.

The only part of allocation that reads the recipe's evaluation data: every file is finished before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import edgeq
from edgeq.core import canonical
from edgeq.core.artifact import Frozen, read_artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.store import Store
from edgeq.core.tasks import task_of
from edgeq.core.terms import Progress
from edgeq.core.validation_messages import suggest
from edgeq.devices.catalogue import Device
from edgeq.estimate.devices import estimate_for
from edgeq.formats.registry import file_format
from edgeq.measure.clusters import mean
from edgeq.measure.divergence import DEFAULT_WINDOWS
from edgeq.measure.quality import cosine
from edgeq.pipeline.allocate.allocation import allocate
from edgeq.pipeline.allocate.bounds import sizes_of
from edgeq.pipeline.allocate.search import Trial
from edgeq.pipeline.build.build import artifact_maker
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.check.reference import own_reading
from edgeq.pipeline.check.workflow import chosen_devices, targets
from edgeq.pipeline.compare.compare import compare
from edgeq.pipeline.compare.encoders import texts_of
from edgeq.pipeline.frontier.records import Frontier, MadeBy, Point, remember
from edgeq.pipeline.plan.contents import contents_of_plan
from edgeq.pipeline.plan.plan import Planned, make_plan, plan_artifact
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.methods.importance import IMPORTANCE
from edgeq.quantize.presets import make_variant
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format, preset
from edgeq.recipe.windows import DEFAULT_WINDOW

Maker = Callable[[Intent], Path]

_MIXES = ("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K")
# Sizes to allocate for: the sizes of these mixes; for other formats, fractions of the range from
# the
# smallest file to the largest.
_SIZES_OF = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M")
_SHARES = (0.05, 0.2, 0.5, 0.8)
_POINT_FILE = "point.json"


class Seen(Frozen):
    """A file's loss on the evaluation data, and its standard error."""

    loss: float
    error: float


def frontier(recipe: Path, device: str, progress: Progress) -> Frontier:
    """Build and measure every point for `device`; earlier measurements are reused.

    Raises InvalidInput for a recipe without evaluation data, or without a target for the device.
    """
    progress("read the recipe")
    planned = make_plan(recipe, weights=True)
    if planned.recipe.data.evaluation is None:
        what = "has no evaluation data to measure files on"
        raise InvalidInput(Problem(str(recipe), what, "add data: {evaluation: {path: ...}}"))
    chosen = chosen_devices(planned, [device])
    (own,) = chosen.values()
    formats = [f for f in planned.targets if targets(planned, f, chosen)]
    if not formats:
        what = f"{recipe} has no target that {device} runs"
        raise InvalidInput(Problem("--device", what, suggest(device, list(planned.devices))))
    work = _Work(planned, own, Store(), progress)
    points = [point for format in formats for point in work.points(format)]
    found = Frontier(
        model=planned.recipe.name,
        device=own.id,
        measure="kl" if planned.model.decoder else "cosine",
        data=planned.recipe.data.evaluation.path,
        points=tuple(sorted(points, key=lambda point: (point.bytes, point.name))),
    )
    remember(found, planned, own)
    return found


class _Work:
    """The common state: the plan, the device, the store."""

    def __init__(self, planned: Planned, device: Device, store: Store, progress: Progress) -> None:
        self._planned, self._device = planned, device
        self._store, self._progress = store, progress
        self._stages = Stages(planned, store, progress)
        self._make: Maker = artifact_maker(self._stages)

    def points(self, format: Format) -> list[Point]:
        """All points of one format."""
        found = {}
        for made_by, intent in self._standard(format):
            found[intent.variant.name] = self._point(intent, made_by, None)
        for fit in self._fits(format, found):
            try:
                intent, done = allocate(self._stages, format, fit, self._make)
            except InvalidInput:  # smaller than anything that this method makes
                continue
            found[fit.variant_name] = self._point(intent, "allocation", done.kept)
        return list(found.values())

    def _standard(self, format: Format) -> list[tuple[MadeBy, Intent]]:
        """Presets, and in GGUF llama.cpp's mixes as its own tools make them."""
        task = self._planned.recipe.model.task
        words = ["int8", "int4"]
        if not task_of(task).generates:
            words += file_format(format).compared_presets
        variants = [preset(word, format, task) for word in words]
        found: list[tuple[MadeBy, Intent]] = [
            ("preset", Intent(variant, format, task)) for variant in variants
        ]
        if file_format(format).has_mixes:
            mixes = [make_variant(mix, method=IMPORTANCE.name) for mix in _MIXES]
            found += [("llama.cpp mix", Intent(mix, format, task)) for mix in mixes]
        return found

    def _fits(self, format: Format, found: dict[str, Point]) -> list[FitSpec]:
        """The recipe's own budgets, and sizes to compare at."""
        own = list(self._planned.recipe.quantize.fit)
        if file_format(format).has_mixes:
            named = {f"fit-at-{mix.lower()}": found[mix].bytes for mix in _SIZES_OF}
        else:
            low, high = sizes_of(self._planned, format)
            named = {
                f"fit-at-{round(100 * share)}": int(low + share * (high - low)) for share in _SHARES
            }
        return own + [FitSpec(name=name, size=size, trials=1) for name, size in named.items()]

    def _point(self, intent: Intent, made_by: MadeBy, trial: Trial | None) -> Point:
        path = self._make(intent)
        seen = self._seen(intent, path)
        here = {self._device.id: self._device}
        plan = plan_artifact(self._planned.recipe, self._planned.model, intent, here, {})
        contents = contents_of_plan(plan, self._planned.recipe.model.task, self._planned.model)
        workload = self._planned.recipe.workload
        estimates = estimate_for(
            contents, self._device, context=workload.context, prompt=workload.prompt
        )
        return Point(
            name=intent.name,
            made_by=made_by,
            format=intent.format,
            bytes=read_artifact(path).bytes,
            loss=seen.loss,
            error=seen.error,
            predicted=trial.predicted if trial else None,
            held_back=trial.measured if trial else None,
            seconds=estimates.decode.inverse(1.0) if estimates.decode else estimates.latency,
        )

    def _seen(self, intent: Intent, path: Path) -> Seen:
        """Measure a finished file's loss on the evaluation data."""
        reference = own_reading(self._planned, self._store, self._progress)
        given = self._planned.recipe.data.evaluation
        assert given is not None
        text = self._planned.path.parent / given.path
        key = {
            "artifact": path.name,
            "float": reference.name,
            "data": canonical.sha256_of_file(text),
            "samples": given.samples,
        }

        def make(destination: Path) -> None:
            self._progress(f"{intent.name}: measure on the evaluation data")
            seen = self._measure(reference, path, text, given.samples)
            (destination / _POINT_FILE).write_text(seen.model_dump_json(), encoding="utf-8")

        place = self._store.stage("frontier", key, make, describe=intent.name)
        return Seen.model_validate_json((place / _POINT_FILE).read_bytes())

    def _measure(self, reference: Path, path: Path, data_file: Path, samples: int | None) -> Seen:
        task = task_of(self._planned.recipe.model.task)
        if task.generates:
            windows = samples or DEFAULT_WINDOWS
            size = min(DEFAULT_WINDOW, self._planned.recipe.workload.context)
            kl = compare(reference, path, data_file, windows=windows, window=size).kl
            return Seen(loss=kl.mean, error=kl.mean_se)
        models = [edgeq.load(each) for each in (reference, path)]
        if task.embeds:
            texts = texts_of(data_file, samples)
            answers = [model.embed(texts) for model in models]
            pairs = zip(*(answer.astype(np.float64) for answer in answers), strict=True)
            found = mean([np.array([1 - cosine(a, b)]) for a, b in pairs])
            return Seen(loss=found.value, error=found.error)
        raise InvalidInput(
            Problem(
                "edgeq frontier", "supports language models and encoders only", "see edgeq check"
            )
        )
