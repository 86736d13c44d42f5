"""One piece of a matrix, as a worker does it: artifacts of one format, in one place."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from edgeq.core.errors import EdgeqError
from edgeq.core.store import code_version
from edgeq.devices.catalogue import HERE
from edgeq.devices.profile import Device
from edgeq.estimate.devices import Estimates
from edgeq.formats import runtime_cache
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.matrix.files import Lacking, Parcel, laid_out
from edgeq.places.process import PassFailed
from edgeq.places.transports import place_for
from edgeq.recipe.budgets import Budgets, Workload


@dataclass(frozen=True)
class Job:
    """What `check` is given, with files as parcels.

    address: where it runs, as seen from the worker; see `place_for` of `edgeq.places.transports`.
    targets: artifacts, each with the ids of `devices` that it is judged for. expected: by the names
    of artifact and device. reference: the original's answers to all of `samples`. code: the version
    of edgeq that asks; another would measure otherwise.
    """

    code: str
    address: str
    devices: Mapping[str, Device]
    targets: tuple[tuple[Parcel, tuple[str, ...]], ...]
    full_precision: Parcel
    reference: Parcel | None
    evaluation: Parcel | None
    samples: int | None
    budgets: Budgets
    workload: Workload
    full: bool
    alternatives: Mapping[str, int]
    expected: Mapping[tuple[str, str], Estimates]

    @property
    def parcels(self) -> list[Parcel]:
        """All that has to be there."""
        data = [parcel for parcel in (self.reference, self.evaluation) if parcel]
        return [*(artifact for artifact, _ in self.targets), self.full_precision, *data]


@dataclass(frozen=True)
class Outcome:
    """What became of a job: verdicts, files that are `lacking`, or a `problem` in words.

    worker: the address of who did it.
    """

    worker: str
    verdicts: tuple[Verdict, ...] = ()
    lacking: tuple[str, ...] = ()
    problem: str = ""


def do_job(job: Job) -> Outcome:
    """Do a job in this process, a worker's; whatever is wrong is told, not raised."""
    from distributed import get_worker

    worker = get_worker().address
    if job.code != code_version():
        return Outcome(worker, problem=f"the worker {worker} has another version of edgeq")
    _restore_environment()
    try:
        with _alone(job.address), laid_out(job.parcels) as there:
            return Outcome(worker, tuple(_check(job, there)))
    except Lacking as error:
        return Outcome(worker, lacking=error.digests)
    except EdgeqError as error:
        said = (f"{each.where}: {each.what}; {each.remedy}".rstrip("; ") for each in error.problems)
        return Outcome(worker, problem="; ".join(said))
    except (OSError, PassFailed) as error:
        return Outcome(worker, problem=str(error))


def _check(job: Job, there: Mapping[Path, Path]) -> list[Verdict]:
    from edgeq.pipeline.check.check import Evaluation, check
    from edgeq.pipeline.check.cross_cpu import Comparison
    from edgeq.places.emulated.catalogue import stand_in_for

    evaluation = None
    if job.evaluation is not None:
        evaluation = Evaluation(there[job.evaluation.path], job.samples)
    first = next(iter(job.devices.values()))
    full_precision = there[job.full_precision.path]

    def reference(given: Evaluation) -> Path:
        """Recorded answers, unless the place can only be asked for fewer samples."""
        is_whole = given.samples == job.samples
        return there[job.reference.path] if job.reference and is_whole else full_precision

    with contextlib.ExitStack() as stack:
        place = stack.enter_context(place_for(job.address, lambda: stand_in_for(first)))
        comparison = None
        if job.address == HERE:  # as in every check: beside what is measured on this machine
            comparison = stack.enter_context(Comparison(full_precision, _quiet))
        return check(
            {there[parcel.path]: [job.devices[id] for id in ids] for parcel, ids in job.targets},
            full_precision,
            place=place,
            budgets=job.budgets,
            evaluation=evaluation,
            full=job.full,
            reference=reference,
            alternatives=job.alternatives,
            progress=_quiet,
            workload=job.workload,
            expected=lambda artifact, device: job.expected[artifact, device.id],
            compare=comparison.of if comparison else None,
        )


def _quiet(step: str) -> None:
    """A worker shows nobody what it is at."""


def _alone(address: str) -> FileLock:
    """Held while something is measured: what runs beside it on the same machine would slow it."""
    machine = "here" if address == "emulate" else address
    name = hashlib.sha256(machine.encode()).hexdigest()[:16]
    folder = runtime_cache.private_directory()
    return FileLock(folder / f"measuring-{name}.lock")


def _restore_environment() -> None:
    """Take back what dask sets for its workers: one thread, and how memory is given back.

    The processes that measure would have it too, and be another app's.
    """
    import dask

    for name, value in dask.config.get("distributed.nanny.pre-spawn-environ", {}).items():
        if os.environ.get(name) == str(value):
            del os.environ[name]
