"""Parse operating systems' descriptions of a processor and its memory limits."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from edgeq.devices.profile import Cores, InstructionSet


@dataclass(frozen=True)
class Cpu:
    """A processor's name and extensions; None if the system does not report them."""

    chip: str | None
    instruction_sets: tuple[InstructionSet, ...] | None


# Flags of the kernel that must all be present. "avx512" is what MLAS, onnxruntime's kernels,
# require.
_X86_FLAGS: dict[InstructionSet, set[str]] = {
    "sse4_2": {"sse4_2"},
    "avx": {"avx"},
    "avx2": {"avx2"},
    "fma": {"fma"},
    "f16c": {"f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "avx512_vnni": {"avx512_vnni"},
    "avx512_bf16": {"avx512_bf16"},
    "avx_vnni": {"avx_vnni"},
}
_ARM_FEATURES: dict[InstructionSet, set[str]] = {
    "neon": {"asimd"},
    "fp16": {"asimdhp"},
    "dotprod": {"asimddp"},
    "i8mm": {"i8mm"},
    "bf16": {"bf16"},
    "sve": {"sve"},
    "sve2": {"sve2"},
    "sme": {"sme"},
}
_SYSCTL_NAMES: dict[InstructionSet, set[str]] = {
    "neon": {"hw.optional.neon"},
    "fp16": {"hw.optional.arm.FEAT_FP16"},
    "dotprod": {"hw.optional.arm.FEAT_DotProd"},
    "i8mm": {"hw.optional.arm.FEAT_I8MM"},
    "bf16": {"hw.optional.arm.FEAT_BF16"},
    "sme": {"hw.optional.arm.FEAT_SME"},
    "sse4_2": {"hw.optional.sse4_2"},
    "avx": {"hw.optional.avx1_0"},
    "avx2": {"hw.optional.avx2_0"},
    "fma": {"hw.optional.fma"},
    "f16c": {"hw.optional.f16c"},
    "avx512": {
        "hw.optional.avx512f",
        "hw.optional.avx512bw",
        "hw.optional.avx512dq",
        "hw.optional.avx512vl",
    },
    "avx512_vnni": {"hw.optional.avx512vnni"},
}
# Part numbers of designs by Arm itself (implementer 0x41), from their reference manuals.
_ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD05: "Cortex-A55",
    0xD08: "Cortex-A72",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD40: "Neoverse-V1",
    0xD46: "Cortex-A510",
    0xD49: "Neoverse-N2",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2",
}


def parse_cpuinfo(text: str, arch: str, compatible: str = "") -> Cpu:
    """Parse the processor from Linux's `/proc/cpuinfo`.

    `compatible` is the device tree's text of that name: on Arm, cpuinfo does not name the chip.
    Extensions are those that every core has. A text for another `arch` than this process runs as
    (the host's, under an emulator) gives no information.
    """
    blocks = [_keys(block) for block in re.split(r"\n\s*\n", text)]
    key, flags = ("flags", _X86_FLAGS) if arch == "x86_64" else ("Features", _ARM_FEATURES)
    by_core = [set(block[key].split()) for block in blocks if key in block]
    if not by_core:
        return Cpu(None, None)
    if arch == "x86_64":
        chip = next((block["model name"] for block in blocks if "model name" in block), None)
    else:
        chip = _soc(compatible) or _arm_designs(blocks)
    return Cpu(chip, _present(set.intersection(*by_core), flags))


