"""The loss of an artifact on held-out samples, in its own runtime."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path

from pydantic import Field

import edgeq
from edgeq.core.artifact import Frozen
from edgeq.core.temporary import TemporaryFolder
from edgeq.pipeline.allocate.chain import Chain
from edgeq.pipeline.allocate.holdout import Holdout
from edgeq.pipeline.build.stages import Stages
from edgeq.quantize.statistics import Feed

_SAMPLES = 24
_FILE = "loss.json"


class Loss(Frozen):
    """How far an artifact's answers are from the float model's, and how that was measured."""

    loss: float = Field(description="The mean: KL in nats, or 1 − cosine.")
    error: float = Field(description="Its standard error.")
    samples: int = Field(description="Held-out samples.")
    runtime: str = Field(description="Name and version of what ran the artifact.")


@contextlib.contextmanager
def held_out(
    stages: Stages, feeds: Sequence[Feed], count: int = _SAMPLES, given: Container[str] = ()
) -> Iterator[tuple[Chain, Holdout]]:
    """The float graph on held-out samples. given: weights of it that can be changed."""
    with TemporaryFolder() as folder:
        context = stages.planned.recipe.workload.context
        holdout = Holdout(feeds, count, stages.model.decoder, context)
        chain = Chain(stages.float_graph(), holdout.feeds, given)
        holdout.keep(chain, Path(folder))
        yield chain, holdout


def loss_in_runtime(stages: Stages, feeds: Sequence[Feed], path: Path) -> Loss:
    """Measure an artifact. Raises Missing where its runtime is not installed."""
    model = edgeq.load(path)
    with held_out(stages, feeds) as (_, holdout):
        found, samples = holdout.of_model(model), len(holdout.feeds)
    return Loss(loss=found.value, error=found.error, samples=samples, runtime=model.runtime)


def kept_loss(stages: Stages, path: Path, describe: str, measure: Callable[[Path], Loss]) -> Loss:
    """The loss of an artifact in the store, from the store or measured now."""

    def make(destination: Path) -> None:
        stages.progress(f"{describe}: measure on held-out calibration data")
        (destination / _FILE).write_text(measure(path).model_dump_json(), encoding="utf-8")

    key = {"artifact": path.name, "calibration": stages.calibration.key()}
    place = stages.store.stage("loss", key, make, describe=describe)
    return Loss.model_validate_json((place / _FILE).read_bytes())
