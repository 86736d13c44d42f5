"""All stand-ins by name, their availability, and the one that stands in for a device."""

from __future__ import annotations

from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.validation_messages import suggest
from edgeq.devices.profile import Device
from edgeq.places.emulated import arm_place, x86_classes, x86_place
from edgeq.places.emulated.arm_place import ArmPlace
from edgeq.places.emulated.x86_place import MaskedPlace
from edgeq.places.place import Place

_ARM, _X86 = "arm64", "x86"


def stand_ins() -> dict[str, str | None]:
    """Every stand-in by name (`x86: avx2`, `arm64: dotprod`), and why it is not available here.

    None if it is.
    """
    reasons = {f"{_X86}: {name}": x86_place.available(name) for name in x86_classes.CLASSES}
    arm = arm_place.available()
    return {**reasons, **{f"{_ARM}: {name}": arm for name in arm_place.CLASSES}}


def stand_in(name: str) -> Place:
    """The stand-in called `name`, with or without its architecture: `arm64: dotprod`, `avx2`.

    Raises InvalidInput for an unknown name, Missing with the reason if it is not available.
    """
    cpu_class = name.rpartition(":")[2].strip()
    if cpu_class in arm_place.CLASSES:
        return ArmPlace(cpu_class)
    if cpu_class in x86_classes.CLASSES:
        return MaskedPlace(cpu_class)
    known = [*x86_classes.CLASSES, *arm_place.CLASSES]
    raise InvalidInput(Problem(name, "is not a stand-in", suggest(cpu_class, known)))


def stand_in_for(device: Device) -> Place:
    """The stand-in with the kernels that a device's CPU would choose, by its instruction sets.

    Raises Missing with the reason if there is none here.
    """
    name = class_of_device(device)
    if name is None:
        what = "its profile names no instruction sets of any stand-in"
        raise Missing(Problem(device.id, what, "add 'instruction_sets' to the profile"))
    return stand_in(name)


def class_of_device(device: Device) -> str | None:
    """The name of that stand-in, available here or not; None if there is none."""
    sets = set(device.instruction_sets)
    if device.arch == "aarch64":
        newest = "i8mm" if "i8mm" in sets else "dotprod" if "dotprod" in sets else "armv8.0"
        return f"{_ARM}: {newest}"
    # Newest first: a CPU also has the instruction sets of earlier classes.
    for name in ("avx512-vnni", "avx512", "avx-vnni", "avx2", "avx", "sse4"):
        if set(x86_classes.CLASSES[name].needs) <= sets:
            return f"{_X86}: {name}"
    return None
