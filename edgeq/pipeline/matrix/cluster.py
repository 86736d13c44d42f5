"""Workers that measure: one per place, started here, or those of an existing cluster.

A device is a resource of a worker, by its id. A worker does one job at a time. If a job kills it,
its nanny restarts it, and the scheduler gives the job to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from multiprocessing import spawn
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.temporary import TemporaryFolder
from edgeq.pipeline.matrix.files import PIECE_BYTES, receive
from edgeq.pipeline.matrix.job import Job, Outcome, do_job
from edgeq.places.place import Unreachable

try:
    import dask
    from distributed import Client, Future, KilledWorker, Nanny, Scheduler, Security, SpecCluster
except ImportError:
    raise missing_extra("distributed", "matrix", "measure a matrix") from None

_DEATHS = 2
"""Number of workers that may die of a job before it is given up."""
_CONNECT_SECONDS, _FETCH_SECONDS = 15.0, 10.0
_LOCAL = {
    "distributed.scheduler.allowed-failures": _DEATHS,
    # Each would take time from measurements on this machine, or listen on a port for nothing.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


class Cluster:
    """The recipient of jobs. Use `local_cluster` or `given_cluster`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sender = secrets.token_hex(4)

    def submit(self, job: Job, key: str, worker: str | None = None) -> Future:
        """Give a job to a worker that has all of its devices; preferably to `worker`.

        The future's result is an Outcome.
        """
        return self._client.submit(
            do_job,
            job,
            key=f"edgeq-{key}-{secrets.token_hex(4)}",
            resources=dict.fromkeys(job.devices, 1),
            workers=[worker] if worker else None,
            allow_other_workers=worker is not None,
            pure=False,
        )

    def result(self, future: Future) -> Outcome | None:
        """The result of a finished job; None if it is not available now, as when a worker ended."""
        try:
            found: Outcome = future.result(timeout=_FETCH_SECONDS)
        except (TimeoutError, asyncio.TimeoutError, asyncio.CancelledError, CancelledError):
            return None
        return found

    def reason(self, future: Future) -> str:
        """Why a job ended with an error: it killed every worker, or a worker cannot read it."""
        error = future.exception()
        if isinstance(error, KilledWorker):
            return f"{error.allowed_failures + 1} workers died while they measured it"
        return f"a worker could not start it: {' '.join(str(error).split())}"

    def offered(self) -> list[set[str]] | None:
        """The device ids that each current worker offers; None if the scheduler does not answer."""
        if self._client.status != "running":
            return None
        try:
            workers = self._client.scheduler_info()["workers"]
        except (OSError, asyncio.TimeoutError):
            return None
        return [set(worker["resources"]) for worker in workers.values()]

    def send(self, worker: str, digest: str, path: Path) -> None:
        """Send the content of `path` to a worker. Raises OSError, ValueError if that fails."""
        size = path.stat().st_size
        with path.open("rb") as file:
            offset = 0
            while True:
                piece = file.read(PIECE_BYTES)
                last = offset + len(piece) >= size
                self._client.run(
                    receive, digest, self._sender, offset, piece, last, workers=[worker]
                )
                offset += len(piece)
                if last:
                    return


@contextlib.contextmanager
def local_cluster(places: Iterable[Mapping[str, int]]) -> Iterator[Cluster]:
    """Start a worker process on this machine for each of `places`, the devices it serves; ended
    after.

    Their Pythons are isolated by `edgeq.core.child`: multiprocessing starts them with `-c`. They
    talk on the loopback interface, with one-time keys: no other user of this machine can give them
    work.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(TemporaryFolder())
        stack.enter_context(_isolated_processes(Path(folder)))
        stack.enter_context(dask.config.set({**_LOCAL, "temporary-directory": folder}))
        security = Security.temporary()
        common: dict[str, Any] = {
            "nthreads": 1,
            "memory_limit": 0,
            "silence_logs": logging.CRITICAL,
            "env": {"TMPDIR": folder},  # files of a killed worker are removed with the rest
            "local_directory": folder,
            "security": security,
            "host": "127.0.0.1",
            "dashboard_address": "127.0.0.1:0",
        }
        scheduler = {
            "host": "127.0.0.1",
            "port": 0,
            "protocol": "tls://",
            "security": security,
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
        }
        cluster = stack.enter_context(
            SpecCluster(
                scheduler={"cls": Scheduler, "options": scheduler},
                workers={
                    index: {"cls": Nanny, "options": {**common, "resources": dict(devices)}}
                    for index, devices in enumerate(places)
                },
                security=security,
                silence_logs=logging.CRITICAL,
            )
        )
        yield Cluster(stack.enter_context(Client(cluster, set_as_default=False)))


@contextlib.contextmanager
def _isolated_processes(folder: Path) -> Iterator[None]:
    program, before = folder / "python", spawn.get_executable()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I "$@"\n', encoding="utf-8")
    program.chmod(0o700)
    spawn.set_executable(str(program))
    try:
        yield
    finally:
        spawn.set_executable(before)


@contextlib.contextmanager
def given_cluster(address: str) -> Iterator[Cluster]:
    """Connect to the cluster whose scheduler listens at `address`, and leave it running.

    Raises Unreachable if nothing answers there, InvalidInput if `address` is not an address.
    """
    try:
        client = Client(address, timeout=_CONNECT_SECONDS, set_as_default=False)
    except ValueError as error:
        what = f"{address!r} is not an address: {error}"
        remedy = "write it as the scheduler prints it: tcp://host:8786"
        raise InvalidInput(Problem("--scheduler", what, remedy)) from None
    except (OSError, asyncio.TimeoutError):
        what = f"no scheduler answers at {address}"
        remedy = "start one: dask scheduler --host 127.0.0.1"
        raise Unreachable(Problem("--scheduler", what, remedy)) from None
    with client:
        yield Cluster(client)