def _keys(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _present(
    found: set[str], wanted: Mapping[InstructionSet, set[str]]
) -> tuple[InstructionSet, ...]:
    return tuple(word for word, needed in wanted.items() if needed <= found)


def _soc(compatible: str) -> str | None:
    """Parse `raspberrypi,5-model-b␀brcm,bcm2712␀` as Broadcom BCM2712."""
    for entry in compatible.split("\0"):
        maker, _, model = entry.partition(",")
        if maker == "brcm":
            return f"Broadcom {model.upper()}"
    return None


def _arm_designs(blocks: Sequence[Mapping[str, str]]) -> str | None:
    parts = [
        int(block["CPU part"], 16)
        for block in blocks
        if block.get("CPU implementer") == "0x41" and "CPU part" in block
    ]
    designs = sorted({_ARM_PARTS[part] for part in parts if part in _ARM_PARTS})
    return f"Arm {' + '.join(designs)}" if designs else None


def parse_sysctl(text: str) -> dict[str, str]:
    """Names and values printed by macOS's `sysctl`, one `hw.memsize: 8589934592` per line."""
    return _keys(text)


def apple_cpu(values: Mapping[str, str]) -> Cpu:
    """The processor from `sysctl hw machdep.cpu`, Apple's own or Intel's."""
    found = {name for name, value in values.items() if value == "1"}
    sets = _present(found, _SYSCTL_NAMES)
    return Cpu(values.get("machdep.cpu.brand_string"), sets or None)


def apple_cores(values: Mapping[str, str]) -> Cores | None:
    """Cores from `sysctl hw`: performance level 0 is the fastest; without levels, all are equal."""
    try:
        threads = int(values["hw.logicalcpu"])
        if "hw.perflevel1.physicalcpu" in values:
            fast = int(values["hw.perflevel0.physicalcpu"])
            slow = int(values["hw.perflevel1.physicalcpu"])
            return Cores(performance=fast, efficiency=slow, threads=threads)
        return Cores(performance=int(values["hw.physicalcpu"]), threads=threads)
    except (KeyError, ValueError):
        return None


def parse_cpu_list(text: str) -> set[int]:
    """Parse a Linux CPU list.

    >>> sorted(parse_cpu_list("0-2,7"))
    [0, 1, 2, 7]
    """
    cpus: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def count_slow(capacities: Sequence[int]) -> int:
    """Count the Arm efficiency cores, from Linux's `cpu_capacity` of each core.

    The kernel scales the fastest to 1024; the slowest kind counts as efficiency cores if it has
    less than half of that, which separates a Cortex-A510 (about 250) from a Cortex-A715 (about
    800).
    """
    return sum(2 * capacity < max(capacities) for capacity in capacities)


class Hierarchy(NamedTuple):
    """Memory control groups of a process in one mounted file system.

    groups: the process's own group, then each parent up to the top of the mount.
    """

    version: Literal[1, 2]
    groups: tuple[Path, ...]


def hierarchies(cgroups: str, mounts: str) -> list[Hierarchy]:
    """Find where the memory control groups of a process are mounted.

    `cgroups` is `/proc/self/cgroup`, `mounts` `/proc/self/mountinfo`. A container sees its own
    group mounted as the top.
    """
    found = []
    for line in mounts.splitlines():
        before, dash, after = line.partition(" - ")
        fields, system = before.split(), after.split()
        if not dash or len(fields) < 5 or len(system) < 3:
            continue
        version: Literal[1, 2]
        if system[0] == "cgroup2":
            version, group = 2, _group_of(cgroups, "")
        elif system[0] == "cgroup" and "memory" in system[-1].split(","):
            version, group = 1, _group_of(cgroups, "memory")
        else:
            continue
        if group is not None:
            mount, root = Path(fields[4]), PurePosixPath(fields[3])
            inner = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
            directory = mount / inner
            ups = [place for place in directory.parents if place.is_relative_to(mount)]
            found.append(Hierarchy(version, (directory, *ups)))
    return found


def memory_limit(cgroups: str, mounts: str) -> int | None:
    """The smallest memory limit of a process's control groups in bytes, None without one.

    Arguments as for `hierarchies`. Version 2 stores limits in `memory.max`, version 1 in
    `memory.limit_in_bytes`; those of every parent apply as well.
    """
    limits = []
    for hierarchy in hierarchies(cgroups, mounts):
        name = "memory.max" if hierarchy.version == 2 else "memory.limit_in_bytes"
        for group in hierarchy.groups:
            with contextlib.suppress(OSError, ValueError):  # absent in the root; "max" means none
                limits.append(int((group / name).read_text()))
    return min(limits, default=None)


def _group_of(cgroups: str, controller: str) -> PurePosixPath | None:
    """The path in the line `4:memory:/path`; version 2's line has no controllers."""
    for line in cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return PurePosixPath(path)
    return None
