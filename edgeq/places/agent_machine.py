"""Facts that the other machine reports.

Sent to the other machine as text, so only the standard library is imported.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any


def facts(packages: list[str]) -> dict[str, Any]:
    """The Python, the requested packages, the system."""
    versions: dict[str, str | None] = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    marker = Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "packages": versions,
        "managed": sys.prefix == sys.base_prefix and marker.exists(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "home": str(Path.home()),
    }


def load_average() -> float | None:
    """Runnable processes in the last minute; None if this is not readable."""
    try:
        return os.getloadavg()[0]
    except OSError:  # in Android's apps
        return None


def is_full(error: OSError) -> bool:
    """Whether the disk, or the user's quota on it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
