"""Memory of this process as the operating system counts it, in bytes.

Linux records the high-water mark of all resident pages but not of the anonymous ones. A thread
samples those, and the pages of files; if the mark exceeds the sum of both maxima, a peak was missed
between two samples, and the difference is counted as anonymous: never too little.
"""

from __future__ import annotations

import ctypes
import re
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from edgeq.measure.records import MemoryReading

_STATUS = Path("/proc/self/status")
_SAMPLE_SECONDS = 0.0005
MOST_RUNS = 32
_FEWEST_RUNS = 6
_ENOUGH_SECONDS = 10.0
_STEADY_BYTES = 1 << 18  # what threads allocate in half of the runs, of no model's
_LINE = re.compile(r"^(\w+):\s+(\d+) kB$", re.MULTILINE)

# <sys/resource.h> of macOS: struct rusage_info_v4 is a UUID of 16 bytes and 35 numbers of 64 bits.
_RUSAGE_INFO_V4 = 4
_RUSAGE_LAYOUT = struct.Struct("=16x35Q")
_PHYS_FOOTPRINT, _LIFETIME_MAX_PHYS_FOOTPRINT = 7, 28


def parse_status(text: str) -> dict[str, int]:
    """The sizes in `/proc/<pid>/status`, in bytes (the kernel's kB are 1024)."""
    return {name: int(size) * 1024 for name, size in _LINE.findall(text)}


def parse_rusage(buffer: bytes) -> tuple[int, int]:
    """Current and peak physical footprint in bytes, from macOS's `struct rusage_info_v4`."""
    numbers = _RUSAGE_LAYOUT.unpack(buffer)
    return numbers[_PHYS_FOOTPRINT], numbers[_LIFETIME_MAX_PHYS_FOOTPRINT]


def read() -> MemoryReading:
    """The current memory of this process."""
    if sys.platform == "linux":
        status = parse_status(_STATUS.read_text())
        return MemoryReading(
            resident_bytes=status["VmRSS"],
            anonymous_bytes=status["RssAnon"],
            file_mapped_bytes=status["RssFile"] + status["RssShmem"],
        )
    counters = psutil.Process().memory_info()
    if sys.platform == "darwin":
        anonymous = _footprint()[0]
    else:
        anonymous = counters.private
    return MemoryReading(
        resident_bytes=counters.rss, anonymous_bytes=anonymous, file_mapped_bytes=None
    )


class Peak:
    """Watches the memory of this process while a `with` block runs, on Linux from a thread.

    After the block, `high_water_bytes` is the lifetime peak of resident memory of this process, and
    `anonymous_bytes` the peak of memory that could not be dropped: on Linux during the block,
    elsewhere over the lifetime. Samples every half millisecond; onnxruntime lets other threads run
    while it loads and runs.
    """

    def __init__(self) -> None:
        self.high_water_bytes = 0
        self.anonymous_bytes = 0
        self._most_anonymous = self._most_of_files = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        if sys.platform == "linux":
            self._look()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if sys.platform == "linux":
            self._stop.set()
            self._thread.join()
            self.high_water_bytes = self._look()
            unseen = self.high_water_bytes - self._most_of_files
            self.anonymous_bytes = max(self._most_anonymous, unseen)
        else:
            self.high_water_bytes, self.anonymous_bytes = _kept_peaks()

    def so_far(self) -> int:
        """The peak of resident memory of this process until now."""
        return self._look() if sys.platform == "linux" else _kept_peaks()[0]

    def _watch(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._look()

    def _look(self) -> int:
        status = parse_status(_STATUS.read_text())
        self._most_anonymous = max(self._most_anonymous, status["RssAnon"])
        self._most_of_files = max(self._most_of_files, status["RssFile"] + status["RssShmem"])
        return status["VmHWM"]


def run_until_flat(
    run: Callable[[], object], peak: Peak, clock: Callable[[], float] = time.perf_counter
) -> int:
    """Run 32 times, fewer if that takes more than 10 s; returns how often.

    Then it is 6 times at least, until the later half of the runs raised the peak by at most
    256 KiB: a leak that is missed this way would add less than 3 MiB in the rest.
    """
    begin, peaks = clock(), []
    for count in range(1, MOST_RUNS + 1):
        run()
        peaks.append(peak.so_far())
        is_flat = peaks[-1] - peaks[(count - 1) // 2] <= _STEADY_BYTES
        if count >= _FEWEST_RUNS and is_flat and clock() - begin >= _ENOUGH_SECONDS:
            break
    return len(peaks)


def _kept_peaks() -> tuple[int, int]:
    """Lifetime peaks of resident memory and of memory that could not be dropped, if the system
    keeps both.
    """
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, _footprint()[1]
    counters = psutil.Process().memory_info()
    return counters.peak_wset, counters.peak_pagefile


def _footprint() -> tuple[int, int]:
    buffer = ctypes.create_string_buffer(_RUSAGE_LAYOUT.size)
    library = ctypes.CDLL("/usr/lib/libproc.dylib", use_errno=True)
    if library.proc_pid_rusage(psutil.Process().pid, _RUSAGE_INFO_V4, buffer) != 0:
        raise OSError(ctypes.get_errno(), "proc_pid_rusage failed")
    return parse_rusage(buffer.raw)


def figures(
    baseline: MemoryReading,
    loaded: MemoryReading,
    ran: MemoryReading,
    with_tokenizer: MemoryReading,
    peak: Peak,
    later: Peak,
) -> dict[str, Any]:
    """Those fields of `edgeq.measure.records.MemoryFigures` that every memory pass has.

    peak: over loading and running. later: over opening the tokenizer.
    """
    return {
        "baseline": baseline,
        "loaded": loaded,
        "ran": ran,
        "with_tokenizer": with_tokenizer,
        "high_water_bytes": max(peak.high_water_bytes, later.high_water_bytes),
        "anonymous_peak_bytes": peak.anonymous_bytes,
    }
