"""Facts about a device, from what a shell there prints."""

from __future__ import annotations

import re
from typing import NamedTuple

from edgeq.core.errors import Missing, Problem
from edgeq.core.terms import Arch
from edgeq.devices import cpu
from edgeq.devices.profile import AppMemory, Cores, Device, Note

_MARK = "edgeq-next"
_QUESTIONS = (
    "uname -m",
    "cat /proc/cpuinfo",
    "cat /proc/meminfo",
    "cat /sys/devices/system/cpu/cpu*/cpu_capacity",
    "getprop ro.product.manufacturer",
    "getprop ro.product.model",
    "getprop ro.soc.model",
    "getprop ro.build.version.release",
    "uname -r",
)
COMMAND = f"; echo; echo {_MARK}; ".join(f"{question} 2>/dev/null" for question in _QUESTIONS)
"""For a POSIX shell; what is not there prints nothing."""
_ARCHS: dict[str, Arch] = {"x86_64": "x86_64", "aarch64": "aarch64"}


class _Said(NamedTuple):
    machine: str
    cpuinfo: str
    meminfo: str
    capacities: str
    maker: str
    model: str
    soc: str
    android: str
    kernel: str


def parse_facts(printed: str, id: str, name: str, reach: str) -> Device:
    """The device that printed this for `COMMAND`. Raises Missing for one that is not supported."""
    parts = [part.strip() for part in printed.split(_MARK)]
    if len(parts) != len(_QUESTIONS):
        raise Missing(Problem(name, "its facts cannot be read", "see what `uname -a` prints there"))
    said = _Said(*parts)
    arch = _ARCHS.get(said.machine)
    memory = re.search(r"^MemTotal:\s+(\d+) kB$", said.meminfo, re.MULTILINE)
    if arch is None or memory is None:
        what = f"its processor ({said.machine or 'unknown'}) or its memory is not reported"
        raise Missing(Problem(name, what, "use a device with 64-bit Arm or x86-64"))
    found = cpu.parse_cpuinfo(said.cpuinfo, arch)
    threads = max(1, len(re.findall(r"^processor\s*:", said.cpuinfo, re.MULTILINE)))
    capacities = [int(each) for each in said.capacities.split() if each.isdigit()]
    slow = cpu.count_slow(capacities) if capacities else 0
    ram = int(memory[1]) * 1024
    facts = {
        "chip": said.soc or found.chip or "unknown",
        "arch": arch,
        "instruction_sets": found.instruction_sets or (),
        "cores": Cores(performance=max(1, threads - slow), efficiency=slow, threads=threads),
        "ram": ram,
        "os": "android" if said.android else "linux",
        "os_version": said.android or said.kernel,
        "app_memory": (AppMemory(os="any", limit=ram, basis="read"),),
        "counts": "high-water",
        "runtimes": ("onnx",) if said.android else ("onnx", "gguf"),
    }
    notes = dict.fromkeys(facts, "read off the device") | {
        "app_memory": "all of its memory; Android may end an app that uses less",
        "runtimes": "what edgeq-runner runs",
    }
    return Device.model_validate(
        {
            "id": id,
            "name": f"{said.maker} {said.model}".strip() or name,
            "kind": "phone" if said.android else "computer",
            "reach": reach,
            "sources": {key: (Note(text=text),) for key, text in notes.items()},
            **facts,
        }
    )
