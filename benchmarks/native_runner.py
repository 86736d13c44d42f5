"""Latency by edgeq-runner compared with latency by the Python worker, on this machine.

    python benchmarks/native_runner.py ARTIFACT [--library FILE] [--pairs 8] [--threads 1]

Whole latency passes of both take turns, so that what else the machine does meets both alike. The
ratio is the median of those of the pairs, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from pathlib import Path
from typing import Any

import onnxruntime

from edgeq.core.artifact import read_artifact
from edgeq.core.tasks import task_of
from edgeq.devices.address import Address
from edgeq.measure.order_statistics import quantile
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


def medians(reply: dict[str, Any]) -> list[float]:
    """Seconds of a run; of a language model, of a prompt and of a later token."""
    if "seconds" in reply:
        return [statistics.median(reply["seconds"])]
    later = [seconds for text in reply["tokens"] for seconds in text]
    return [statistics.median(reply["first"]), statistics.median(later)]


def main() -> None:
    """Measure and print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path, help="an artifact directory")
    (own,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    parser.add_argument("--library", type=Path, default=own, help="the runtime's library")
    parser.add_argument("--pairs", type=int, default=8, help="passes of each")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    artifact = read_artifact(arguments.artifact)
    request = Request(
        work="latency",
        artifact=arguments.artifact,
        threads=arguments.threads,
        workload=Workload() if task_of(artifact.task).generates else None,
    )
    address = Address("adb", library=str(arguments.library.absolute()))
    found: dict[str, list[list[float]]] = {"Python worker": [], "edgeq-runner": []}
    with RunnerPlace(_HereShell(address, lambda _: None)) as place:
        turns = list(zip(found, (run_worker, place.run), strict=True))
        for pair in range(arguments.pairs):
            for name, run in turns if pair % 2 else reversed(turns):
                found[name].append(medians(run(request)))
    print(f"{artifact.name}, {arguments.threads} threads, {arguments.pairs} passes each, in turns")
    python, native = (list(zip(*passes, strict=True)) for passes in found.values())
    for theirs, ours in zip(python, native, strict=True):
        ratios = quantile([b / a for a, b in zip(theirs, ours, strict=True)], 0.5)
        print(f"Python worker  median {statistics.median(theirs) * 1000:.3f} ms")
        print(f"edgeq-runner   median {statistics.median(ours) * 1000:.3f} ms")
        within = "within" if abs(ratios.seconds - 1) <= ALLOWED else "not within"
        interval = f"{ratios.low_seconds:.4f} to {ratios.high_seconds or float('inf'):.4f}"
        print(f"ratio {ratios.seconds:.4f} ({interval}), {within} 1 ± {ALLOWED}")


if __name__ == "__main__":
    main()
