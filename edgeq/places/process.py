"""Start a worker and report precisely how it ended."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import psutil
from pydantic import Field, TypeAdapter

from edgeq.core import child
from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.terms import Continuation, Effort, Pass, TextOrPair
from edgeq.devices.compute_units import ComputeUnits
from edgeq.recipe.budgets import Workload

# Far beyond a pass's duration; a worker that hangs must not hang the check.
TIMEOUT_SECONDS = {"memory": 900.0, "latency": 3600.0, "quality": 3600.0}
_LONGEST_SECONDS = 7200.0  # for passes without a limit of their own


class Request(Frozen):
    """The task of one worker.

    Latency and memory run the same input every time: tokens of `text`, repeated, or the arrays in
    the file `feed`, in the order of the inputs; without it, arrays of the declared shapes. Quality
    runs `texts`, or `samples` of the data set `arrays`, and writes every output to the file
    `outputs`. `feed` and `outputs` are files of `edgeq.measure.arrays`.

    For a language model, latency and memory are those of its `workload`, with prompts from `text`.
    Quality is its divergence from the artifact `reference` on `samples` windows of the text file
    `corpus`; or, for `texts`, the logits of every position, written to `outputs`; or, for `asked`,
    the log-likelihoods of the choices of each question, written there; or, for `ids`, the logits of
    the `last` of these tokens, None for all, run `piece` at a time. limits: time
    budgets by key (p50, p90, first_token in seconds; prompt, generation in tokens per second), for
    which the latency pass makes as many runs as a decision needs; after that it lets a language
    model write without a pause for `sustain_seconds`. `compute_units` are those of a Core ML
    package, as in `edgeq.load`.
    """

    work: Pass
    artifact: Path
    threads: int | None = None
    effort: Effort = "quick"
    text: str = "A sentence."
    feed: Path | None = None
    texts: tuple[TextOrPair, ...] = ()
    arrays: Path | None = None
    samples: int | None = None
    outputs: Path | None = None
    workload: Workload | None = None
    reference: Path | None = None
    corpus: Path | None = None
    asked: tuple[tuple[Continuation, ...], ...] = ()
    ids: tuple[int, ...] = ()
    last: int | None = None
    piece: int | None = None
    compute_units: ComputeUnits | None = None
    limits: dict[str, float] = Field(default_factory=dict)
    sustain_seconds: float | None = None


class Requests(Frozen):
    """Requests that one process serves in turn, and answers with `{"replies": [...]}`.

    For quality: what one of them leaves in memory, or warms up, does not change another's answers.
    """

    work: Literal["quality"] = "quality"
    requests: tuple[Request, ...]


_PROBLEMS = TypeAdapter(list[Problem])
_FAULTS = {fault.exit_code: fault for fault in (InvalidInput, Missing)}


class PassFailed(Exception):
    """A pass without a result; the message gives the worker's cause of death."""


class PassStopped(PassFailed):
    """A pass that took too long and was stopped."""


class WorkerRequest(Protocol):
    """A request to a worker, identified by `work`."""

    @property
    def work(self) -> str: ...

    def model_dump_json(self) -> str: ...


def run_worker(
    request: WorkerRequest,
    timeout_seconds: float | None = None,
    *,
    module: str = "edgeq.measure.worker",
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    python: child.Python | None = None,
) -> dict[str, Any]:
    """The reply of a fresh process of `module` to `request`.

    `prefix` goes before the worker's command line: a program that becomes or runs the rest.
    `environment` is added to this process's. `python` runs it, by default this process's own.

    Raises PassFailed if the worker ends without a reply: killed (the signal is named) or with an
    error; its standard error is then passed on. Raises PassStopped after `timeout_seconds`
    (default: `TIMEOUT_SECONDS`), and the worker's own InvalidInput or Missing if the request itself
    is at fault, not the artifact.
    """
    limit = timeout_seconds or TIMEOUT_SECONDS.get(request.work, _LONGEST_SECONDS)
    command = [*prefix, *(python or child.this_python()).command(module)]
    variables = {**os.environ, **(environment or {})}
    # Files, not pipes: a grandchild that outlives a killed worker would keep a pipe open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=errors, env=variables
        )
        try:
            worker.communicate(request.model_dump_json().encode(), timeout=limit)
        except subprocess.TimeoutExpired:
            raise stopped(request.work, limit) from None
        finally:
            _kill_tree(worker)
        return conclude(request.work, worker.returncode, _text(output), _text(errors))


def stopped(work: str, seconds: float) -> PassStopped:
    """The error for a worker stopped after `seconds`."""
    return PassStopped(f"the {work} pass did not finish within {seconds:g} s and was stopped")


def conclude(work: str, status: int, output: str, errors: str) -> dict[str, Any]:
    """The reply of a worker that ended with `status`, negative for a signal.

    `output` and `errors` are its standard output and error. Raises as `run_worker`.
    """
    if status == 0:
        try:
            return reply_of(output)
        except ValueError as error:
            raise PassFailed(f"the {work} pass replied {error}") from None
    if status in _FAULTS and (problems := problems_of(output)):
        raise _FAULTS[status](problems)
    sys.stderr.write(errors)
    raise PassFailed(_ending(work, status, errors))


def reply_of(output: str) -> dict[str, Any]:
    """The JSON object in `output`, with finite numbers; a ValueError says what else it is."""
    try:
        reply = json.loads(output, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError("text other than JSON with finite numbers") from None
    if not isinstance(reply, dict):
        raise ValueError("JSON that is not an object")
    return reply


def _refuse(word: str) -> None:
    raise ValueError(word)


def problems_of(output: str) -> list[Problem]:
    """Problems with the request reported by a worker; none if it ended without a message."""
    try:
        return _PROBLEMS.validate_json(output)
    except ValueError:
        return []


def _ending(work: str, status: int, message: str) -> str:
    if status < 0:
        name = _signal(-status)
        hint = ", which is how the system ends a process when memory runs out"
        return f"the {work} pass was killed by {name}{hint if name == 'SIGKILL' else ''}"
    reason = " ".join(_cause(message).split()[-60:])
    return f"the {work} pass ended with status {status}: {reason or 'it gave no reason'}"


def _cause(message: str) -> str:
    """The message; of a traceback, only the error at its end."""
    _, frame, rest = message.rpartition('\n  File "')
    if not frame:
        return message
    return "\n".join(itertools.dropwhile(lambda line: line[:1] == " ", rest.splitlines()[1:]))


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _kill_tree(worker: subprocess.Popen[bytes]) -> None:
    """End the worker and its children, if still running."""
    if worker.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(worker.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        worker.kill()
        worker.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
