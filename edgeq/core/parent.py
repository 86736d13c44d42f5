"""A measuring process ends with the one that waits for it, even if that was killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "EDGEQ_PARENT"
"""The variable that names the process to end with, by its id."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent() -> None:
    """Have Linux kill this process when the one in `EDGEQ_PARENT` ends; elsewhere it does not."""
    parent = os.environ.pop(PARENT, None)  # children of this process have another
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before it could be asked for
        os._exit(1)
