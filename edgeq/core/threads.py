"""The default number of threads of a run."""

from __future__ import annotations

import os

import psutil


def default_threads() -> int:
    """One thread per physical core, but no more than the CPUs this process may use."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return max(1, min(physical, len(os.sched_getaffinity(0))))
    return physical
