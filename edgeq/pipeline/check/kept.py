"""Verdicts in the build store, under everything that they depend on but the machine's load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeq.core import canonical
from edgeq.core.artifact import ARTIFACT_FILE
from edgeq.core.budgets import BUDGETS
from edgeq.core.files import write_text
from edgeq.core.store import Store, code_version
from edgeq.core.tasks import TASKS
from edgeq.devices.catalogue import Device
from edgeq.measure.metrics import METRICS
from edgeq.pipeline.check.cross_cpu import most_seconds, reachable
from edgeq.pipeline.check.verdict import Verdict
from edgeq.places.place import Here, Place
from edgeq.recipe import data_sets
from edgeq.recipe.budgets import Budgets
from edgeq.recipe.schema import DataRef


def path_of(
    artifact: Path,
    device: Device,
    place: Place,
    budgets: Budgets,
    evaluation: DataRef | None,
    base: Path,
    **more: Any,
) -> Path:
    """Where the verdict on the artifact in a directory lies. base: of the path in `evaluation`."""
    key = {
        "artifact": canonical.sha256_of_file(artifact / ARTIFACT_FILE),
        "device": device.model_dump(mode="json"),
        "place": [place.name, place.device().model_dump(mode="json")],
        "stand_ins": [reachable(), most_seconds()] if isinstance(place, Here) else [],
        "budgets": budgets.model_dump(mode="json"),
        "evaluation": data_of(evaluation, base),
        "runtime": os.environ.get("EDGEQ_LLAMA"),
        "code": code_version(),
        "packages": {**BUDGETS.packages, **METRICS.packages, **TASKS.packages},
        **more,
    }
    return Store().root / "verdict" / f"{canonical.sha256_of(key)}.json"


def data_of(given: DataRef | None, base: Path) -> list[Any] | None:
    """What a verdict depends on of a data set. base: of its path."""
    if given is None:
        return None
    return [data_sets.content_sha256(base / given.path), given.samples]


def remember(path: Path, verdict: Verdict) -> None:
    """Keep a verdict at a path of `path_of`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, canonical.to_json(verdict.model_dump(mode="json")))


def recall(path: Path, full: bool) -> Verdict | None:
    """The verdict at a path of `path_of`, unless measuring again may change it.

    That is so if it is inconclusive and, with `full`, if it was not measured at length.
    """
    try:
        verdict = Verdict.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    timed = verdict.measurement.latency or verdict.measurement.generation
    is_full = timed is None or timed.conditions.effort == "full"
    return verdict if verdict.status != "inconclusive" and (is_full or not full) else None
