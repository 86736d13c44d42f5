"""Points of size against quality, and frontiers measured earlier."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edgeq.core import canonical
from edgeq.core.artifact import Frozen
from edgeq.core.files import write_text
from edgeq.core.store import Store, code_version
from edgeq.devices.catalogue import Device
from edgeq.estimate.interval import Interval
from edgeq.pipeline.plan.plan import Planned
from edgeq.quantize.storage import Format
from edgeq.recipe import data_sets

MadeBy = Literal["llama.cpp mix", "preset", "allocation"]


class Point(Frozen):
    """One file."""

    name: str
    made_by: MadeBy
    format: Format
    bytes: int = Field(description="Measured bytes of all files.")
    loss: float = Field(description="Mean KL divergence in nats, or mean 1 − cosine, measured.")
    error: float = Field(description="Standard error of the loss, clustered by window or text.")
    predicted: float | None = Field(
        default=None, description="For an allocation: its predicted loss on calibration data."
    )
    held_back: float | None = Field(
        default=None,
        description="For an allocation: its measured loss on held-out calibration data.",
    )
    seconds: Interval | None = Field(
        default=None, description="Estimated time of one token, or of one run, on the device."
    )


class Frontier(Frozen):
    """Points from the smallest file to the largest. measure: the unit of the loss."""

    model: str
    device: str
    measure: Literal["kl", "cosine"]
    data: str
    points: tuple[Point, ...]

    def best(self) -> tuple[Point, ...]:
        """Points that no smaller file beats."""
        found: list[Point] = []
        for point in self.points:
            if not found or point.loss < found[-1].loss:
                found.append(point)
        return tuple(found)

    def shift(self) -> float | None:
        """The ratio of allocations' losses on the evaluation data to those on held-out calibration
        data.

        The geometric mean; None without allocations. No prediction from calibration data can
        foresee it.
        """
        ratios = [p.loss / p.held_back for p in self.points if p.held_back and p.loss > 0]
        return statistics.geometric_mean(ratios) if ratios else None


def remember(found: Frontier, planned: Planned, device: Device) -> None:
    """Store a frontier for `known`, replacing an earlier one."""
    path = _place(planned, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, canonical.to_json(found.model_dump(mode="json")))


def known(planned: Planned, device: Device) -> Frontier | None:
    """The last frontier that `edgeq frontier` measured for the same model, data and budgets.

    Nothing is built or measured, only hashes are computed.
    """
    if planned.recipe.data.evaluation is None:
        return None
    try:
        return Frontier.model_validate_json(_place(planned, device).read_bytes())
    except (OSError, ValidationError):
        return None


def _place(planned: Planned, device: Device) -> Path:
    """The path, named by everything that points depend on, which excludes the presets."""
    recipe = planned.recipe.model_dump(mode="json", exclude={"name", "budgets"})
    recipe["quantize"].pop("default", None)
    given = (planned.recipe.data.calibration, planned.recipe.data.evaluation)
    key = {
        "recipe": recipe,
        "model": planned.model.sha256(),
        "data": [
            data_sets.content_sha256(planned.path.parent / each.path) for each in given if each
        ],
        "device": device.model_dump(mode="json", exclude={"sources"}),
        "code": code_version(),
    }
    return Store().root / "frontier-of" / f"{canonical.sha256_of(key)}.json"
