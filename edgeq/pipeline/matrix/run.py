"""A matrix from recipes to verdicts: jobs are submitted, retried and, if necessary, given up."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import Progress
from edgeq.devices.catalogue import HERE
from edgeq.pipeline.build.build import Partly
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.matrix.job import Outcome
from edgeq.pipeline.matrix.jobs import Row, Work, make_rows
from edgeq.pipeline.matrix.records import Records
from edgeq.pipeline.matrix.worker_registry import WorkerRegistry

if TYPE_CHECKING:
    from distributed import Future

    from edgeq.pipeline.matrix.cluster import Cluster


PATIENCE_SECONDS = 30.0
"""How long to wait for a worker that has a job's devices, and for a lost scheduler."""
_LOOK_SECONDS = 0.2
# transfers of files to workers per job: each worker may die, or drop what it received
_DELIVERIES = 5


@dataclass(frozen=True)
class Judged:
    """A verdict of a matrix, and its recipe."""

    recipe: str
    verdict: Verdict

    def named(self) -> Verdict:
        """The verdict prefixed with the recipe's name: recipes may share names of artifacts."""
        name = f"{self.recipe}: {self.verdict.artifact}"
        return self.verdict.model_copy(update={"artifact": name})


def run_matrix(
    recipes: Sequence[Path],
    devices: Sequence[str],
    progress: Progress,
    *,
    scheduler: str | None = None,
    out: Path | None = None,
    on: str | None = None,
    full: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[Judged]:
    """Every artifact of `recipes` on `devices` (by default, each recipe's own), in their order.

    scheduler: the address of a dask scheduler whose workers offer devices as resources and measure
    on the machine they are on; without it, workers are started here. out: a directory that stores
    verdicts as they come; those already there are not measured again. on: the place of all devices,
    as in `edgeq check`; not with a scheduler.

    Whatever cannot run gets a verdict `not run` with the reason. Raises InvalidInput and Missing
    for problems found before anything is measured; Partly, with the verdicts of the others, if some
    variants are impossible.
    """
    _refuse(devices, scheduler, on, out)
    rows = make_rows(recipes, devices, progress)
    if scheduler is not None:
        _refuse([id for row in rows for id in row.devices], scheduler, on, out)
    works = [
        work
        for row in rows
        for work in row.works(HERE if scheduler else on, full, grouped=scheduler is None)
    ]
    run = _Run(rows, works, Records(out), progress, scheduler, patience_seconds)
    left = run.take_known()
    if left:
        from edgeq.pipeline.matrix.cluster import given_cluster, local_cluster

        cluster = given_cluster(scheduler) if scheduler else local_cluster(_places(left))
        with cluster as workers:
            run.measure(workers, left)
    refused = [problem for row in rows for problem in row.refused]
    if refused:
        raise Partly(refused, run.judged())
    return run.judged()


def _refuse(
    devices: Sequence[str], scheduler: str | None, on: str | None, out: Path | None
) -> None:
    if scheduler is not None and on is not None:
        what = "not with --scheduler: its workers measure on the machines they are on"
        raise InvalidInput(Problem("--on", what, "omit one of them"))
    if scheduler is not None and HERE in devices:
        what = f"{HERE!r} would be whichever machine a worker is on"
        raise InvalidInput(Problem("--device", what, "name the device by its profile"))
    if out is not None and out.exists() and not out.is_dir():
        raise InvalidInput(Problem("--out", f"{out} is a file", "name a directory"))


def _places(works: Sequence[Work]) -> list[dict[str, int]]:
    """Map each place to the devices that its worker serves; stand-ins run on this machine."""
    places: dict[str, dict[str, int]] = {}
    for work in works:
        address = HERE if work.job.address == "emulate" else work.job.address
        places.setdefault(address, {}).update(dict.fromkeys(work.job.devices, 1))
    return list(places.values())


class _Run:
    """The state of a matrix: which cells are filled, each once."""

    def __init__(
        self,
        rows: Sequence[Row],
        works: Sequence[Work],
        records: Records,
        progress: Progress,
        scheduler: str | None,
        patience: float,
    ) -> None:
        self._rows = {row.name: row for row in rows}
        self._works, self._records, self._progress = works, records, progress
        self._scheduler, self._patience = scheduler, patience
        self._found: dict[tuple[str, str, str], Verdict] = {}

    def take_known(self) -> list[Work]:
        """Take recorded verdicts; returns the remaining work without filled cells."""
        left = []
        for work in self._works:
            for cell in work.cells:
                known = self._records.find(work.recipe, cell.artifact, cell.device, cell.key)
                if known is not None:
                    self._found[work.recipe, cell.artifact, cell.device] = known
            rest = _without(work, self._found)
            if rest is not None:
                left.append(rest)
        return left

    def judged(self) -> list[Judged]:
        """All verdicts, by recipe, then artifact, then device."""
        return [
            Judged(row.name, self._found[row.name, item.artifact.name, id])
            for row in self._rows.values()
            for item in row.built
            for id in row.devices
            if (row.name, item.artifact.name, id) in self._found
        ]

    def measure(self, cluster: Cluster, works: Sequence[Work]) -> None:
        """Run all work, or give it up with the reason."""
        pending = {_key(work): work for work in works}
        futures = {key: cluster.submit(work.job, key) for key, work in pending.items()}
        sent: Counter[str] = Counter()
        registry = WorkerRegistry(cluster, self._patience)
        while pending:
            self._tell(len(pending), len(works))
            time.sleep(_LOOK_SECONDS)
            registry.look(set(work.job.devices) for work in pending.values())
            for key, work in list(pending.items()):
                outcome = self._outcome(cluster, futures[key], work, registry)
                if outcome is None:
                    continue
                if outcome.lacking:
                    sent[key] += 1
                    problem = self._deliver(cluster, work, outcome)
                    if sent[key] < _DELIVERIES:
                        worker = None if problem else outcome.worker
                        futures[key] = cluster.submit(work.job, key, worker)
                        continue
                    outcome = replace(outcome, problem=problem)
                with contextlib.suppress(Exception):  # a lost scheduler keeps nothing
                    futures[key].cancel()
                del pending[key]
                self._fill(work, outcome)

    def _outcome(
        self, cluster: Cluster, future: Future, work: Work, registry: WorkerRegistry
    ) -> Outcome | None:
        """The outcome of a job; None while it is running."""
        if future.status == "finished":
            return cluster.result(future)
        if future.status == "error":
            return Outcome("", problem=cluster.reason(future))
        if registry.lost:
            return Outcome("", problem=f"the scheduler {self._scheduler or ''} was lost")
        if registry.nobody_has(work.job.devices):
            return Outcome("", problem=self._nobody(work))
        if future.status == "cancelled":
            return Outcome("", problem="the scheduler dropped it, or was lost")
        return None  # also if its result was lost with a worker: then it is repeated

    def _nobody(self, work: Work) -> str:
        resources = " ".join(f"{id}=1" for id in work.job.devices)
        command = f'dask worker {self._scheduler} --resources "{resources}"'
        start = f"; on it, run: {command}" if self._scheduler else ""
        return f"no worker offers {', '.join(work.job.devices)}{start}"

    def _deliver(self, cluster: Cluster, work: Work, outcome: Outcome) -> str:
        """Send the files that a worker lacks; returns why that failed, or nothing."""
        paths = {
            digest: manifest.source(name)
            for manifest in work.job.manifests
            for name, digest in manifest.files.items()
        }
        for digest in outcome.lacking:
            self._progress(f"{outcome.worker}: sending {paths[digest].name}")
            try:
                cluster.send(outcome.worker, digest, paths[digest])
            except Exception as error:  # whatever the worker, dask or a disk raises
                return f"{paths[digest].name} could not be sent to {outcome.worker}: {error}"
        return ""

    def _fill(self, work: Work, outcome: Outcome) -> None:
        """Store a job's verdicts, or `not run` verdicts for cells that could not run."""
        row = self._rows[work.recipe]
        seen = {(verdict.artifact, verdict.device): verdict for verdict in outcome.verdicts}
        for cell in work.cells:
            verdict = seen.get((cell.artifact, cell.device))
            if verdict is None:
                verdict = row.not_run(cell, outcome.problem or "its files could not be sent")
            self._found[work.recipe, cell.artifact, cell.device] = verdict
            self._records.write(work.recipe, cell.key, verdict)

    def _tell(self, left: int, jobs: int) -> None:
        cells = sum(len(work.cells) for work in self._works)
        self._progress(f"{len(self._found)} of {cells} verdicts; {left} of {jobs} jobs left")


def _key(work: Work) -> str:
    """A readable name for the scheduler's pages, unique in a matrix."""
    format = work.cells[0].artifact.partition("-")[0]
    return "-".join([work.recipe, format, *work.job.devices])


def _without(work: Work, found: Mapping[tuple[str, str, str], Verdict]) -> Work | None:
    """`work` without the cells that are filled; None if none is left."""
    cells = tuple(
        cell for cell in work.cells if (work.recipe, cell.artifact, cell.device) not in found
    )
    ids = {cell.device for cell in cells}
    left = {(cell.artifact, cell.device) for cell in cells}
    targets = []
    for name, (manifest, devices) in zip(work.artifacts, work.job.targets, strict=True):
        own = tuple(id for id in devices if (name, id) in left)
        if own:
            targets.append((name, manifest, own))
    if not targets:
        return None
    job = replace(
        work.job,
        devices={id: device for id, device in work.job.devices.items() if id in ids},
        targets=tuple((manifest, own) for _, manifest, own in targets),
    )
    return Work(work.recipe, job, cells, tuple(name for name, _, _ in targets))
