"""Standard output and error: what is written is shown escaped, and a closed end ends the process.

What no console formats (`edgeq.report.console`) is escaped here: warnings of libraries, help, usage
errors. A terminal still gets plain colours, as help has them.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any, TypeVar, cast

from edgeq.core.errors import EXIT_MISSING
from edgeq.core.visible import visible

_SIGPIPE = 13
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")
STATUS = 128 + _SIGPIPE
"""As a shell tells the end of a tool that wrote to a closed pipe, such as `| head -1`."""

T = TypeVar("T")


class _Guarded:
    """A text file; writing where the other end is closed raises SystemExit with `STATUS`.

    SIGPIPE stays ignored, as Python has it: connections to workers and devices may close, too.
    """

    def __init__(self, file: IO[str], escape: Callable[[str], str] = str) -> None:
        self._file, self._escape = file, escape

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    @property
    def formatted(self) -> IO[str]:
        """The same file for a console, which escapes text itself and writes control codes."""
        return cast("IO[str]", _Guarded(self._file))

    def write(self, text: str) -> int:
        """See `io.TextIOBase.write`."""
        self._guarded(lambda: self._file.write(self._escape(text)))
        return len(text)

    def flush(self) -> None:
        """See `io.IOBase.flush`."""
        self._guarded(self._file.flush)

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except BrokenPipeError:
            self._to_nowhere()
            raise SystemExit(STATUS) from None
        except OSError as error:  # a full disk behind `> file`
            os.write(2, f"error: output: cannot be written: {error.strerror}\n".encode())
            self._to_nowhere()
            raise SystemExit(EXIT_MISSING) from None

    def _to_nowhere(self) -> None:
        """Drop what is still buffered, or Python would complain of it at its end."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._file.fileno())
        os.close(nowhere)


def _escape_for(file: IO[str]) -> Callable[[str], str]:
    return _but_colours if file.isatty() else visible


def _but_colours(text: str) -> str:
    """Every second part is a colour."""
    parts = _COLOUR.split(text)
    return "".join(part if number % 2 else visible(part) for number, part in enumerate(parts))


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Guard standard output and standard error, and flush what was written."""
    before = sys.stdout, sys.stderr
    for file in before:  # a character that the encoding lacks is spelled out
        if isinstance(file, io.TextIOWrapper):
            file.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (cast("Any", _Guarded(file, _escape_for(file))) for file in before)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()  # a short text is only written now
        finally:
            sys.stdout, sys.stderr = before
