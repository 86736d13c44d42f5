"""One line that says what is going on, on standard error, and only where somebody looks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.text import Text


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """A function that shows the current step; it shows nothing when standard error is piped.

    >>> with progress_line() as progress:
    ...     progress("measure latency")
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda step: None
        return
    with console.status("start") as status:
        yield lambda step: status.update(Text(step))
