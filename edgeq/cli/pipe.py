"""Standard output and error: text is escaped, and a closed pipe ends the process.

Text that does not pass through `edgeq.report.console` is escaped here: library warnings, help,
usage errors. A terminal still gets the plain colours of the help text.
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
"""A shell's status for a tool that wrote to a closed pipe, such as `| head -1`."""

T = TypeVar("T")


class _Guarded:
    """A text file that raises SystemExit with `STATUS` if the reader has closed its end.

    SIGPIPE stays ignored, Python's default: connections to workers and devices may close, too.
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
            self._discard_buffer()
            raise SystemExit(STATUS) from None
        except OSError as error:  # a full disk behind `> file`
            with contextlib.suppress(OSError):  # standard error may be on the same disk
                os.write(2, f"error: output: cannot be written: {error.strerror}\n".encode())
            self._discard_buffer()
            raise SystemExit(EXIT_MISSING) from None

    def _discard_buffer(self) -> None:
        """Discard the buffer, or Python would report an error when it exits."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._file.fileno())
        os.close(null)


def _escape_for(file: IO[str]) -> Callable[[str], str]:
    return _visible_except_colours if file.isatty() else visible


def _visible_except_colours(text: str) -> str:
    """Escape everything except colour codes."""
    parts = _COLOUR.split(text)
    return "".join(part if number % 2 else visible(part) for number, part in enumerate(parts))


def open_closed_streams() -> None:
    """Open what the caller has closed (`>&-`) on the null device.

    Otherwise the next file that is opened would get its number, and what a library or a child
    prints would end up in it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Guard standard output and standard error, and flush them at the end."""
    before = sys.stdout, sys.stderr
    for file in before:  # characters that the encoding lacks are written as escapes
        if isinstance(file, io.TextIOWrapper):
            file.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (cast("Any", _Guarded(file, _escape_for(file))) for file in before)
    try:
        yield
    finally:
        try:
            sys.stdout.flush()  # short output is only written here
        finally:
            sys.stdout, sys.stderr = before
