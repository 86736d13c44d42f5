"""Detect this machine as a device: only facts that it reports."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from edgeq.core.errors import Missing, Problem
from edgeq.core.terms import Arch
from edgeq.devices import cpu
from edgeq.devices.cpu import Cpu
from edgeq.devices.profile import AppMemory, Cores, Device, InstructionSet, Kind, Note, System
from edgeq.quantize.storage import STORAGES

_SYSTEMS: dict[str, System] = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}
_ARCHS: dict[str, Arch] = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
}
_CPUS = Path("/sys/devices/system/cpu")
# Arguments of IsProcessorFeaturePresent from Windows' winnt.h; there is none for VNNI.
_WINDOWS_FEATURES: dict[Arch, dict[InstructionSet, int]] = {
    "x86_64": {"sse4_2": 38, "avx": 39, "avx2": 40},
    "aarch64": {"neon": 19, "dotprod": 43},
}


def detect() -> Device:
    """This machine, as the device `here`.

    Facts that cannot be read are left out, and their source says so. One app may use the RAM, or
    less if a control group limits this process. Raises Missing on systems and processors other than
    Linux, macOS, Windows, x86-64, 64-bit Arm.
    """
    arch = _ARCHS.get(platform.machine().lower())
    system = _SYSTEMS.get(platform.system())
    if arch is None or system is None:
        what = f"{platform.system()} on {platform.machine()} is not supported"
        remedy = "use Linux, macOS or Windows on x86-64 or 64-bit Arm"
        raise Missing(Problem("here", what, remedy))
    found, cores, origin = _READERS[system](arch)
    ram = psutil.virtual_memory().total
    limit = cpu.memory_limit(_text(Path("/proc/self/cgroup")), _text(Path("/proc/self/mountinfo")))
    memory = limit is not None and limit < ram
    facts: dict[str, Any] = {
        "chip": found.chip or "unknown",
        "arch": arch,
        "instruction_sets": found.instruction_sets or (),
        "cores": cores or _cores(efficiency=0),
        "ram": ram,
        "os": system,
        "os_version": _os_version(system),
        "app_memory": (AppMemory(os="any", limit=limit if memory else ram, basis="read"),),
        "counts": "footprint" if system == "macos" else "high-water",
        "runtimes": _runtimes(system),
    }
    notes = dict.fromkeys(facts, "read off this machine")
    if found.chip is None:
        notes["chip"] = f"not reported by {origin}"
    notes["instruction_sets"] += f": {origin}"
    if found.instruction_sets is None:
        notes["instruction_sets"] = f"not reported by {origin}"
    notes["app_memory"] += ": the limit of its control group" if memory else ": all of its RAM"
    notes["counts"] = f"{system}'s accounting for a process"
    notes["runtimes"] = "supported by this version of edgeq"
    return Device(
        id="here",
        name="this machine",
        kind=_kind(),
        reach="here",
        sources={name: (Note(text=text),) for name, text in notes.items()},
        **facts,
    )


def _read_linux(arch: Arch) -> tuple[Cpu, Cores | None, str]:
    origin = "/proc/cpuinfo"
    compatible = _text(Path("/proc/device-tree/compatible"))
    found = cpu.parse_cpuinfo(_text(Path(origin)), arch, compatible)
    # Intel's hybrids list the CPUs of their Atom cores, Arm's kernels the speed of each core.
    atoms = len(cpu.parse_cpu_list(_text(Path("/sys/devices/cpu_atom/cpus"))))
    lines = [_text(path).strip() for path in _CPUS.glob("cpu[0-9]*/cpu_capacity")]
    capacities = [int(capacity) for capacity in lines if capacity.isdigit()]
    slow = atoms or (cpu.count_slow(capacities) if capacities else 0)
    return found, _cores(efficiency=slow), origin


def _read_macos(arch: Arch) -> tuple[Cpu, Cores | None, str]:
    command = ["/usr/sbin/sysctl", "hw", "machdep.cpu"]
    printed = ""
    with contextlib.suppress(OSError):
        # Some names cannot be read without privileges: the status is not zero, the rest is printed.
        printed = subprocess.run(command, capture_output=True, text=True).stdout
    values = cpu.parse_sysctl(printed)
    return cpu.apple_cpu(values), cpu.apple_cores(values), "sysctl"


def _read_windows(arch: Arch) -> tuple[Cpu, Cores | None, str]:
    chip, words = None, None
    if sys.platform == "win32":
        import ctypes
        import winreg

        with contextlib.suppress(OSError):
            path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
                chip = str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        words = tuple(word for word, at in _WINDOWS_FEATURES[arch].items() if present(at))
    return Cpu(chip, words), None, "Windows, which does not report VNNI"


_READERS = {"linux": _read_linux, "macos": _read_macos, "windows": _read_windows}


def _cores(efficiency: int) -> Cores:
    threads = psutil.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or threads
    performance = max(1, physical - efficiency)
    return Cores(performance=performance, efficiency=physical - performance, threads=threads)


def _os_version(system: System) -> str:
    """The common name of the release: the distribution's on Linux, else the kernel's."""
    if system == "macos":
        return platform.mac_ver()[0]
    if system == "linux":
        with contextlib.suppress(OSError):
            version = platform.freedesktop_os_release().get("VERSION_ID")
            if version:
                return version
    return platform.release()


def _kind() -> Kind:
    if "raspberrypi," in _text(Path("/proc/device-tree/compatible")):
        return "board"
    # psutil lacks the battery function on systems where it does not know of any.
    battery = getattr(psutil, "sensors_battery", lambda: None)()
    return "laptop" if battery is not None else "computer"


def _text(path: Path) -> str:
    """The file's text, empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _runtimes(system: str) -> tuple[str, ...]:
    """File formats that run here; those of one system's own runtime run on macOS."""
    on_mac = system == "macos"
    return tuple(each.name for each in STORAGES.values() if each.runs_anywhere or on_mac)


if __name__ == "__main__":
    print(detect().model_dump_json())
