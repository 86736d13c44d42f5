"""Progress on standard error: a line that updates, or in a log a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
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

    If standard error is not a terminal, the current step gets a line every 10 s: enough to see in a
    log that work goes on, and nothing at all for quick work.

    >>> with progress_line() as progress:
    ...     progress("measure latency")
    """
    console = make_console(sys.stderr)
    if _shown == "nothing":
        yield lambda step: None
    elif _shown == "every step":
        yield _lines(console, 0.0)
    elif not console.is_terminal:
        yield _lines(console, _SECONDS_BETWEEN_LINES)
    else:
        with console.status("start", spinner_style="none") as status:
            yield lambda step: status.update(Text(step))


def _lines(console: Console, seconds_between: float) -> Progress:
    begun = shown = time.monotonic()

    def show(step: str) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown >= seconds_between:
            shown = now
            console.print(Text(f"{now - begun:4.0f} s  {step}"), soft_wrap=True)

    return show
