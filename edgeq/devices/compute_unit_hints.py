"""Hints on how a device's compute units handle an artifact's number formats, for plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgeq.devices.compute_units import INT8_ACTIVATIONS, UNIT_NAMES, Unit
from edgeq.devices.profile import Device
from edgeq.quantize.number_formats import NumberFormat, number_format
from edgeq.quantize.number_formats.floats import FLOAT16, FloatFormat
from edgeq.quantize.number_formats.integers import INT4_B32, INT8, INT8_B32
from edgeq.quantize.number_formats.palettes import PALETTE4

# Norms and biases stay float and are a percent or so: hints on them would be noise.
_SHARE_THAT_COUNTS = 0.05


def advice_for(
    number_formats: Mapping[str, int], device: Device, compute: str, float32: Sequence[str] = ()
) -> list[str]:
    """Hints on a Core ML artifact on a device; none if its profile does not cover them.

    number_formats: bytes of weights by the number format's name. compute: the operators' type.
    float32: patterns of operators that compute in float32 regardless.

    >>> advice_for({"int4-b32": 10**7}, load_device("iphone-15-pro"), "float16")  # doctest: +SKIP
    ['iphone-15-pro: int4-b32 suits the GPU; on the Neural Engine, rather palette4 or int8']
    """
    if not device.suits:
        return []
    total = sum(number_formats.values())
    counting = [
        stored_as
        for stored_as, size in number_formats.items()
        if size >= _SHARE_THAT_COUNTS * total
    ]
    lines = []
    for stored_as in counting:
        lines.append(f"{stored_as} {'; '.join(_about(stored_as, device))}")
    lines += _about_compute(device, compute, float32)
    return [f"{device.id}: {line}" for line in lines]


def _about(stored_as: str, device: Device) -> Iterator[str]:
    """The text after the format's name: units it suits, alternatives for others, and remarks."""
    usable = [unit for unit in device.usable_units if unit in device.suits]
    fond = [unit for unit in usable if stored_as in device.suits[unit]]
    others = [unit for unit in device.accelerators if unit in usable and unit not in fond]
    if fond:
        yield f"suits {_joined(fond)}"
    else:
        yield f"suits none of the units that Core ML may use ({device.compute_units})"
    for unit in others:
        better = _instead(stored_as, device.suits[unit])
        if better:
            yield f"on {UNIT_NAMES[unit]}, rather {' or '.join(better)}"
    if stored_as == INT8.name and "npu" in usable:
        pays = INT8_ACTIVATIONS in device.suits["npu"]
        yield f"{UNIT_NAMES['npu']} has {'a' if pays else 'no'} faster path for int8 activations"
    if stored_as in device.advice:
        yield device.advice[stored_as].rstrip(".")


def _instead(stored_as: str, suited: Sequence[str]) -> list[str]:
    """Formats of about as many bits that suit a unit, and the next wider one."""
    stored = number_format(stored_as)
    wanted: tuple[NumberFormat, ...] = (PALETTE4, INT4_B32, INT8)
    if isinstance(stored, FloatFormat):
        return [FLOAT16.name] if FLOAT16.name in suited else []
    if stored.bits == 8:
        wanted = (INT8, INT8_B32)
    return [each.name for each in wanted if each.name in suited and each != stored]


def _about_compute(device: Device, compute: str, float32: Sequence[str]) -> Iterator[str]:
    """Operators in float32 do not run on units without float32."""
    unable = [
        unit
        for unit in device.usable_units
        if unit in device.suits and "float32" not in device.suits[unit]
    ]
    if not unable:
        return
    if compute == "float32":
        yield f"operators in float32 do not run on {_joined(unable)}"
    elif float32:
        yield f"operators kept in float32 ({', '.join(float32)}) leave {_joined(unable)}"


def _joined(units: Sequence[Unit]) -> str:
    return " and ".join(UNIT_NAMES[unit] for unit in units)
