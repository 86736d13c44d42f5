"""Which stand-in answers for a device that is not here."""

from __future__ import annotations

from edgeq.emulate.arm_place import ArmPlace
from edgeq.emulate.x86_place import MaskedPlace
from edgeq.profile import Device
from edgeq.reach.place import Place


def class_of(device: Device) -> str:
    """The class of CPUs that a device belongs to, by its instruction sets.

    A name of `edgeq.emulate.arm_place.CLASSES` or `edgeq.emulate.x86_classes.CLASSES`.
    """
    sets = set(device.instruction_sets)
    if device.arch == "aarch64":
        return "i8mm" if "i8mm" in sets else "dotprod" if "dotprod" in sets else "armv8.0"
    if "avx512" in sets:
        return "avx512-vnni" if "avx512_vnni" in sets else "avx512"
    if "avx2" in sets:
        return "avx-vnni" if "avx_vnni" in sets else "avx2"
    return "avx" if "avx" in sets else "sse4"


def stand_in(device: Device) -> Place:
    """A place that has the CPU of `device`; raises Missing where it cannot be made here."""
    kind = class_of(device)
    return ArmPlace(kind) if device.arch == "aarch64" else MaskedPlace(kind)
