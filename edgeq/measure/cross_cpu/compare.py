"""Differences of an artifact's answers across CPUs, the operator responsible, and its fix.

Places are compared with this machine, configured as by the loader. An ONNX artifact is taken apart
(`edgeq.measure.cross_cpu.probe`) and run twice on each place: without any setting, to see the CPU's
own kernels, and as the loader configures it there, to see whether that is enough. A GGUF artifact
is compared by its logits. `edgeq.measure.cross_cpu.statistics` defines what counts as different.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from edgeq.core import canonical
from edgeq.core.artifact import ARTIFACT_FILE, Artifact, read_artifact
from edgeq.core.errors import EdgeqError, in_one_line
from edgeq.core.tasks import task_of
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import Progress
from edgeq.formats.registry import file_format
from edgeq.measure import arrays
from edgeq.measure.cross_cpu.probe import Operator, Probe, make_probe
from edgeq.measure.cross_cpu.records import (
    VARIABLE,
    Differences,
    OperatorDifference,
    PlaceDifferences,
    Status,
)
from edgeq.measure.cross_cpu.samples import CONTEXT, TEXTS, Feed, graph_feeds
from edgeq.measure.cross_cpu.statistics import WHOLE_TIMES, Expected, Statistics, compare
from edgeq.measure.inputs import Evaluation
from edgeq.places.place import Here, Place
from edgeq.places.process import PassFailed, PassStopped, Request
from edgeq.recipe.budgets import Workload

Array = npt.NDArray[Any]
_SHOWN = 5  # operators listed, largest difference first: the rest differ for the same reason
_STARTING = 20.0  # seconds that say nothing of a model: of starting processes on a busy machine
_GIVE_DATA = "give inputs that it takes: data.evaluation in the recipe, or --data FILE.npz"
_UNKNOWN_NOISE = 0.05  # of the whole answer, if no full precision is given


def compare_cpus(
    artifact_dir: Path,
    places: Sequence[Place],
    progress: Progress,
    float_dir: Path | None = None,
    most_seconds: float | None = None,
    keep: Callable[[PlaceDifferences], None] = lambda found: None,
    evaluation: Evaluation | None = None,
) -> Differences:
    """Compare the artifact's answers on `places` with this machine's.

    float_dir: full precision of the same model, from which the noise of whole answers is computed;
    without it, 5 % of their size is used. most_seconds: what a place may take, as estimated;
    once all so far have taken as much, no other is asked. Any time by default. A place that is
    unavailable, too slow or cannot run the artifact gets its reason. keep: gets each result as soon
    as it is known. evaluation: arrays that the model takes, if it takes any; else numbers are made
    up, which not every model runs on. Raises InvalidInput for a changed artifact or data that do
    not fit, Missing if a package to take it apart is missing.
    """
    artifact = read_artifact(artifact_dir)
    with TemporaryFolder() as folder:
        check = _Check(
            artifact_dir, artifact, float_dir, Path(folder), progress, most_seconds, evaluation
        )
        found = []
        for place in places:
            found.append(check.at(place))
            keep(found[-1])
    return Differences(
        artifact=artifact.name,
        artifact_sha256=canonical.sha256_of_file(artifact_dir / ARTIFACT_FILE),
        reference=check.reference.name,
        places=tuple(found),
    )


@dataclass(frozen=True)
class _Known:
    """The reference's answers to a probe, per output and sample, for `Statistics`.

    expected: by output; None if its shape is another for slightly other data, as that of found
    boxes: then there are no values to compare one by one.
    """

    exact: list[list[Array]]
    expected: list[Expected | None]


class _Check:
    """One artifact, its probes and the reference's answers to them."""

    def __init__(
        self,
        directory: Path,
        artifact: Artifact,
        float_dir: Path | None,
        folder: Path,
        progress: Progress,
        most_seconds: float | None,
        evaluation: Evaluation | None,
    ) -> None:
        self._artifact, self._folder, self._progress = artifact, folder, progress
        self._most_seconds, self._evaluation = most_seconds, evaluation
        self.reference = Here()
        self._probe: Probe | None = None
        progress(f"{artifact.name}: {self.reference.name}")
        if file_format(artifact.format).compared_by_operator:
            feeds = self._feeds_of(directory)
            remedy = _GIVE_DATA if artifact.text is None and evaluation is None else ""
            self._probe = make_probe(directory, artifact, feeds, remedy)
            self._bare = self._probe.write(folder / "bare", {})
            self._set = self._probe.write(folder / "set")
            self._feeds = self._probe.write_feeds(folder / "feeds.npz")
        self._whole = self._whole_request(directory)
        started = time.monotonic()
        self._known, self._answers, self._float = self._ask_reference(float_dir)
        self._seconds_here = time.monotonic() - started
        self._seconds_elsewhere = 0.0

    def at(self, place: Place) -> PlaceDifferences:
        """The differences on `place`."""
        expected = max(0.0, self._seconds_here - _STARTING) * place.slowdown
        if self._most_seconds is not None:
            if expected > self._most_seconds:
                return _not_run(place, _too_long(f"would take about {_minutes(expected)}"))
            if self._seconds_elsewhere > self._most_seconds:
                taken = _minutes(self._seconds_elsewhere)
                return _not_run(place, _too_long(f"the classes before took {taken}"))
        started = time.monotonic()
        try:
            return self._at(place)
        finally:
            self._seconds_elsewhere += time.monotonic() - started

    def _at(self, place: Place) -> PlaceDifferences:
        self._progress(f"{self._artifact.name}: {place.name}")
        try:
            return self._compared(place)
        except PassStopped as stopped:  # an emulator is slow, which does not affect answers
            return _not_run(place, str(stopped), settled=False)
        except PassFailed as failed:
            # It ran here, so a failure there is a difference too.
            return _result(place, "differs", str(failed), settled=False)
        except EdgeqError as error:
            return _not_run(place, in_one_line(error, place.name))

    def _compared(self, place: Place) -> PlaceDifferences:
        if self._probe is None:
            (whole,) = self._ask(place, [self._whole])
            return self._with_whole(_result(place, "same", ""), whole)
        probes = [self._probe_request(self._bare)]
        if self._seconds_here < _STARTING:  # else it is asked if it is needed
            probes.append(self._probe_request(self._set))
        bare, *as_set, whole = self._ask(place, [*probes, self._whole])
        return self._with_whole(self._operators(place, bare, as_set), whole)

    def _operators(
        self, place: Place, bare: list[Array], as_set: list[list[Array]]
    ) -> PlaceDifferences:
        """Each operator alone, without settings; if some differ, also with them.

        as_set: the answers with settings, if they are known.
        """
        assert self._probe is not None
        found = self._differing(bare)
        facts: dict[str, Any] = {"compared": len(self._probe.operators)}
        if not found:
            return _result(place, "same", "", **facts)
        facts |= {
            "operator": found[0].kind,
            "operators": tuple(found[:_SHOWN]),
            "differing": len(found),
        }
        from edgeq.models.onnx_session import CURES

        cure = CURES[place.device().arch]
        (found_set,) = as_set or self._ask(place, [self._probe_request(self._set)])
        left = self._differing(found_set)
        if not left:
            return _result(place, "cured", found[0].why, cure=cure, **facts)
        cured = self._probe.write(self._folder / quote(f"cured on {place.name}", safe=" "), cure)
        (answers,) = self._ask(place, [self._probe_request(cured)])
        if not self._differing(answers):
            why = f"{left[0].why}; the loader does not set its fix"
            return _result(place, "differs", why, cure=cure, **facts)
        return _result(place, "differs", f"{left[0].why}; no known setting fixes it", **facts)

    def _with_whole(self, found: PlaceDifferences, answers: list[Array]) -> PlaceDifferences:
        """`found` plus the comparison of whole outputs, which decides if no operator did."""
        full = self._float
        has_shape = full is None or _alike(full, self._answers)
        if not _alike(answers, self._answers):
            if not has_shape or found.status == "differs":
                return found
            what = "its outputs have another shape"
            return found.model_copy(update={"status": "differs", "reason": what})
        noises = [full] if full is not None and has_shape else []
        whole = compare(answers, self._answers, noises)
        known = (
            whole
            if noises
            else whole.model_copy(
                update={"noise_rms": _UNKNOWN_NOISE, "noise_largest": float("inf")}
            )
        )
        update: dict[str, Any] = {"whole": whole}
        faults = known.faults(WHOLE_TIMES)
        if faults and found.status != "differs":  # by an operator: that is the cause
            update |= {"status": "differs", "reason": f"its outputs: {'; '.join(faults)}"}
        return found.model_copy(update=update)

    def _differing(self, answers: list[Array]) -> list[OperatorDifference]:
        """Operators whose answers to a probe differ beyond noise, largest difference first."""
        assert self._probe is not None
        by_output = self._by_output(answers)
        found = [
            difference
            for operator in self._probe.operators
            if (difference := self._difference(operator, by_output)) is not None
        ]
        return sorted(found, key=lambda difference: -_distance(difference.statistics))

    def _difference(
        self, operator: Operator, answers: list[list[Array]]
    ) -> OperatorDifference | None:
        for output in operator.outputs:
            assert self._known is not None
            exact, expected = self._known.exact[output], self._known.expected[output]
            if expected is None:
                continue
            if _alike(answers[output], exact):
                statistics = expected.compare(answers[output])
                if exact[0].dtype in (np.int8, np.uint8):
                    statistics = _allow_a_code(statistics, exact)
                faults = statistics.faults()
            else:
                statistics, faults = _OTHER_SHAPE, ["its answer has another shape"]
            if faults:
                return OperatorDifference(
                    name=operator.name,
                    kind=operator.kind,
                    why=f"{operator.kind} {operator.name}: {'; '.join(faults)}",
                    statistics=statistics,
                )
        return None

    @functools.cache  # noqa: B019  one object a comparison
    def _feeds_of(self, directory: Path) -> list[Feed]:
        return graph_feeds(directory, self._artifact, self._evaluation)

    def _ask_reference(
        self, float_dir: Path | None
    ) -> tuple[_Known | None, list[Array], list[Array] | None]:
        """The reference's answers to the probe, and as a whole: artifact, full precision."""
        wholes = [self._whole]
        if float_dir is not None:
            wholes.append(self._whole.model_copy(update={"artifact": float_dir.absolute()}))
        probes = self._reference_probes()
        answers = self._ask(self.reference, [*probes, *wholes])
        known = self._as_known(answers[: len(probes)]) if probes else None
        whole, *full_precision = answers[len(probes) :]
        return known, whole, full_precision[0] if full_precision else None

    def _reference_probes(self) -> list[Request]:
        """The probe as configured, the same for perturbed inputs, and without rounded inputs."""
        if self._probe is None:
            return []
        nudged = self._probe.write_feeds(self._folder / "nudged.npz", nudged=True)
        exact = self._probe.write(self._folder / "exact", exact=True)
        return [
            self._probe_request(self._set),
            self._probe_request(self._set, nudged),
            self._probe_request(exact),
        ]

    def _as_known(self, answers: list[list[Array]]) -> _Known:
        own, moved, exactly = map(self._by_output, answers)
        outputs = list(zip(exactly, moved, own, strict=True))
        expected = [_expected(*output) if _alike(*output) else None for output in outputs]
        return _Known(exactly, expected)

    def _by_output(self, answers: list[Array]) -> list[list[Array]]:
        """Answers sample by sample as lists by output."""
        assert self._probe is not None
        count = sum(len(operator.outputs) for operator in self._probe.operators)
        return [answers[output::count] for output in range(count)]

    def _ask(self, place: Place, requests: list[Request]) -> list[list[Array]]:
        """The answers on `place` to each request, by one process where that is possible."""
        files = [self._folder / f"answers {index}.npy" for index in range(len(requests))]
        given = [
            request.model_copy(update={"outputs": outputs})
            for request, outputs in zip(requests, files, strict=True)
        ]
        place.run_each(given)
        answers = [list(arrays.read_arrays(outputs)) for outputs in files]
        for outputs in files:
            outputs.unlink()
        return answers

    def _probe_request(self, probe: Path, feeds: Path | None = None) -> Request:
        return Request(work="quality", artifact=probe, threads=1, arrays=feeds or self._feeds)

    def _whole_request(self, directory: Path) -> Request:
        directory, artifact = directory.absolute(), self._artifact
        request = Request(work="quality", artifact=directory, texts=TEXTS, threads=1)
        if task_of(artifact.task).generates:
            work = Workload(context=CONTEXT, prompt=1, generate=1)
            return request.model_copy(update={"workload": work})
        if artifact.text is not None:
            return request
        path = self._folder / "whole.npz"
        feeds = self._feeds_of(directory)
        if self._probe is not None:  # as many as have enough values
            feeds = feeds[: len(self._probe.feeds)]
        stacked: dict[str, Any] = {name: np.stack([f[name] for f in feeds]) for name in feeds[0]}
        np.savez(path, **stacked)
        return request.model_copy(update={"texts": (), "arrays": path})


