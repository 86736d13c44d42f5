"""Finished steps of a long stage: files that are reused only if unchanged since they were
written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from edgeq.core import canonical
from edgeq.core.files import replacing

_DIGEST_LENGTH = 64


class Steps:
    """Files in `folder`, each with the SHA-256 of its bytes in front of its name.

    A file that a power cut left empty, zeroed or cut short is removed when it is looked for, and
    the step that wrote it is done again. One process at a time.

    >>> steps = Steps(Path("codes.steps"))  # doctest: +SKIP
    >>> with steps.writing("0.npz") as partial:  # doctest: +SKIP
    ...     partial.write_bytes(b"finished")
    >>> steps.find("0.npz").read_bytes()  # doctest: +SKIP
    b'finished'
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, name: str) -> Path | None:
        """The newest whole file that was written as `name`."""
        for path in sorted(self._all(name), key=lambda each: each.stat().st_mtime_ns, reverse=True):
            if canonical.sha256_of_file(path) == path.name[:_DIGEST_LENGTH]:
                return path
            path.unlink()
        return None

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A file to write, which takes the place of what was written as `name` before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._folder / name) as partial:
            yield partial
        written = self._folder / name
        place = self._folder / f"{canonical.sha256_of_file(written)}-{name}"
        earlier = [path for path in self._all(name) if path != place]
        written.replace(place)
        for path in earlier:
            path.unlink()

    def directory(self, name: str) -> Path:
        """A directory for files whose hashes a step records."""
        path = self._folder / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def below(self, name: str) -> Steps:
        """Steps of a part of the stage."""
        return Steps(self._folder / name)

    def _all(self, name: str) -> list[Path]:
        length = _DIGEST_LENGTH + 1 + len(name)
        return [path for path in self._folder.glob(f"*-{name}") if len(path.name) == length]
