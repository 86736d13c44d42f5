"""Latency by edgeq-runner compared with latency by the Python worker, on this machine.

    python benchmarks/native_runner.py ARTIFACT [--library FILE] [--pairs 16] [--threads 1]

Whole latency passes of both take turns. What else the machine does only adds time, so the ratio is
that of the first deciles of all runs; medians are printed, too.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgeq.core.artifact import read_artifact
from edgeq.core.tasks import task_of
from edgeq.devices.address import Address
from edgeq.places.process import Request, run_worker
from edgeq.places.runner.place import RunnerPlace
from edgeq.places.runner.shell import AdbShell, Process
from edgeq.recipe.budgets import Workload

ALLOWED = 0.02


class _HereShell(AdbShell):
    """This machine's own shell."""

    default_directory = "/var/tmp"

    async def _start(self, command: str) -> Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            "sh", "-c", command, stdin=pipe, stdout=pipe, stderr=pipe
        )


def times(reply: dict[str, Any]) -> list[list[float]]:
    """Seconds of every run; of a language model, of every prompt and of every later token."""
    if "seconds" in reply:
        return [reply["seconds"]]
    return [reply["first"], [seconds for text in reply["tokens"] for seconds in text]]


def main() -> None:
    """Measure and print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path, help="an artifact directory")
    (own,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    parser.add_argument("--library", type=Path, default=own, help="the runtime's library")
    parser.add_argument("--pairs", type=int, default=16, help="passes of each")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    artifact = read_artifact(arguments.artifact)
    request = Request(
        work="latency",
        artifact=arguments.artifact,
        threads=arguments.threads,
        workload=Workload(context=256) if task_of(artifact.task).generates else None,
    )
    address = Address("adb", library=str(arguments.library.absolute()))
    found: list[list[list[list[float]]]] = [[], []]
    with RunnerPlace(_HereShell(address, lambda _: None)) as place:
        turns = list(zip(found, (run_worker, place.run), strict=True))
        for pair in range(arguments.pairs):
            for passes, run in turns if pair % 2 else reversed(turns):
                passes.append(times(run(request)))
    print(f"{artifact.name}, {arguments.threads} threads, {arguments.pairs} passes each, in turns")
    python, native = (list(zip(*passes, strict=True)) for passes in found)
    for both in zip(python, native, strict=True):
        fast, median = (
            [np.quantile(np.concatenate(passes), q) * 1000 for passes in both] for q in (0.1, 0.5)
        )
        print(f"Python worker  {fast[0]:.3f} ms, median {median[0]:.3f} ms")
        print(f"edgeq-runner   {fast[1]:.3f} ms, median {median[1]:.3f} ms")
        ratio = fast[1] / fast[0]
        within = "within" if abs(ratio - 1) <= ALLOWED else "not within"
        print(f"ratio {ratio:.4f}, of medians {median[1] / median[0]:.4f}: {within} 1 ± {ALLOWED}")


if __name__ == "__main__":
    main()
