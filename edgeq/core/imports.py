"""Hide packages that libraries import only because they find them: torch alone takes seconds."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


def do_without(*packages: str) -> None:
    """Hide packages from all that this process imports from now on."""
    sys.modules.update(dict.fromkeys(packages))  # type: ignore[arg-type]


@contextlib.contextmanager
def without(*packages: str) -> Iterator[None]:
    """Hide packages from what is imported meanwhile; what is loaded already stays."""
    hidden = [name for name in packages if name not in sys.modules]
    do_without(*hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