def _result(place: Place, status: Status, reason: str, **facts: Any) -> PlaceDifferences:
    return PlaceDifferences(place=place.name, how=place.how, status=status, reason=reason, **facts)


def _not_run(place: Place, reason: str, *, settled: bool = True) -> PlaceDifferences:
    return PlaceDifferences(
        place=place.name, how="not run", status="not run", reason=reason, settled=settled
    )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes"


def _too_long(why: str) -> str:
    return f"{why}; name it in {VARIABLE} to wait for it"


def _alike(*answers: list[Array]) -> bool:
    """Whether these answers have the same shapes, sample by sample."""
    shapes = [[array.shape for array in each] for each in answers]
    return all(each == shapes[0] for each in shapes)


# None of the values can be compared.
_OTHER_SHAPE = Statistics(
    elements=0,
    rms=1.0,
    largest=1.0,
    noise_rms=0.0,
    noise_largest=0.0,
    norm_ratio=0.0,
    slope=0.0,
    slope_low=None,
    slope_high=None,
    finite=True,
)


def _distance(statistics: Statistics) -> float:
    """The size of the difference; not finite is the largest."""
    return statistics.rms if statistics.finite else float("inf")


def _expected(exact: list[Array], moved: list[Array], own: list[Array]) -> Expected:
    shifted = [_shift(*each) for each in zip(exact, moved, own, strict=True)]
    return Expected(exact, [own, shifted])


def _shift(exact: Array, moved: Array, own: Array) -> Array:
    """`exact`, shifted by as much as the reference's own answer."""
    with np.errstate(invalid="ignore"):  # infinities, which `compare` leaves out
        return np.asarray(exact.astype(np.float64) + moved.astype(np.float64) - own)


def _allow_a_code(statistics: Statistics, exact: list[Array]) -> Statistics:
    """Rounding may flip one code in a hundred, wherever codes themselves are the answer."""
    codes = np.concatenate([array.ravel() for array in exact]).astype(np.float64)
    size = float(np.sqrt(np.mean(codes**2))) or 1.0
    return statistics.model_copy(
        update={
            "noise_rms": max(statistics.noise_rms, 0.1 / size / 4),
            "noise_largest": max(statistics.noise_largest, 1 / size),
        }
    )
