"""Transfer files to another machine and back: only missing ones, by hash, verified on arrival."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.files import replacing
from edgeq.core.terms import Progress
from edgeq.core.units import format_bytes
from edgeq.devices.address import Address
from edgeq.places.answers import Answer, Done, Failure, Have, Laid, Sent, parse_answer
from edgeq.places.file_manifest import Hashes
from edgeq.places.link import PATIENCE_SECONDS, Link, Lost

_PIECE = 1 << 18  # bytes; each piece is acknowledged, so that a full disk stops the copying at once
_SLOWEST_DISK = 1 << 20  # bytes per second
_SLOWEST_LINE = 1 << 14
_LARGEST_FILE = 8 << 30  # bytes of a returned file
_Expected = TypeVar("_Expected", bound=Answer)


class _Refused(Answer):
    error: Failure


class FileTransfer:
    """Copies files through a link. `copied_bytes` counts the bytes sent, without headers."""

    def __init__(self, address: Address, progress: Progress) -> None:
        self.copied_bytes = 0
        self._address, self._progress = address, progress
        self._hashes = Hashes()

    async def supply(self, link: Link, files: Mapping[str, Path]) -> dict[str, str]:
        """Make sure that `files` are there; returns the hash of each by its name.

        Parts from an earlier, lost connection are continued. Raises InvalidInput if a file cannot
        be read or changes meanwhile, Missing if the disk there is full, Lost.
        """
        hashes = {name: self._hashes.of(path) for name, path in files.items()}
        paths = {hashes[name]: path for name, path in files.items()}
        answer = await self.ask(link, {"op": "have", "files": list(paths)}, Have)
        missing = {sha: have for sha in paths if (have := answer.have.get(sha, 0)) is not None}
        left = {sha: paths[sha].stat().st_size - have for sha, have in missing.items()}
        if sum(left.values()) > answer.free:
            raise self._full(sum(left.values()), answer.free, "")
        for sha, have in missing.items():
            needed = sum(left.values())
            # A part damaged between two connections is detected at its end, and dropped.
            if not (
                await self._put(link, paths[sha], sha, have, needed)
                or await self._put(link, paths[sha], sha, 0, needed)
            ):
                what = f"it changed while it was copied to {self._address.name}"
                remedy = "check again once it is written"
                raise InvalidInput(Problem(str(paths[sha]), what, remedy))
            del left[sha]
        return hashes

    async def lay(self, link: Link, files: Mapping[str, Path]) -> str:
        """Put `files` into a new directory there, by their names; returns its path."""
        tree = await self.supply(link, files)
        size = sum(path.stat().st_size for path in files.values())
        patience = PATIENCE_SECONDS + size / _SLOWEST_DISK  # if links cannot be made
        answer = await self.ask(link, {"op": "lay", "tree": tree}, Laid, patience=patience)
        return answer.path

    async def fetch(self, link: Link, there: str, path: Path) -> None:
        """Copy the file `there` to `path`, atomically.

        Raises Missing for one that is too large or was damaged, Lost.
        """
        digest, size, begun = hashlib.sha256(), 0, time.monotonic()
        with replacing(path) as partial:
            with partial.open("wb") as file:
                header, piece = await link.ask({"op": "get", "path": there})
                while header.get("op") == "piece":
                    size += len(piece)
                    self._refuse_endless(link, there, size, time.monotonic() - begun)
                    digest.update(piece)
                    file.write(piece)
                    header, piece = await link.next()
            if self.answer(Sent, header).sha256 != digest.hexdigest():
                what = f"{there} was damaged in transfer"
                raise Missing(Problem(self._address.name, what, "check again"))

    async def ask(
        self,
        link: Link,
        header: dict[str, Any],
        kind: type[_Expected],
        payload: bytes = b"",
        *,
        patience: float = PATIENCE_SECONDS,
        needed: int = 0,
    ) -> _Expected:
        """Send a request and return the answer; raises Missing for refusals of the other system,
        Lost.

        `needed` is the number of bytes still to be copied, for the message about a full disk.
        """
        answer, _ = await link.ask(header, payload, patience)
        return self.answer(kind, answer, needed)

    async def _put(self, link: Link, path: Path, sha256: str, have: int, needed: int) -> bool:
        """Send the file from the byte `have` on; returns whether the whole then has its hash."""
        size = path.stat().st_size
        offset = have if have <= size else 0
        first = True
        with path.open("rb") as file:
            file.seek(offset)
            while True:
                self._progress(
                    f"{self._address.name}: copying {path.name}, {format_bytes(needed)} to go"
                )
                piece = file.read(_PIECE)
                last = offset + len(piece) >= size
                header = {"op": "put", "sha256": sha256, "offset": offset, "first": first}
                answer = await self.ask(
                    link,
                    {**header, "last": last},
                    Done,
                    piece,
                    patience=PATIENCE_SECONDS + (offset / _SLOWEST_DISK if first else 0),
                    needed=needed,
                )
                self.copied_bytes += len(piece)
                offset, needed, first = offset + len(piece), needed - len(piece), False
                if last:
                    return answer.ok

    def answer(self, kind: type[_Expected], header: dict[str, Any], needed: int = 0) -> _Expected:
        """The answer in a message; raises Missing if it is an error of the system there."""
        if "error" not in header:
            return parse_answer(kind, header, self._address)
        error = parse_answer(_Refused, header, self._address).error
        if error.full:
            raise self._full(needed, error.free, error.text)
        remedy = f"name a writable directory: {self._address.name}?directory=/path/there"
        raise Missing(Problem(self._address.name, error.text, remedy))

    def _refuse_endless(self, link: Link, there: str, size: int, seconds: float) -> None:
        if size > _LARGEST_FILE:
            link.close()
            what = f"{there} is larger than {format_bytes(_LARGEST_FILE)}"
            raise Missing(Problem(self._address.name, what, "evaluate fewer samples"))
        if seconds > PATIENCE_SECONDS + size / _SLOWEST_LINE:
            link.close()
            raise Lost(f"was too slow: {format_bytes(size)} in {seconds:.0f} s")

    def _full(self, needed: int, free: int | None, said: str) -> Missing:
        what = f"no room on its disk: {said}" if said else "no room on its disk"
        if needed:
            what += f"; {format_bytes(needed)} more are needed"
        if free is not None:
            what += f", {format_bytes(free)} are free"
        remedy = "free some there, or name a directory on another disk: "
        remedy += f"{self._address.name}?directory=/path/there"
        return Missing(Problem(self._address.name, what, remedy))
