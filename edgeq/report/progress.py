"""Progress on standard error: a line that updates, or in a log a line now and then."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

from edgeq.core.terms import Progress
from edgeq.report.console import Console, Text, make_console

_SECONDS_BETWEEN_LINES = 10.0


_shown = "steps"


def show_progress(how: Literal["nothing", "steps", "every step"]) -> None:
    """Set what commands show from now on: nothing, the current step, or a line for every step."""
    global _shown
    _shown = how


@contextlib.contextmanager
def progress_line() -> Iterator[Progress]:
    """Yield a function that shows the current step.

    If standard error is not a terminal, a log gets the current step every 10 s, if it is another
    than before: enough to see that work goes on, and nothing at all for quick work.

    >>> with progress_line() as progress:
    ...     progress("measure latency")
    """
    console = make_console(sys.stderr)
    if _shown == "nothing":
        yield lambda step: None
    elif _shown == "every step":
        yield _Log(console).say_at_once
    elif not console.is_terminal:
        log = _Log(console)
        with _every(_SECONDS_BETWEEN_LINES, log.write):
            yield log.say
    else:
        with console.status("start", spinner_style="none") as status:
            yield lambda step: status.update(Text(step))


class _Log:
    """Writes the current step as a line, once."""

    def __init__(self, console: Console) -> None:
        self._console, self._begun = console, time.monotonic()
        self._step = self._written = ""

    def say(self, step: str) -> None:
        self._step = step

    def say_at_once(self, step: str) -> None:
        self._step = step
        self.write()

    def write(self) -> None:
        step = self._step
        if step != self._written:
            self._written = step
            seconds = time.monotonic() - self._begun
            self._console.print(Text(f"{seconds:4.0f} s  {step}"), soft_wrap=True)


@contextlib.contextmanager
def _every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` again and again from another thread: a long step announces nothing meanwhile."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(seconds):
            act()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
