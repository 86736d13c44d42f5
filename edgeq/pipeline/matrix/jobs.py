"""Recipes × devices → jobs: what is measured where, and what an earlier run already has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.core import canonical
from edgeq.core.artifact import ARTIFACT_FILE
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.store import Store, code_version
from edgeq.core.terms import Progress
from edgeq.devices import detect
from edgeq.devices.catalogue import HERE, Device, load_device, matches
from edgeq.estimate.devices import Estimates
from edgeq.formats.registry import file_format
from edgeq.measure.records import Measurement
from edgeq.pipeline.build.build import Built, build_float, build_possible, settled
from edgeq.pipeline.check.cross_cpu import most_seconds, reachable
from edgeq.pipeline.check.expected import expected
from edgeq.pipeline.check.judge import Subject, judge
from edgeq.pipeline.check.reference import evaluation_of, reference_answers
from edgeq.pipeline.check.verdict import Verdict
from edgeq.pipeline.check.workflow import targets
from edgeq.pipeline.matrix.files import manifest_of
from edgeq.pipeline.matrix.job import Job
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.places.emulated.catalogue import stand_in_for
from edgeq.places.place import ALL_PASSES
from edgeq.quantize.storage import Format


@dataclass(frozen=True)
class Cell:
    """One artifact for one device. key: SHA-256 over everything its verdict depends on."""

    artifact: str
    device: str
    key: str


@dataclass(frozen=True)
class Work:
    """A job, the cells it fills, and the names of its artifacts in the order of its targets."""

    recipe: str
    job: Job
    cells: tuple[Cell, ...]
    artifacts: tuple[str, ...]


class Row:
    """One recipe, built, and the devices that it is judged for, by id.

    refused: the problem of each impossible variant.
    """

    def __init__(self, planned: Planned, devices: Mapping[str, Device], progress: Progress) -> None:
        self.name = planned.recipe.name
        self.devices = dict(devices)
        formats = {
            artifact.format
            for artifact in planned.plan.artifacts
            if targets(planned, artifact.format, self.devices)
        }
        self.built: list[Built] = []
        self.refused: list[Problem] = []
        if formats:
            self.built, self.refused = build_possible(planned, Store(), progress, sorted(formats))
        self.planned = planned = settled(planned, self.built)
        self._floats = {
            format: build_float(planned, Store(), progress, format)
            for format in sorted({item.artifact.format for item in self.built})
        }
        evaluation = evaluation_of(planned, Store(), progress) if formats else None
        self._evaluation = manifest_of(evaluation.path) if evaluation else None
        self._samples = evaluation.samples if evaluation else None
        self._only_timed = evaluation is not None and evaluation.only_timed
        self._reference = None
        if evaluation and not evaluation.only_timed:
            answers = reference_answers(planned, Store(), progress, evaluation)
            self._reference = manifest_of(answers)

    def works(self, on: str | None, full: bool, *, grouped: bool) -> Iterator[Work]:
        """The jobs: one for each format and place. grouped: devices of one place share a job.

        on: the place of all; by default, that of each device.
        """
        for format, reference in self._floats.items():
            own = [item for item in self.built if item.artifact.format == format]
            places: dict[tuple[str, str], dict[str, Device]] = {}
            for device in targets(self.planned, format, self.devices):
                address = on or address_of(device, format)
                shared = grouped and address != "emulate"  # a stand-in serves one device only
                places.setdefault((address, "" if shared else device.id), {})[device.id] = device
            for (address, _), devices in places.items():
                job = self._job(address, devices, own, reference, full)
                # It is not known which machine of a cluster it will be.
                stand_ins = [reachable(), most_seconds()]
                machine = [detect.detect().model_dump(mode="json"), stand_ins] if grouped else None
                cells = [
                    Cell(item.artifact.name, device.id, self._key(job, item, device, machine))
                    for item in own
                    for device in devices.values()
                ]
                yield Work(self.name, job, tuple(cells), tuple(item.artifact.name for item in own))

    def _job(
        self,
        address: str,
        devices: dict[str, Device],
        own: Sequence[Built],
        reference: Built,
        full: bool,
    ) -> Job:
        planned = self.planned
        ids = tuple(devices)
        return Job(
            code=code_version(),
            address=address,
            devices=devices,
            targets=tuple((manifest_of(item.path), ids) for item in own),
            full_precision=manifest_of(reference.path),
            reference=self._reference,
            evaluation=self._evaluation,
            only_timed=self._only_timed,
            samples=self._samples,
            budgets=planned.recipe.budgets,
            workload=planned.recipe.workload,
            full=full,
            alternatives=self._alternatives(own),
            expected={
                (item.artifact.name, id): self._expected(item, device)
                for item in own
                for id, device in devices.items()
            },
        )

    def _expected(self, item: Built, device: Device) -> Estimates:
        return expected(self.planned, item.artifact.name, device)

    def _alternatives(self, own: Sequence[Built]) -> dict[str, int]:
        """Downloads in bytes by variant: actual sizes of built ones, planned sizes of others."""
        format = own[0].artifact.format
        sizes = {
            each.variant.name: each.download_bytes
            for each in self.planned.plan.artifacts
            if each.format == format
        }
        return {**sizes, **{item.artifact.variant: item.artifact.bytes for item in own}}

    def _key(self, job: Job, item: Built, device: Device, machine: Any) -> str:
        evaluation = self._evaluation
        return canonical.sha256_of(
            {
                "artifact": _sha256(item),
                "float": job.full_precision.files[ARTIFACT_FILE],
                "reference": dict(job.reference.files) if job.reference else None,
                "device": device.model_dump(mode="json"),
                "address": job.address,
                "machine": machine,
                "budgets": job.budgets.model_dump(mode="json"),
                "workload": job.workload.model_dump(mode="json"),
                "evaluation": [dict(evaluation.files), job.samples] if evaluation else None,
                "full": job.full,
                "code": job.code,
            }
        )

    def not_run(self, cell: Cell, reason: str) -> Verdict:
        """The verdict of a cell whose place was unavailable: what is known without running it."""
        item = next(each for each in self.built if each.artifact.name == cell.artifact)
        device = self.devices[cell.device]
        own = [each for each in self.built if each.artifact.format == item.artifact.format]
        subject = Subject(
            item.artifact.variant,
            _nothing_of(item, reason),
            _nothing_of(self._floats[item.artifact.format], reason),
            detect.detect(),
            self._alternatives(own),
            expected=self._expected(item, device),
        )
        return judge(subject, device, self.planned.recipe.budgets)


def make_rows(recipes: Sequence[Path], devices: Sequence[str], progress: Progress) -> list[Row]:
    """Plan all recipes, then build them, for `devices`, by default each recipe's own.

    Raises InvalidInput, before anything is built, for all problems of all recipes, for two recipes
    of the same name, and for a device that runs no format of any recipe.
    """
    plans: list[Planned] = []
    problems: list[Problem] = []
    for recipe in recipes:
        progress(f"read {recipe}")
        try:
            plans.append(make_plan(recipe, weights=True))
        except InvalidInput as error:
            problems += error.problems
    names = [planned.recipe.name for planned in plans]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(
            Problem(name, "two recipes have this name", "give one of them another 'name'")
        )
    if problems:
        raise InvalidInput(problems)
    chosen = {device.id: device for device in map(load_device, devices)}
    runs = {artifact.format for planned in plans for artifact in planned.plan.artifacts}
    for id, device in chosen.items():
        if not runs & set(device.runtimes):
            what = f"{id} runs none of the recipes' formats: {', '.join(sorted(runs))}"
            raise InvalidInput(Problem("--device", what, f"it runs: {', '.join(device.runtimes)}"))
    return [Row(planned, chosen or planned.devices, progress) for planned in plans]


def address_of(device: Device, format: Format) -> str:
    """Where a device's artifacts run: as its profile says, else on its stand-in, else here."""
    if device.reach:
        return device.reach
    # Off Apple's systems, the reference executor runs Core ML packages, equally on every CPU.
    if (
        device.id == HERE
        or not file_format(format).runs_anywhere
        or matches(device, detect.detect())
    ):
        return HERE
    try:
        stand_in_for(device).close()
    except Missing:
        return HERE
    return "emulate"


def _nothing_of(item: Built, reason: str) -> Measurement:
    return Measurement(
        artifact=item.artifact.name,
        format=item.artifact.format,
        artifact_sha256=_sha256(item),
        download_bytes=item.artifact.bytes,
        weight_bytes=item.artifact.weight_bytes,
        failures={},
        absent=dict.fromkeys(ALL_PASSES, reason),
    )


def _sha256(item: Built) -> str:
    return canonical.sha256_of_file(item.path / ARTIFACT_FILE)
