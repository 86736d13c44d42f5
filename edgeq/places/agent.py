"""The agent on the other machine: stores files by hash, starts processes, and cleans up.

The `agent` files are sent as text and run on any POSIX Python of 3.10 or later, so they import only
the standard library. Both sides send a `beat` now and then; an agent that hears nothing ends its
processes, waits for the other side to come back, and then removes everything and ends. A new agent
for the same session takes over from the old one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from pathlib import Path
from typing import IO, Any

from edgeq.core.child import Python, trusted_path
from edgeq.places.agent_machine import facts, is_full, load_average
from edgeq.places.agent_room import Room
from edgeq.places.agent_wire import Gone, Inbox, Outbox

_KEPT_ERRORS = 1 << 16  # bytes of a process's standard error that are returned


class Agent:
    """Handles messages in order, until the other side leaves or is gone."""

    def __init__(self, inbox: Inbox, outbox: Outbox, room: Room) -> None:
        self._inbox, self._outbox, self._room = inbox, outbox, room
        self._worker: subprocess.Popen[bytes] | None = None
        self._hash = hashlib.sha256()  # of the file being copied
        signal.signal(signal.SIGTERM, self._give_way)

    def serve(self) -> None:
        """Answer every message; returns when the other side leaves, raises Gone if it is gone."""
        try:
            while True:
                kind, header, payload = self._inbox.get()
                if kind == "ended":  # of a process stopped earlier
                    continue
                if header["op"] == "leave":
                    return
                try:
                    reply = getattr(self, f"do_{header['op']}")(header, payload)
                except OSError as error:
                    reply = {"error": self._explain(error)}
                if reply is None:
                    return
                self._outbox.send(reply)
        finally:
            self._end_worker()

    def do_have(self, header: dict[str, Any], _: bytes) -> dict[str, Any]:
        """How many bytes of each file are here, None for all; and the free disk space."""
        have = {sha: self._present(sha) for sha in header["files"]}
        return {"have": have, "free": self._free()}

    def do_put(self, header: dict[str, Any], payload: bytes) -> dict[str, Any]:
        """Append to a file; after the last piece, its hash is verified."""
        sha, offset = header["sha256"], header["offset"]
        part = self._room.part(sha)
        if header["first"]:
            self._hash = _hash_of(part, offset)
        with part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.truncate()
            file.write(payload)
        self._hash.update(payload)
        if not header["last"]:
            return {"ok": True}
        if self._hash.hexdigest() != sha:
            part.unlink()
            return {"ok": False}
        part.rename(self._room.file(sha))
        return {"ok": True}

    def do_lay(self, header: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Link files by hash into a new directory of a run; returns its path."""
        run = Path(tempfile.mkdtemp(dir=self._room.path / "runs"))
        for name, sha in header["tree"].items():
            target = run / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._room.file(sha), target)
            except OSError as error:
                if is_full(error):
                    raise
                shutil.copyfile(self._room.file(sha), target)  # Android's apps may not link
        return {"path": str(run)}

    def do_unpack(self, header: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Unpack the archive of edgeq's source, unless it is present."""
        code = self._room.path / "code"
        if not code.exists():
            partial = self._room.path / "code.part"
            shutil.rmtree(partial, ignore_errors=True)
            with zipfile.ZipFile(self._room.file(header["sha256"])) as archive:
                archive.extractall(partial)
            partial.rename(code)
        return {"ok": True}

    def do_run(self, header: dict[str, Any], payload: bytes) -> dict[str, Any] | None:
        """Run a module of edgeq in a fresh process; None if the other side left meanwhile."""
        room = self._room.path
        python = Python(sys.executable, trusted_path(), str(room / "code" / "edgeq"))
        environment = {
            **os.environ,
            "EDGEQ_CACHE": str(room / "cache"),
            "TMPDIR": str(room / "tmp"),
            **header["environment"],
        }
        # Files, not pipes: a grandchild that outlives a killed process would keep a pipe open.
        with _scratch() as given, _scratch() as output, _scratch() as errors:
            given.write(payload)
            given.seek(0)
            self._worker = subprocess.Popen(
                python.command(header["module"]),
                stdin=given,
                stdout=output,
                stderr=errors,
                env=environment,
                cwd=room / "runs",
                start_new_session=True,
            )
            ending = self._await(self._worker, time.monotonic() + header["timeout"])
            self._end_worker()
            status = self._worker.wait()
            if status:  # CPython leaves truncated bytecode on a full disk, and later fails on it
                for cached in list((room / "code").rglob("__pycache__")):
                    shutil.rmtree(cached, ignore_errors=True)
            self._worker = None
            if ending == "message":  # a busy agent accepts no request except to leave
                return None
            return {
                "status": None if ending == "late" else status,
                "output": _text(output),
                "errors": _tail(errors),
            }

    def _await(self, worker: subprocess.Popen[bytes], deadline: float) -> str:
        """Wait for the first of "ended", "late" or a "message". Raises Gone."""

        def tell() -> None:
            worker.wait()
            self._inbox.put("ended", worker)

        threading.Thread(target=tell, daemon=True).start()
        while True:
            kind, value, _ = self._inbox.get(deadline)
            if kind != "ended" or value is worker:  # not the end of an earlier one
                return kind

    def do_get(self, header: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Send a file in pieces; the final reply is its hash."""
        digest = hashlib.sha256()
        with Path(header["path"]).open("rb") as file:
            while piece := file.read(1 << 18):
                digest.update(piece)
                self._outbox.send({"op": "piece"}, piece)
        return {"sha256": digest.hexdigest()}

    def do_drop(self, header: dict[str, Any], _: bytes) -> dict[str, Any]:
        """Remove the directory of a run."""
        shutil.rmtree(header["path"], ignore_errors=True)
        return {"ok": True}

    def do_load(self, _: dict[str, Any], __: bytes) -> dict[str, Any]:
        """How busy the machine was in the last minute."""
        return {"load_average": load_average()}

    def _present(self, sha256: str) -> int | None:
        part = self._room.part(sha256)
        if self._room.file(sha256).exists():
            return None
        return part.stat().st_size if part.exists() else 0

    def _free(self) -> int:
        return shutil.disk_usage(self._room.path).free

    def _explain(self, error: OSError) -> dict[str, Any]:
        return {"text": str(error), "full": is_full(error), "free": self._free()}

    def _end_worker(self) -> None:
        """Kill the rest of the process and its children: they are one process group."""
        if self._worker is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._worker.pid, signal.SIGKILL)

    def _give_way(self, *_: object) -> None:
        """A newer agent of this session requests the directory."""
        self._end_worker()
        os._exit(0)


def _hash_of(part: Path, size: int) -> hashlib._Hash:
    """The hash so far of the first `size` bytes of a growing file."""
    digest = hashlib.sha256()
    if size:
        with part.open("rb") as file:
            while piece := file.read(min(1 << 20, size - file.tell())):
                digest.update(piece)
    return digest


def _scratch() -> IO[bytes]:
    """A file in memory if possible, so that a full disk can still be reported."""
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("edgeq"), "w+b")
    return tempfile.TemporaryFile()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _tail(file: IO[bytes]) -> str:
    file.seek(max(0, file.seek(0, os.SEEK_END) - _KEPT_ERRORS))
    return file.read().decode(errors="replace")


def _let_go_of(streams: tuple[int, ...]) -> None:
    """Lets the login that started this end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in streams:
        os.dup2(nothing, stream)


def main() -> None:
    """Serve, and exit at once: a thread blocked on input would keep Python from ending."""
    status = 0
    try:
        _be_greeted()
    except BaseException:
        traceback.print_exc()
        status = 1
    os._exit(status)


def _be_greeted() -> None:
    """Receive the greeting, answer with the facts, and serve.

    The greeting: `session` and `directory` name the room, versions of `packages` are requested,
    `silence` and `linger` are seconds.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    inbox = Inbox(sys.stdin.buffer, silence=60.0)
    try:
        _, hello, _ = inbox.get()
    except Gone:
        return
    inbox.silence = hello["silence"]
    outbox = Outbox(output, hello["silence"] / 6)
    try:
        room = Room(hello["directory"], hello["session"])
    except OSError as error:
        outbox.send({"error": {"text": str(error), "full": is_full(error), "free": None}})
        return
    try:
        outbox.send({**facts(hello["packages"]), "room": str(room.path)})
        Agent(inbox, outbox, room).serve()
    except Gone:
        _let_go_of((0, 1, 2, output.fileno()))
        time.sleep(hello["linger"])  # the other side may come back and resume with the files here
    room.remove()
