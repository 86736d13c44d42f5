"""What edgeq's modules warn of, as a note for a person."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from edgeq.core.errors import LoadedOtherwise
from edgeq.report.console import make_console
from edgeq.report.terminal import print_wrapped


def notes_for_warnings() -> None:
    """Print our own warnings to standard error without a file's name and a line of code."""
    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, LoadedOtherwise):
            print_wrapped(f"note: {message}", "", make_console(sys.stderr))
        else:
            usual(message, category, *place, **more)

    warnings.showwarning = show
