"""Artifacts → Measurements: each pass in a fresh process, full precision measured alongside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from edgeq.core import canonical
from edgeq.core.artifact import ARTIFACT_FILE, Artifact, read_artifact
from edgeq.core.tasks import task_of
from edgeq.core.terms import Effort, Pass, Progress
from edgeq.devices.compute_units import ComputeUnits
from edgeq.formats.registry import file_format
from edgeq.measure import arrays, choices, generation, latency, tags
from edgeq.measure.answers import compared_answers
from edgeq.measure.forecast import foretell
from edgeq.measure.inputs import Evaluation, given_samples, given_to_language_model
from edgeq.measure.metrics import scores_of
from edgeq.measure.neighbours import neighbours
from edgeq.measure.quality import NotComparable, compare, pair_spearman, pair_spearman_bounds
from edgeq.measure.records import (
    Conditions,
    LanguageQuality,
    Measurement,
    Memory,
    Placement,
    Quality,
    Score,
)
from edgeq.measure.reference import (
    ANSWERS_FILE,
    CHOICES_FILE,
    read_recorded,
    reference_name,
)
from edgeq.measure.replies import (
    DivergenceReply,
    MemoryReply,
    Reply,
    RunTimesReply,
    TextTimesReply,
)
from edgeq.measure.sustained import summarise_moments
from edgeq.measure.text_answers import run_quality
from edgeq.places.place import ALL_PASSES, Place, Unreachable
from edgeq.places.process import PassFailed, Request
from edgeq.recipe.budgets import Workload

_T = TypeVar("_T")
_AnyReply = TypeVar("_AnyReply", bound=Reply)


class Bench:
    """Measures artifacts of one model in one place, together with `float_dir`, full precision.

    `reference` returns the quality reference: the original's recorded answers, or an artifact that
    answers here; by default `float_dir`. `folder` is an existing directory for scratch files that
    may be deleted after measuring, `workload` the work given to language models, `compute_units`
    the units that Core ML may use, on a Mac. `limits` are time budgets, by `Request`'s names:
    artifacts are timed until each is decided, or too much time has passed; after that they write
    for `sustain_seconds`, if they are language models. Raises InvalidInput if
    an artifact was changed or the evaluation data do not fit the model, Missing if the place lacks
    something or is lost.
    """

    def __init__(
        self,
        float_dir: Path,
        evaluation: Evaluation | None,
        *,
        place: Place,
        effort: Effort,
        progress: Progress,
        folder: Path,
        workload: Workload,
        compute_units: ComputeUnits | None = None,
        reference: Callable[[], Path] | None = None,
        limits: Mapping[str, float] | None = None,
        sustain_seconds: float | None = None,
    ) -> None:
        self._float_dir = float_dir
        self._float = read_artifact(float_dir)
        self._place = place
        self._cpu = place.device().chip
        self._absent = _absent(self._float, place)
        self._compute_units = compute_units
        self._limits, self._sustain_seconds = dict(limits or {}), sustain_seconds
        self._effort: Effort = effort
        self._progress = progress
        self._folder = folder
        self._is_language = task_of(self._float.task).generates
        if not self._is_language:  # data that do not fit are refused before the original runs
            self._data = given_samples(evaluation, float_dir, self._float, folder)
        self._reference = reference() if reference else float_dir
        self._reference_name = reference_name(self._reference)
        if self._is_language:
            self._data = given_to_language_model(
                evaluation, float_dir, self._float, workload, self._reference
            )
        self._float_outputs: Path | None = None
        self._choices: list[Any] | None = None
        self._float_memory: Memory | None = None
        self._float_failures: dict[Pass, str] = {}
        self._measure_float_once()

    def measure(self, artifact_dir: Path) -> tuple[Measurement, Measurement]:
        """Measure the artifact, and full precision within the same minutes."""
        artifact = read_artifact(artifact_dir)
        failures: dict[Pass, str] = {}
        float_failures = dict(self._float_failures)
        memory = self._memory(artifact_dir, artifact, failures)
        # Full precision is timed again for each artifact: the machine's load changes.
        baseline = self._times(self._float_dir, self._float, float_failures)
        pace = foretell(self._limits, baseline.get("latency") or baseline.get("generation"))
        if pace:
            self._progress(f"{artifact.name}: {pace}")
        if self._sustain_seconds is not None:
            minutes = self._sustain_seconds / 60
            self._progress(f"{artifact.name}: then writes for {minutes:g} min without a pause")
        asked = {"limits": self._limits, "sustain_seconds": self._sustain_seconds}
        times = self._times(artifact_dir, artifact, failures, **asked)
        quality = self._judged(artifact_dir, artifact, failures)
        return (
            self._measurement(
                artifact_dir, artifact, failures, {"memory": memory, **times, **quality}
            ),
            self._measurement(
                self._float_dir,
                self._float,
                float_failures,
                {"memory": self._float_memory, **baseline},
            ),
        )

    def timed_request(self, artifact_dir: Path) -> Request:
        """The request of the memory and latency passes for an artifact, with quick effort."""
        return Request(work="memory", artifact=artifact_dir, **self._data.timed)

    def _measure_float_once(self) -> None:
        failures = self._float_failures
        self._float_memory = self._memory(self._float_dir, self._float, failures)
        # A language model is compared token by token, both in one process.
        if self._data.judged is not None and not self._is_language:
            self._float_outputs = self._reference_outputs(failures)

    def _reference_outputs(self, failures: dict[Pass, str]) -> Path | None:
        """The file with the reference's outputs; None if it could not be run."""
        if read_recorded(self._reference) is not None:
            return self._reference / ANSWERS_FILE
        outputs = self._folder / "float.npy"
        artifact = read_artifact(self._reference)
        found = self._run("quality", Reply, self._reference, artifact, failures, outputs=outputs)
        return outputs if found else None

    def _memory(
        self, directory: Path, artifact: Artifact, failures: dict[Pass, str]
    ) -> Memory | None:
        found = self._run("memory", MemoryReply, directory, artifact, failures)
        return found and found[0].memory(found[1])

    def _times(
        self, directory: Path, artifact: Artifact, failures: dict[Pass, str], **more: Any
    ) -> dict[str, Any]:
        """The latency pass as the fields of a Measurement; none if it failed or was not run."""
        kind: type[RunTimesReply | TextTimesReply] = RunTimesReply
        if self._is_language:
            kind = TextTimesReply
        found = self._run("latency", kind, directory, artifact, failures, **more)
        if found is None:
            return {}
        return self._read("latency", failures, lambda: self._timed(*found)) or {}

    def _timed(
        self, reply: RunTimesReply | TextTimesReply, conditions: Conditions
    ) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        if reply.placement is not None:
            planned = reply.placement.model_dump()
            seen["placement"] = Placement(**planned, conditions=conditions)
        loading = (reply.load_seconds, conditions, reply.compiled_load_seconds)
        if isinstance(reply, TextTimesReply):
            prompt = self._data.timed["workload"]["prompt"]
            sustained = summarise_moments(reply.moments)
            seen["generation"] = generation.summarise(reply.timing, prompt, *loading, sustained)
        else:
            seen["latency"] = latency.summarise(reply.timing, *loading)
        return seen

    def _judged(
        self, directory: Path, artifact: Artifact, failures: dict[Pass, str]
    ) -> dict[str, Quality | LanguageQuality]:
        """The quality pass as the fields of a Measurement; none if it failed or has no data."""
        if self._is_language and self._data.judged is not None:
            said = self._run("quality", DivergenceReply, directory, artifact, failures)
            if said is None:
                return {}
            scores = self._scored_questions(directory, artifact, failures)
            judged = LanguageQuality(
                divergence=said[0].divergence, scores=scores, conditions=said[1]
            )
            return {"language": judged}
        if self._float_outputs is None:
            return {}
        outputs = self._folder / "artifact.npy"
        found = self._run("quality", Reply, directory, artifact, failures, outputs=outputs)
        if found is None:
            return {}
        _, conditions = found
        try:
            quality = self._read(
                "quality", failures, lambda: self._compare(artifact, outputs, conditions)
            )
        finally:
            outputs.unlink()
        return {"quality": quality} if quality else {}

    def _scored_questions(
        self, directory: Path, artifact: Artifact, failures: dict[Pass, str]
    ) -> dict[str, Score]:
        """The metrics of a language model's questions; none without any, or if they failed."""
        if not self._data.questions:
            return {}
        if self._choices is None:
            self._choices = self._answers(self._reference, read_artifact, failures)
        own = self._answers(directory, lambda _: artifact, failures)
        if own is None or self._choices is None:
            return {}
        found = choices.answered(self._data.questions, own, self._choices)
        return scores_of(task_of(artifact.task), found)

    def _answers(
        self, directory: Path, record: Callable[[Path], Artifact], failures: dict[Pass, str]
    ) -> list[Any] | None:
        """The log-likelihoods of every question's choices, recorded or computed."""
        recorded = directory / CHOICES_FILE
        if recorded.is_file():
            return list(arrays.read_arrays(recorded))
        outputs = self._folder / "choices.npy"
        artifact, given = record(directory), self._data.asked
        if self._run("quality", Reply, directory, artifact, failures, given, outputs=outputs):
            return list(arrays.read_arrays(outputs))
        return None

    def _compare(self, artifact: Artifact, outputs: Path, conditions: Conditions) -> Quality:
        assert self._float_outputs is not None
        files = (outputs, self._float_outputs)
        names = [value.name for value in artifact.outputs]
        wanted = [value.name for value in self._float.outputs]
        if names != wanted:
            raise NotComparable(f"its outputs are {names}, full precision's {wanted}")
        task = task_of(artifact.task)
        read: Iterable[Iterable[Any]] = [arrays.read_arrays(file) for file in files]
        if task.tags:
            read = zip(*tags.shared_tokens(*map(list, read)), strict=True)
        distances = {}
        if artifact.decoding is None:  # the distance of two tokens' numbers means nothing
            logits = not task.has_sentence_head
            distances = compare(names, *read, logits=logits, may_vary=task.detects)
        scores = self._data.scores
        spearman: list[float | None] = [None, None]
        nearest = spearman_bounds = None
        if task.embeds:
            vectors = [np.concatenate(list(arrays.read_arrays(file))) for file in files]
            nearest = neighbours((self._data.judged or {})["texts"], vectors[1], vectors[0])
            if scores is not None:
                spearman = [pair_spearman(rows, scores) for rows in vectors]
                spearman_bounds = pair_spearman_bounds(vectors[0], scores)
        answers = compared_answers(artifact, self._data, *files)
        return Quality(
            scores=answers.scores,
            changed=answers.changed,
            confused=answers.confused,
            redrawn=answers.redrawn,
            outputs=distances,
            spearman=spearman[0],
            spearman_bounds=spearman_bounds,
            float_spearman=spearman[1],
            neighbours=nearest,
            conditions=conditions,
        )

    def _measurement(
        self, directory: Path, artifact: Artifact, failures: dict[Pass, str], seen: dict[str, Any]
    ) -> Measurement:
        return Measurement(
            artifact=artifact.name,
            format=artifact.format,
            artifact_sha256=canonical.sha256_of_file(directory / ARTIFACT_FILE),
            download_bytes=artifact.bytes,
            weight_bytes=artifact.weight_bytes,
            reference=self._reference_name,
            proof=str(artifact.proof or ""),
            failures=failures,
            absent={work: why for work, why in self._absent.items() if not _has(work, seen)},
            **seen,
        )

    def _run(
        self,
        work: Pass,
        kind: type[_AnyReply],
        directory: Path,
        artifact: Artifact,
        failures: dict[Pass, str],
        given: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> tuple[_AnyReply, Conditions] | None:
        """The reply of a worker and its conditions; None if it failed or cannot run there."""
        if work in self._absent:
            return None
        self._progress(f"{artifact.name}: {work}")
        surroundings = self._place.surroundings()
        format = file_format(artifact.format)
        if given is None:
            given = self._data.judged if work == "quality" else self._data.timed
        request = Request(
            work=work,
            artifact=directory,
            effort=self._effort,
            compute_units=self._compute_units if format.has_compute_units else None,
            **(given or {}),
            **more,
        )
        try:
            said = self._reply_to(request)
        except PassFailed as error:
            failures[work] = str(error)
            return None
        except Unreachable as error:
            lost = "; ".join(problem.what for problem in error.problems)
            self._absent = {**dict.fromkeys(ALL_PASSES, lost), **self._absent}
            return None
        reply = self._read(work, failures, lambda: kind.model_validate(said))
        if reply is None:
            return None
        return reply, reply.conditions(cpu=self._cpu, place=surroundings, effort=self._effort)

    def _reply_to(self, request: Request) -> dict[str, Any]:
        if self._is_language and request.work == "quality" and not self._place.compares:
            return run_quality(self._place, request, self._folder)
        return self._place.run(request)

    def _read(self, work: Pass, failures: dict[Pass, str], make: Callable[[], _T]) -> _T | None:
        """The result of `make` on a reply; None, with the reason in `failures`, if the reply is
        invalid."""
        try:
            return make()
        except NotComparable as error:
            failures[work] = str(error)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            if self._place.runs_own_worker:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            failures[work] = f"{self._place.name} replied with what no {work} pass gives: {reason}"
        return None


def _has(work: Pass, seen: dict[str, Any]) -> bool:
    """Whether a pass gave a result before its place was lost."""
    fields = {"latency": ("latency", "generation"), "quality": ("quality", "language")}
    return any(seen.get(name) is not None for name in fields.get(work, (work,)))


def _absent(artifact: Artifact, place: Place) -> dict[Pass, str]:
    """Why passes cannot run there: only quality has a reference runtime for every format."""
    reason = f"on {place.name} the result would be meaningless: its CPU is emulated"
    absent = dict.fromkeys(ALL_PASSES - place.passes, reason)
    machine = place.device()
    format = file_format(artifact.format)
    if not format.runs_anywhere and format.name not in machine.runtimes:
        system = f"{machine.os} on {machine.arch}"
        reason = f"apps run {format.title} on Apple's systems only; this machine is {system}"
        absent |= {"memory": reason, "latency": reason}
    return absent
