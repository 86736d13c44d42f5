"""Places where a measuring pass can run in a fresh process, and their common interface."""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from edgeq.core.errors import Missing
from edgeq.core.terms import How, Pass
from edgeq.devices import detect
from edgeq.devices.profile import Device
from edgeq.places.process import Request, Requests, run_worker

_AnyPlace = TypeVar("_AnyPlace", bound="Place")
ALL_PASSES: frozenset[Pass] = frozenset(("memory", "latency", "quality"))


class Unreachable(Missing):
    """A place that cannot be reached, or was lost and did not come back. Exit status 3."""


class Surroundings(NamedTuple):
    """Facts about a place for the conditions of a measurement, by `Conditions`' names.

    load_average: over the last minute; None if the system has no such number. warnings: of what
    may make its answers and times others than those of an app built here.
    """

    system: str
    load_average: float | None
    warnings: tuple[str, ...] = ()


class Place(ABC):
    """A place where a measuring pass can run: this machine, a stand-in on it, or another machine.

    name: recognizable for a person, e.g. `ssh://pi@pi5:22`. how: `measured` if the CPU itself runs
    it, `emulated` if another stands in. passes: those with a meaningful result there. most_samples:
    how much of an evaluation set is feasible there; None for all. slowdown: how many times as long
    as here it takes, roughly. runs_own_worker: whether replies come from a process of this machine;
    any other may reply with anything. compares: whether a language model can be compared there with
    its reference; else it only gives the logits of `Request.ids`.
    """

    name: str
    how: How
    passes: frozenset[Pass]
    most_samples: int | None = None
    slowdown = 1.0
    runs_own_worker = True
    compares = True

    @property
    def reach(self) -> str:
        """What `--on` takes to come here again; the name by default."""
        return self.name

    @abstractmethod
    def run(self, request: Request, timeout_seconds: float | None = None) -> dict[str, Any]:
        """The reply of a fresh process there to `request`; paths are those of this machine.

        Raises what `edgeq.places.process.run_worker` raises, and Unreachable if the place is lost.
        """

    def run_each(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        """The replies to requests for quality, by one process where the place allows it.

        Raises as `run`, for all of them.
        """
        return [self.run(request) for request in requests]

    @abstractmethod
    def device(self) -> Device:
        """The facts about the place, read there. Raises Missing, and Unreachable if it is lost."""

    def surroundings(self) -> Surroundings:
        """The system there, and its current load; those of this machine by default."""
        busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        return Surroundings(f"{platform.system()} {platform.release()} {platform.machine()}", busy)

    def close(self) -> None:  # noqa: B027  most places start nothing that outlives a pass
        """End processes started there and remove files written there; may be called again."""

    def __enter__(self: _AnyPlace) -> _AnyPlace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Here(Place):
    """This machine itself."""

    name = "here"
    how: How = "measured"
    passes = ALL_PASSES

    def run(self, request: Request, timeout_seconds: float | None = None) -> dict[str, Any]:
        return run_worker(request, timeout_seconds)

    def run_each(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        return list(run_worker(Requests(requests=tuple(requests)))["replies"])

    def device(self) -> Device:
        return detect.detect()
