"""Classes of x86 CPUs by the instruction sets they lack, and the CPUID bits to hide.

Bits of CPUID are from Intel's Software Developer's Manual, volume 2A, CPUID, and AMD's Architecture
Programmer's Manual, volume 3, appendix E.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgeq.devices.profile import InstructionSet


class Bit(NamedTuple):
    """The CPUID bit of one flag: `register` 0 eax, 1 ebx, 2 ecx, 3 edx."""

    leaf: int
    subleaf: int
    register: int
    bit: int


# Flags as spelled in Linux's /proc/cpuinfo.
BITS: dict[str, Bit] = {
    "pclmulqdq": Bit(1, 0, 2, 1),
    "fma": Bit(1, 0, 2, 12),
    "movbe": Bit(1, 0, 2, 22),
    "aes": Bit(1, 0, 2, 25),
    "xsave": Bit(1, 0, 2, 26),
    "osxsave": Bit(1, 0, 2, 27),
    "avx": Bit(1, 0, 2, 28),
    "f16c": Bit(1, 0, 2, 29),
    "rdrand": Bit(1, 0, 2, 30),
    "fsgsbase": Bit(7, 0, 1, 0),
    "bmi1": Bit(7, 0, 1, 3),
    "avx2": Bit(7, 0, 1, 5),
    "bmi2": Bit(7, 0, 1, 8),
    "erms": Bit(7, 0, 1, 9),
    "avx512f": Bit(7, 0, 1, 16),
    "avx512dq": Bit(7, 0, 1, 17),
    "rdseed": Bit(7, 0, 1, 18),
    "adx": Bit(7, 0, 1, 19),
    "avx512ifma": Bit(7, 0, 1, 21),
    "avx512pf": Bit(7, 0, 1, 26),
    "avx512er": Bit(7, 0, 1, 27),
    "avx512cd": Bit(7, 0, 1, 28),
    "sha_ni": Bit(7, 0, 1, 29),
    "avx512bw": Bit(7, 0, 1, 30),
    "avx512vl": Bit(7, 0, 1, 31),
    "avx512vbmi": Bit(7, 0, 2, 1),
    "avx512_vbmi2": Bit(7, 0, 2, 6),
    "gfni": Bit(7, 0, 2, 8),
    "vaes": Bit(7, 0, 2, 9),
    "vpclmulqdq": Bit(7, 0, 2, 10),
    "avx512_vnni": Bit(7, 0, 2, 11),
    "avx512_bitalg": Bit(7, 0, 2, 12),
    "avx512_vpopcntdq": Bit(7, 0, 2, 14),
    "avx512_4vnniw": Bit(7, 0, 3, 2),
    "avx512_4fmaps": Bit(7, 0, 3, 3),
    "avx512_vp2intersect": Bit(7, 0, 3, 8),
    "amx_bf16": Bit(7, 0, 3, 22),
    "avx512_fp16": Bit(7, 0, 3, 23),
    "amx_tile": Bit(7, 0, 3, 24),
    "amx_int8": Bit(7, 0, 3, 25),
    "sha512": Bit(7, 1, 0, 0),
    "avx_vnni": Bit(7, 1, 0, 4),
    "avx512_bf16": Bit(7, 1, 0, 5),
    "amx_fp16": Bit(7, 1, 0, 21),
    "avx_ifma": Bit(7, 1, 0, 23),
    "avx_vnni_int8": Bit(7, 1, 3, 4),
    "avx_ne_convert": Bit(7, 1, 3, 5),
    "avx_vnni_int16": Bit(7, 1, 3, 10),
    "avx10": Bit(7, 1, 3, 19),
    "abm": Bit(0x80000001, 0, 2, 5),
    "xop": Bit(0x80000001, 0, 2, 11),
    "fma4": Bit(0x80000001, 0, 2, 16),
    "tbm": Bit(0x80000001, 0, 2, 21),
}
_AMX = ("amx_bf16", "amx_tile", "amx_int8", "amx_fp16")
_LATER_VNNI = ("avx_vnni_int8", "avx_vnni_int16", "avx_ifma", "avx_ne_convert", "avx10", "sha512")
_LATER_512 = (
    *("avx512ifma", "avx512vbmi", "avx512_vbmi2", "avx512_vnni", "avx512_bitalg"),
    *("avx512_vpopcntdq", "avx512_4vnniw", "avx512_4fmaps", "avx512_vp2intersect", "avx512_fp16"),
    *("avx512_bf16", "avx512pf", "avx512er"),
)
_FIRST_512 = ("avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl")
_VECTOR_CRYPTO = ("gfni", "vaes", "vpclmulqdq")
_AFTER_SANDY_BRIDGE = (
    *("avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm", "rdrand", "rdseed", "adx", "sha_ni"),
    *("fsgsbase", "erms", "xop", "fma4", "tbm"),
)
_AFTER_NEHALEM = ("avx", "xsave", "osxsave", "aes", "pclmulqdq")

_NO_VNNI = (*_AMX, *_LATER_VNNI, *_LATER_512, *_VECTOR_CRYPTO, "avx_vnni")


@dataclass(frozen=True)
class CpuClass:
    """A generation of CPUs: `name`, common name, required sets and missing flags.

    qemu: QEMU's model with the same instruction sets; "" if it has none.
    """

    name: str
    words: str
    needs: tuple[InstructionSet, ...]
    hidden: tuple[str, ...]
    qemu: str = ""


CLASSES: dict[str, CpuClass] = {
    kind.name: kind
    for kind in (
        CpuClass(
            "sse4",
            "Nehalem, 2008",
            ("sse4_2",),
            (*_NO_VNNI, *_FIRST_512, *_AFTER_SANDY_BRIDGE, *_AFTER_NEHALEM),
            "Nehalem",
        ),
        CpuClass(
            "avx",
            "Sandy Bridge, 2011",
            ("sse4_2", "avx"),
            (*_NO_VNNI, *_FIRST_512, *_AFTER_SANDY_BRIDGE),
            "SandyBridge",
        ),
        CpuClass(
            "avx2",
            "Haswell to Comet Lake, Zen to Zen 3",
            ("avx2", "fma"),
            (*_NO_VNNI, *_FIRST_512),
            "Haswell",
        ),
        CpuClass(
            "avx-vnni",
            "Alder Lake and later, without AVX-512",
            ("avx2", "avx_vnni"),
            (*_AMX, *_LATER_VNNI, *_LATER_512, *_FIRST_512),
        ),
        CpuClass(
            "avx512-vnni",
            "Ice Lake, Zen 4: AVX-512 with VNNI",
            ("avx512", "avx512_vnni"),
            (*_AMX, *_LATER_VNNI, "avx512_fp16", "avx_vnni"),
        ),
        CpuClass("avx512", "Skylake-X, 2017: AVX-512 without VNNI", ("avx512",), _NO_VNNI),
    )
}


def masks(hidden: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """Leaf, subleaf, register and the bits to clear there to hide the flags `hidden`."""
    clear: dict[tuple[int, int, int], int] = {}
    for flag in hidden:
        leaf, subleaf, register, bit = BITS[flag]
        clear[leaf, subleaf, register] = clear.get((leaf, subleaf, register), 0) | 1 << bit
    for (leaf, subleaf, register), bits in clear.items():
        yield leaf, subleaf, register, bits


def class_without(kind: CpuClass, cpuinfo: str) -> str:
    """The text of /proc/cpuinfo from a kernel on a CPU of class `kind`."""
    hidden = set(kind.hidden)
    lines = []
    for line in cpuinfo.splitlines(keepends=True):
        key, colon, value = line.partition(":")
        if key.strip() == "flags":
            kept = [flag for flag in value.split() if flag not in hidden]
            line = f"{key}{colon} {' '.join(kept)}\n"
        lines.append(line)
    return "".join(lines)


# glibc's names for them in glibc.cpu.hwcaps, including the names of releases up to 2.32.
_GLIBC = {
    "avx": ("AVX", "AVX_Usable"),
    "avx2": ("AVX2", "AVX2_Usable", "AVX_Fast_Unaligned_Load"),
    "fma": ("FMA", "FMA_Usable"),
    "fma4": ("FMA4", "FMA4_Usable"),
    "f16c": ("F16C",),
    "avx512f": ("AVX512F", "AVX512F_Usable"),
    "avx512dq": ("AVX512DQ", "AVX512DQ_Usable"),
    "avx512bw": ("AVX512BW",),
    "avx512vl": ("AVX512VL",),
    "avx512cd": ("AVX512CD",),
    "bmi1": ("BMI1",),
    "bmi2": ("BMI2",),
    "abm": ("LZCNT",),
    "movbe": ("MOVBE",),
    "erms": ("ERMS",),
}


def glibc_tunables(hidden: Sequence[str]) -> str:
    """The value of GLIBC_TUNABLES that keeps glibc's own functions from using the flags `hidden`.

    The dynamic linker asks the CPU before anything can be hidden from it.
    """
    names = [f"-{name}" for flag in hidden for name in _GLIBC.get(flag, ())]
    return f"glibc.cpu.hwcaps={','.join(names)}"
