"""An artifact keeps trained codes where its own runtime gains by them.

Training judges itself in torch, whose arithmetic is not the runtime's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgeq.core.artifact import read_record, write_artifact
from edgeq.core.errors import Missing, in_one_line
from edgeq.pipeline.build.stages import Stages
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.number_formats import NUMBER_FORMATS
from edgeq.quantize.number_formats.integers import INT4_B32
from edgeq.quantize.spec import Intent


def untrained(intent: Intent) -> Intent | None:
    """The same artifact with the codes that its training begins with; None if it trains none."""
    variant = intent.variant
    own = NUMBER_FORMATS.get(variant.weights) or NUMBER_FORMATS[INT4_B32.name]
    start = rounding_method(variant.method).starts_from(own)
    if not start:
        return None
    return replace(intent, variant=variant.model_copy(update={"method": start}))


def better_of(
    stages: Stages, intent: Intent, start: Intent, build: Callable[[Intent], Path]
) -> Path:
    """The better of two artifacts on held-out samples: with trained codes, and with those before.

    A note in its record has both losses. Where the runtime is missing, training's own judgement in
    torch stands, and the note says so. Raises InvalidInput for too few samples, before it trains.
    """
    from edgeq.pipeline.allocate.holdout import set_aside

    set_aside(stages.feeds(stages.float_graph()))
    started, trained = build(start), build(intent)

    def make(destination: Path) -> None:
        kept, note = _judged(stages, intent, started, trained)
        stages.progress(f"{intent.name}: {note}")
        record = read_record(kept)
        for name in record.files:
            _link(kept / name, destination / name)
        notes = [*record.settings.get("notes", ()), note]
        settings = {**record.settings, "notes": notes}
        write_artifact(destination, record.model_copy(update={"settings": settings}))

    key = {
        "started": started.name,
        "trained": trained.name,
        "calibration": stages.calibration.key(),
    }
    return stages.store.stage("artifact", key, make, describe=intent.name)


def _judged(stages: Stages, intent: Intent, started: Path, trained: Path) -> tuple[Path, str]:
    """The artifact to keep, and why."""
    from edgeq.pipeline.allocate.loss import kept_loss, loss_in_runtime

    method = intent.variant.method
    if all(tensor.method != method for tensor in read_record(trained).tensors.values()):
        return trained, "training found no better codes on held-out samples, measured in torch"
    feeds = stages.feeds(stages.float_graph())
    try:
        before, after = (
            kept_loss(stages, path, intent.name, lambda path: loss_in_runtime(stages, feeds, path))
            for path in (started, trained)
        )
    except Missing as error:
        reason = (
            f"trained codes are kept as torch judged, not the file's runtime: {in_one_line(error)}"
        )
        return trained, reason
    gained = after.loss < before.loss
    note = (
        f"trained codes lose {after.loss:.6f}, those before training {before.loss:.6f}, on "
        f"{after.samples} held-out samples by {after.runtime}: the "
        f"{'trained' if gained else 'untrained'} ones are kept"
    )
    return (trained if gained else started), note


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
