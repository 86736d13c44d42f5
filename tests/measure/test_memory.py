"""Counters of the operating system, on a real process of known appetite."""

from __future__ import annotations

import ctypes
import json
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.measure import memory

MIB = 1 << 20
TOLERANCE = 3 * MIB  # Python's own allocations between two readings

# In the order of <sys/resource.h> of macOS, after the UUID.
RUSAGE_NUMBERS = (
    *("user_time", "system_time", "pkg_idle_wkups"),
    *("interrupt_wkups", "pageins", "wired_size"),
    *("resident_size", "phys_footprint", "proc_start_abstime"),
    *("proc_exit_abstime", "child_user_time", "child_system_time"),
    *("child_pkg_idle_wkups", "child_interrupt_wkups", "child_pageins"),
    *("child_elapsed_abstime", "diskio_bytesread", "diskio_byteswritten"),
    *("cpu_time_qos_default", "cpu_time_qos_maintenance", "cpu_time_qos_background"),
    *("cpu_time_qos_utility", "cpu_time_qos_legacy", "cpu_time_qos_user_initiated"),
    *("cpu_time_qos_user_interactive", "billed_system_time", "serviced_system_time"),
    *("logical_writes", "lifetime_max_phys_footprint", "instructions"),
    *("cycles", "billed_energy", "serviced_energy"),
    *("interval_max_phys_footprint", "runnable_time"),
)
STATUS = """Name:\tpython
VmPeak:\t  500000 kB
VmHWM:\t   90732 kB
VmRSS:\t   90260 kB
RssAnon:\t   48900 kB
RssFile:\t   41360 kB
RssShmem:\t       0 kB
Threads:\t1
"""

PROGRAM = """
import json, mmap, sys, time
from edgeq.measure import memory

anonymous, path = int(sys.argv[1]), sys.argv[2]
before = memory.read()
with memory.Peak() as peak:
    held = bytearray(b"x") * anonymous
    filled = memory.read()
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        touched = sum(mapped[::4096])
    both = memory.read()
    time.sleep(0.2)  # what is gone at once on a busy machine may be counted as anonymous
    del held
    after = memory.read()
    mapped.close()
readings = [r.model_dump() for r in (before, filled, both, after)]
print(json.dumps({"readings": readings, "peaks": [peak.high_water_bytes, peak.anonymous_bytes]}))
"""


def test_status_is_parsed_in_bytes() -> None:
    status = memory.parse_status(STATUS)
    assert status["VmHWM"] == 90732 * 1024
    assert status["RssAnon"] + status["RssFile"] + status["RssShmem"] == status["VmRSS"]
    assert "Threads" not in status


def test_macos_footprint_is_read_from_its_place() -> None:
    class RusageInfoV4(ctypes.Structure):
        _fields_ = (
            ("ri_uuid", ctypes.c_uint8 * 16),
            *((name, ctypes.c_uint64) for name in RUSAGE_NUMBERS),
        )

    usage = RusageInfoV4(phys_footprint=7 * MIB, lifetime_max_phys_footprint=9 * MIB)
    assert memory.parse_rusage(bytes(usage)) == (7 * MIB, 9 * MIB)


@pytest.mark.skipif(sys.platform != "linux", reason="exact counters of anonymous and mapped pages")
def test_a_process_of_known_size_is_measured(tmp_path: Path) -> None:
    mapped = tmp_path / "mapped"
    mapped.write_bytes(b"y" * (24 * MIB))
    output = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(40 * MIB), str(mapped)],
        check=True,
        capture_output=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    ).stdout
    found = json.loads(output)
    before, filled, both, after = found["readings"]

    def growth(name: str, later: dict[str, int], earlier: dict[str, int]) -> int:
        return later[name] - earlier[name]

    assert growth("anonymous_bytes", filled, before) == pytest.approx(40 * MIB, abs=TOLERANCE)
    assert growth("file_mapped_bytes", filled, before) == pytest.approx(0, abs=TOLERANCE)
    assert growth("anonymous_bytes", both, filled) == pytest.approx(0, abs=TOLERANCE)
    assert growth("file_mapped_bytes", both, filled) == pytest.approx(24 * MIB, abs=TOLERANCE)
    assert growth("anonymous_bytes", after, before) == pytest.approx(0, abs=TOLERANCE)
    high_water, anonymous = found["peaks"]
    # What was freed and unmapped again is still known.
    assert high_water == pytest.approx(both["resident_bytes"], abs=TOLERANCE)
    assert anonymous == pytest.approx(filled["anonymous_bytes"], abs=TOLERANCE)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep this peak themselves")
def test_anonymous_peak_holds_what_was_freed() -> None:
    before = memory.read().anonymous_bytes
    with memory.Peak() as peak:
        block = mmap.mmap(-1, 32 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        block.write(b"z" * (32 * MIB))
        during = memory.read().anonymous_bytes
        block.close()
    assert during - before >= 32 * MIB - TOLERANCE
    assert peak.anonymous_bytes >= during - TOLERANCE
    assert memory.read().anonymous_bytes <= during - 32 * MIB + TOLERANCE


@pytest.mark.parametrize(
    ("seconds", "peaks", "runs"),
    [
        (0.01, [0] * 32, 32),  # fast: always as often
        (4.0, [0] * 32, 6),  # slow and flat
        (1.0, [0] * 32, 10),  # once 10 s have passed
        (4.0, [MIB * count for count in range(32)], 32),  # each run takes more
        (4.0, [min(count, 5) * MIB for count in range(32)], 11),  # until it does not
    ],
)
def test_a_slow_model_runs_until_its_memory_is_flat(
    seconds: float, peaks: list[int], runs: int
) -> None:
    class Peak(memory.Peak):
        def so_far(self) -> int:
            return peaks[len(ran) - 1]

    ran: list[int] = []
    found = memory.run_until_flat(lambda: ran.append(1), Peak(), lambda: seconds * len(ran))
    assert found == len(ran) == runs
