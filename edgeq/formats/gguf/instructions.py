"""The instruction sets of a CPU that a build of llama.cpp cannot use.

llama.cpp chooses its kernels when it is compiled, and reports the instruction sets. A build for
every CPU of an architecture is slower than the device's own would be, by a factor that only the
right build reveals.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.devices.profile import InstructionSet

# The names in llama_print_system_info of the sets for which llama.cpp has specific kernels.
_NAMES: dict[InstructionSet, str] = {
    "avx": "AVX",
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx512": "AVX512",
    "avx512_vnni": "AVX512_VNNI",
    "avx_vnni": "AVX_VNNI",
    "neon": "NEON",
    "fp16": "FP16_VA",
    "dotprod": "DOTPROD",
    "i8mm": "MATMUL_INT8",
    "sve": "SVE",
}


def lacking(system: str, present: Sequence[InstructionSet]) -> list[InstructionSet]:
    """The CPU's sets in `present` that a build reporting `system` cannot use.

    None if `system` is empty: that runtime chooses its kernels at run time. Either of the two sets
    of byte products stands for the other.

    >>> lacking("CPU : AVX2 = 1 | FMA = 1", ["avx2", "fma", "avx512"])
    ['avx512']
    """
    if not system:
        return []
    used = _used(system)
    if "AVX512_VNNI" in used:
        used.add("AVX_VNNI")
    return [word for word in present if word in _NAMES and _NAMES[word] not in used]


def beyond(system: str, present: Sequence[InstructionSet]) -> list[InstructionSet]:
    """The sets that a build reporting `system` uses and a CPU with `present` lacks.

    Such a build is killed there by its first instruction of that kind.

    >>> beyond("CPU : AVX2 = 1 | FMA = 1", ["avx"])
    ['avx2', 'fma']
    """
    used = _used(system)
    return [word for word, name in _NAMES.items() if name in used and word not in present]


def _used(system: str) -> set[str]:
    entries = (entry.split(":")[-1].partition("=") for entry in system.split("|"))
    return {name.strip() for name, _, value in entries if value.strip() == "1"}
