"""A job of a matrix, as a worker does it: artifacts of one format, in one place."""

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
from edgeq.pipeline.matrix.files import FileManifest, Lacking, laid_out
from edgeq.places.process import PassFailed
from edgeq.places.transports import place_for
from edgeq.recipe.budgets import Budgets, Workload


@dataclass(frozen=True)
class Job:
    """The arguments of `check`, with manifests of files.

    address: where it runs, as seen from the worker; see `place_for` of `edgeq.places.transports`.
    targets: artifacts, each with the ids of `devices` that it is judged for. expected: by the names
    of artifact and device. reference: the original's answers to all of `samples`. code: the
    requesting version of edgeq; another would measure differently.
    """

    code: str
    address: str
    devices: Mapping[str, Device]
    targets: tuple[tuple[FileManifest, tuple[str, ...]], ...]
    full_precision: FileManifest
    reference: FileManifest | None
    evaluation: FileManifest | None
    samples: int | None
    only_timed: bool
    budgets: Budgets
    workload: Workload
    full: bool
    alternatives: Mapping[str, int]
    expected: Mapping[tuple[str, str], Estimates]

    @property
    def manifests(self) -> list[FileManifest]:
        """Manifests of all required files."""
        data = [manifest for manifest in (self.reference, self.evaluation) if manifest]
        return [*(artifact for artifact, _ in self.targets), self.full_precision, *data]


@dataclass(frozen=True)
class Outcome:
    """The result of a job: verdicts, files that are `lacking`, or a `problem` in words.

    worker: the address of the worker that did it.
    """

    worker: str
    verdicts: tuple[Verdict, ...] = ()
    lacking: tuple[str, ...] = ()
    problem: str = ""


def do_job(job: Job) -> Outcome:
    """Do a job in this worker process; errors are returned, not raised."""
    from distributed import get_worker

    worker = get_worker().address
    if job.code != code_version():
        return Outcome(worker, problem=f"the worker {worker} has another version of edgeq")
    _restore_environment()
    try:
        with _alone(job.address), laid_out(job.manifests) as there:
            return Outcome(worker, tuple(_check(job, there)))
    except Lacking as error:
        return Outcome(worker, lacking=error.digests)
    except EdgeqError as error:
        said = (f"{each.where}: {each.what}; {each.remedy}".rstrip("; ") for each in error.problems)
        return Outcome(worker, problem="; ".join(said))
    except (OSError, PassFailed) as error:
        return Outcome(worker, problem=str(error))


def _check(job: Job, there: Mapping[Path, Path]) -> list[Verdict]:
    from edgeq.pipeline.check.check import CheckRequest, Evaluation, check
    from edgeq.pipeline.check.cross_cpu import Comparison
    from edgeq.places.emulated.catalogue import stand_in_for

    evaluation = None
    if job.evaluation is not None:
        evaluation = Evaluation(there[job.evaluation.path], job.samples, only_timed=job.only_timed)
    first = next(iter(job.devices.values()))
    full_precision = there[job.full_precision.path]

    def reference(given: Evaluation) -> Path:
        """Recorded answers, unless the place can only handle fewer samples."""
        is_whole = given.samples == job.samples
        return there[job.reference.path] if job.reference and is_whole else full_precision

    with contextlib.ExitStack() as stack:
        place = stack.enter_context(place_for(job.address, lambda: stand_in_for(first)))
        comparison = None
        if job.address == HERE:  # as in every check: compared with measurements on this machine
            comparison = stack.enter_context(Comparison(full_precision, _quiet, evaluation))
        targets = {
            there[manifest.path]: [job.devices[id] for id in ids] for manifest, ids in job.targets
        }
        request = CheckRequest(
            targets=targets,
            float_dir=full_precision,
            budgets=job.budgets,
            evaluation=evaluation,
            alternatives=job.alternatives,
            full=job.full,
            workload=job.workload,
            expected=lambda artifact, device: job.expected[artifact, device.id],
            compare=comparison.of if comparison else None,
            reference=reference,
        )
        return check(request, place, _quiet)


def _quiet(step: str) -> None:
    """Discard progress: a worker has no terminal."""


def _alone(address: str) -> FileLock:
    """A lock held while measuring: another job on the same machine would slow it."""
    machine = "here" if address == "emulate" else address
    name = hashlib.sha256(machine.encode()).hexdigest()[:16]
    folder = runtime_cache.private_directory()
    return FileLock(folder / f"measuring-{name}.lock")


def _restore_environment() -> None:
    """Undo dask's settings for its workers: one thread, and memory trimming.

    The measuring processes would inherit them, and behave unlike an app.
    """
    import dask

    for name, value in dask.config.get("distributed.nanny.pre-spawn-environ", {}).items():
        if os.environ.get(name) == str(value):
            del os.environ[name]
