"""Artifacts → Measurements: each pass in a fresh process, full precision always beside."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import canonical
from edgeq.artifact import ARTIFACT_FILE, TOKENIZER_FILE, Artifact, read_artifact
from edgeq.budgets import Workload
from edgeq.calibration import data
from edgeq.measure import arrays, generation, latency
from edgeq.measure.process import PassFailed, Request, run_worker
from edgeq.measure.quality import NotComparable, compare, pair_spearman
from edgeq.measure.records import (
    Conditions,
    Effort,
    Generation,
    LanguageQuality,
    Latency,
    Measurement,
    Memory,
    Pass,
    Quality,
)
from edgeq.runners import text_passes
from edgeq.runners.sample_passes import sequence
from edgeq.runners.text import TextEncoder

Progress = Callable[[str], None]
_TEXT_FOR_TIMING = 4000  # characters: more than 128 tokens of any tokenizer worth timing


@dataclass(frozen=True)
class Evaluation:
    """The data set quality is measured on: texts, scored pairs, arrays, or one long text.

    samples: how many to take; of the long text of a language model, windows. See calibration.data.
    """

    path: Path
    samples: int | None = None


@dataclass(frozen=True)
class _Data:
    """What the passes are given, as `Request` names it; scores where there are some."""

    timed: dict[str, Any] = field(default_factory=dict)
    judged: dict[str, Any] | None = None
    scores: tuple[float, ...] | None = None


class Bench:
    """Measures artifacts of one model on this machine beside `float_dir`, full precision.

    `folder` is an existing directory for scratch files that may go once everything is measured,
    `workload` what a language model is asked for. Raises InvalidInput if an artifact was changed
    or the evaluation data do not fit the model.
    """

    def __init__(
        self,
        float_dir: Path,
        evaluation: Evaluation | None,
        *,
        cpu: str,
        effort: Effort,
        progress: Progress,
        folder: Path,
        workload: Workload,
    ) -> None:
        self._float_dir = float_dir
        self._float = read_artifact(float_dir)
        self._cpu = cpu
        self._effort: Effort = effort
        self._progress = progress
        self._folder = folder
        self._is_language = self._float.task == "text-generation"
        if self._is_language:
            self._data = _read_corpus(evaluation, float_dir, self._float, workload)
        else:
            self._data = _read(evaluation, float_dir, self._float, folder)
        self._float_outputs: Path | None = None
        self._float_memory: Memory | None = None
        self._float_failures: dict[Pass, str] = {}
        self._measure_float_once()

    def measure(self, artifact_dir: Path) -> tuple[Measurement, Measurement]:
        """What was seen of the artifact, and of full precision beside it in the same minutes."""
        artifact = read_artifact(artifact_dir)
        failures: dict[Pass, str] = {}
        float_failures = dict(self._float_failures)
        memory = self._memory(artifact_dir, artifact, failures)
        # Full precision is timed again beside each artifact: the machine's load changes.
        beside = self._times(self._float_dir, self._float, float_failures)
        times = self._times(artifact_dir, artifact, failures)
        quality = self._judged(artifact_dir, artifact, failures)
        return (
            _measurement(artifact_dir, artifact, failures, memory=memory, **times, **quality),
            _measurement(
                self._float_dir, self._float, float_failures, memory=self._float_memory, **beside
            ),
        )

    def _measure_float_once(self) -> None:
        failures = self._float_failures
        self._float_memory = self._memory(self._float_dir, self._float, failures)
        # A language model is compared token by token, both in one process.
        if self._data.judged is not None and not self._is_language:
            outputs = self._folder / "float.npy"
            if self._run("quality", self._float_dir, self._float, failures, outputs=outputs):
                self._float_outputs = outputs

    def _memory(
        self, directory: Path, artifact: Artifact, failures: dict[Pass, str]
    ) -> Memory | None:
        found = self._run("memory", directory, artifact, failures)
        if found is None:
            return None
        reply, conditions = found
        return Memory(**reply, conditions=conditions)

    def _times(
        self, directory: Path, artifact: Artifact, failures: dict[Pass, str]
    ) -> dict[str, Latency | Generation]:
        """The latency pass as the fields of a Measurement; none if it failed."""
        found = self._run("latency", directory, artifact, failures)
        if found is None:
            return {}
        reply, conditions = found
        load_seconds = reply["load_seconds"]
        if self._is_language:
            timing = generation.Timing(reply["first"], reply["tokens"])
            prompt = self._data.timed["workload"]["prompt"]
            return {"generation": generation.summarise(timing, prompt, load_seconds, conditions)}
        seconds = reply["seconds"]
        enough = len(seconds) >= latency.P99_SAMPLES
        times = Latency(
            load_seconds=load_seconds,
            warmup_runs=latency.WARMUP_RUNS,
            runs=reply["runs"],
            samples_seconds=seconds,
            p50=latency.quantile(seconds, 0.5),
            p90=latency.quantile(seconds, 0.9),
            p99=latency.quantile(seconds, 0.99) if enough else None,
            conditions=conditions,
        )
        return {"latency": times}

    def _judged(
        self, directory: Path, artifact: Artifact, failures: dict[Pass, str]
    ) -> dict[str, Quality | LanguageQuality]:
        """The quality pass as the fields of a Measurement; none if it failed or has no data."""
        if self._is_language and self._data.judged is not None:
            found = self._run("quality", directory, artifact, failures)
            if found is None:
                return {}
            reply, conditions = found
            return {"language": LanguageQuality(**reply, conditions=conditions)}
        if self._float_outputs is None:
            return {}
        outputs = self._folder / "artifact.npy"
        found = self._run("quality", directory, artifact, failures, outputs=outputs)
        if found is None:
            return {}
        _, conditions = found
        try:
            return {"quality": self._compare(artifact, outputs, conditions)}
        except NotComparable as error:
            failures["quality"] = str(error)
            return {}
        finally:
            outputs.unlink()

    def _compare(self, artifact: Artifact, outputs: Path, conditions: Conditions) -> Quality:
        assert self._float_outputs is not None
        files = (outputs, self._float_outputs)
        names = [value.name for value in artifact.outputs]
        wanted = [value.name for value in self._float.outputs]
        if names != wanted:
            raise NotComparable(f"its outputs are {names}, full precision's {wanted}")
        read = (arrays.read_arrays(file) for file in files)
        distances = compare(names, *read, logits=artifact.text is None)
        scores = self._data.scores
        spearman: list[float | None] = [None, None]
        if scores is not None:
            vectors = (np.concatenate(list(arrays.read_arrays(file))) for file in files)
            spearman = [pair_spearman(rows, scores) for rows in vectors]
        return Quality(
            outputs=distances,
            spearman=spearman[0],
            float_spearman=spearman[1],
            conditions=conditions,
        )

    def _run(
        self,
        work: Pass,
        directory: Path,
        artifact: Artifact,
        failures: dict[Pass, str],
        **more: Any,
    ) -> tuple[dict[str, Any], Conditions] | None:
        """The reply of a worker and the conditions it ran under; None if it failed."""
        self._progress(f"{artifact.name}: {work}")
        load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        given = self._data.judged if work == "quality" else self._data.timed
        request = Request(
            work=work, artifact=directory, effort=self._effort, **(given or {}), **more
        )
        try:
            reply = run_worker(request)
        except PassFailed as error:
            failures[work] = str(error)
            return None
        words = ("runtime", "instructions", "threads", "prepared", "warnings", "inputs")
        conditions = Conditions(
            **{word: reply.pop(word) for word in words},
            cpu=self._cpu,
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            load_average=load_average,
            effort=self._effort,
        )
        return reply, conditions


def _read_corpus(
    evaluation: Evaluation | None, float_dir: Path, artifact: Artifact, workload: Workload
) -> _Data:
    """What the passes of a language model are given: the beginning of a text, or all of it."""
    timed: dict[str, Any] = {"workload": workload.model_dump()}
    if evaluation is None:
        return _Data(timed)
    text = data.read_corpus(evaluation.path)
    window = text_passes.window_tokens(workload.context)
    text_passes.check_corpus(float_dir, artifact, evaluation.path, evaluation.samples, window)
    judged = {
        **timed,
        "reference": float_dir.absolute(),
        "corpus": evaluation.path.absolute(),
        "samples": evaluation.samples,
    }
    return _Data({**timed, "text": text[:_TEXT_FOR_TIMING]}, judged)


def _read(
    evaluation: Evaluation | None, directory: Path, artifact: Artifact, folder: Path
) -> _Data:
    """The evaluation data as workers take them; nothing large is handed to a memory pass."""
    if evaluation is None:
        return _Data()
    path, samples = evaluation.path, evaluation.samples
    scores = None
    if artifact.text is None:
        ranks = {value.name: len(value.shape) for value in artifact.inputs}
        feeds = data.feeds(path, data.read_arrays(path, samples), ranks)
        feed, first = folder / "feed.npy", next(feeds)
        arrays.write_arrays(feed, [first[value.name] for value in artifact.inputs])
        judged = {"arrays": path.absolute(), "samples": samples}
        return _Data({"feed": feed}, judged, None)
    if path.suffix in data.PAIR_SUFFIXES:
        pairs = data.read_pairs(path, samples)
        texts, scores = (*pairs.first, *pairs.second), pairs.scores
    else:
        texts = tuple(data.read_texts(path, samples))
    text = " ".join(texts)[:_TEXT_FOR_TIMING]
    timed: dict[str, Any] = {"text": text}
    if TOKENIZER_FILE in artifact.files:  # a file of its own, whose memory can be told apart
        feed = folder / "feed.npy"
        encoder = TextEncoder((directory / TOKENIZER_FILE).read_bytes(), artifact.text.max_tokens)
        names = [value.name for value in artifact.inputs]
        filled = sequence(encoder.feeds(text, names), artifact.text.max_tokens)
        arrays.write_arrays(feed, [filled[name] for name in names])
        timed["feed"] = feed
    return _Data(timed, {"texts": texts}, scores)


def _measurement(
    directory: Path, artifact: Artifact, failures: dict[Pass, str], **seen: Any
) -> Measurement:
    return Measurement(
        artifact=artifact.name,
        artifact_sha256=canonical.sha256_of_file(directory / ARTIFACT_FILE),
        download_bytes=artifact.bytes,
        weight_bytes=artifact.weight_bytes,
        failures=failures,
        **seen,
    )
