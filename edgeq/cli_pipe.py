"""Standard output and error that end the process quietly once nobody reads them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar, cast

_SIGPIPE = 13
STATUS = 128 + _SIGPIPE
"""As a shell tells the end of a tool that wrote to a closed pipe, such as `| head -1`."""

T = TypeVar("T")


class _Guarded:
    """A text file; writing where the other end is closed raises SystemExit with `STATUS`.

    SIGPIPE stays ignored, as Python has it: connections to workers and devices may close, too.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """See `io.TextIOBase.write`."""
        return self._guarded(lambda: self._file.write(text))

    def flush(self) -> None:
        """See `io.IOBase.flush`."""
        self._guarded(self._file.flush)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except BrokenPipeError:
            # What is still buffered goes nowhere, or Python would complain of it at its end.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._file.fileno())
            os.close(nowhere)
            raise SystemExit(STATUS) from None


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Guard standard output and standard error, and flush what was written."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("Any", _Guarded(file)) for file in before)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()  # a short text is only written now
        finally:
            sys.stdout, sys.stderr = before
