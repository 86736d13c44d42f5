"""The protocol between edgeq and its agent on another machine, in the agent's version.

Sent to the other machine as text, so only the standard library is imported.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from typing import Any, BinaryIO, cast

_PIECE = 1 << 16


class Gone(Exception):
    """The other side is gone: its stream ended, or nothing came for too long."""


def pack(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """Encode a message: the length of the JSON (4 bytes, big-endian), the JSON, the payload."""
    words = json.dumps({**header, "size": len(payload)}).encode()
    return len(words).to_bytes(4, "big") + words + payload


class Inbox:
    """Messages from the other side, and ends of processes, in order of arrival.

    silence: seconds without a byte after which the other side counts as gone.
    """

    def __init__(self, stream: BinaryIO, silence: float) -> None:
        self.silence = silence
        self._stream = stream
        self._events: queue.Queue[tuple[str, Any, bytes]] = queue.Queue(maxsize=16)
        self._heard = time.monotonic()
        threading.Thread(target=self._read, daemon=True).start()

    def put(self, kind: str, value: Any) -> None:
        """Add an event that did not come from the other side."""
        self._events.put((kind, value, b""))

    def get(self, deadline: float | None = None) -> tuple[str, Any, bytes]:
        """The next ("message", header, payload), or what was `put`; ("late", None, b"") at the
        `deadline` of time.monotonic(). Raises Gone."""
        while True:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return "late", None, b""
            quiet = self._heard + self.silence - now
            if quiet <= 0:
                raise Gone
            wait = quiet if deadline is None else min(quiet, deadline - now)
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=wait)
                if event[0] == "gone":
                    raise Gone
                return event

    def _read(self) -> None:
        try:
            while True:
                header = json.loads(self._exactly(int.from_bytes(self._exactly(4), "big")))
                payload = self._exactly(header["size"])
                if header["op"] != "beat":
                    self._events.put(("message", header, payload))
        except (Gone, OSError, ValueError):
            self._events.put(("gone", None, b""))

    def _exactly(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = cast(Any, self._stream).read1(min(size, _PIECE))
            if not piece:
                raise Gone
            self._heard = time.monotonic()
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


class Outbox:
    """Messages to the other side, with a periodic beat in between."""

    def __init__(self, stream: BinaryIO, every: float) -> None:
        self._stream, self._every = stream, every
        self._lock = threading.Lock()
        threading.Thread(target=self._beat, daemon=True).start()

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Write one message; raises Gone if the other side no longer reads."""
        try:
            with self._lock:
                self._stream.write(pack(header, payload))
                self._stream.flush()
        except (OSError, ValueError):
            raise Gone from None

    def _beat(self) -> None:
        with contextlib.suppress(Gone):
            while True:
                time.sleep(self._every)
                self.send({"op": "beat"})
