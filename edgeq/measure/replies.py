"""What a worker replies to each kind of `Request`; between processes it is JSON."""

from __future__ import annotations

from typing import Any

from edgeq.core.artifact import Frozen
from edgeq.core.terms import Effort
from edgeq.formats.base import Model
from edgeq.measure import generation, latency
from edgeq.measure.divergence import Divergence
from edgeq.measure.records import (
    Conditions,
    Loading,
    Memory,
    MemoryFigures,
    Moment,
    OperatorPlacement,
)
from edgeq.places.place import Surroundings
from edgeq.places.process import Request


class Reply(Frozen):
    """What every pass says of the model and its runtime; a quality pass writes its answers to a
    file. Fields are those of `Conditions`.
    """

    runtime: str
    reference: bool
    instructions: str
    threads: int
    prepared: bool
    warnings: tuple[str, ...] = ()
    inputs: str
    cpus: int | None = None
    others: float | None = None
    megahertz: tuple[float, float] | None = None

    def conditions(self, *, cpu: str, place: Surroundings, effort: Effort) -> Conditions:
        """The conditions of the pass, in a place with these facts."""
        said = self.model_dump(include=set(Conditions.model_fields))
        facts = place._asdict() | {"warnings": (*said["warnings"], *place.warnings)}
        return Conditions(**{**said, **facts}, cpu=cpu, effort=effort)


class MemoryReply(Reply, MemoryFigures):
    """A memory pass."""

    def memory(self, conditions: Conditions) -> Memory:
        """The figures under these conditions."""
        figures = self.model_dump(include=set(MemoryFigures.model_fields))
        return Memory(**figures, conditions=conditions)


class _TimesReply(Reply, Loading):
    placement: OperatorPlacement | None = None
    looks: tuple[int, ...]


class RunTimesReply(_TimesReply):
    """A latency pass: the fields of `edgeq.measure.latency.Timing`, and what loading took."""

    seconds: list[float]
    runs: int

    @property
    def steps(self) -> list[float]:
        """Seconds of each run."""
        return self.seconds

    @property
    def timing(self) -> latency.Timing:
        """The times, to be summarized."""
        return latency.Timing(self.seconds, self.runs, self.looks)


class TextTimesReply(_TimesReply):
    """The same of a language model: the fields of `edgeq.measure.generation.Timing`.

    moments: of the run without a pause; none unless it was asked for, or from `edgeq-runner`.
    """

    first: list[float]
    tokens: list[list[float]]
    text_looks: tuple[int, ...]
    moments: tuple[Moment, ...] = ()

    @property
    def steps(self) -> list[float]:
        """Seconds of each token after the first of a text."""
        return [seconds for text in self.tokens for seconds in text]

    @property
    def timing(self) -> generation.Timing:
        """The times, to be summarized."""
        return generation.Timing(self.first, self.tokens, self.looks, self.text_looks)


class DivergenceReply(Reply):
    """A quality pass of a language model with a reference."""

    divergence: Divergence


def about(model: Model) -> dict[str, Any]:
    """The fields of `Reply` that an open model knows."""
    return {
        "runtime": model.runtime,
        "reference": model.is_reference,
        "instructions": model.system,
        "threads": model.threads,
        "prepared": model.prepared,
    }


def times_of(request: Request, reply: dict[str, Any]) -> RunTimesReply | TextTimesReply:
    """The reply to the latency pass of `request`. Raises ValueError for anything else."""
    kind = TextTimesReply if request.workload else RunTimesReply
    return kind.model_validate(reply)
