"""A verdict's line and notes on differences between CPUs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgeq.devices.profile import Device, matches
from edgeq.measure.cross_cpu.records import Differences, PlaceDifferences
from edgeq.measure.cross_cpu.statistics import LEAST_RMS, WHOLE_TIMES
from edgeq.pipeline.check.verdict import Line
from edgeq.places.emulated.catalogue import class_of_device

BUDGET = "device.answers"


def answers_line(found: Differences, device: Device, here: Device) -> Line | None:
    """Return the line for the device's own CPU class; None if that class was not compared.

    here: the machine that is the reference. It has a line too, provided that operators were run
    alone: for a GGUF it would only be compared with itself.
    """
    place = _place_of(found, device, here)
    if place is None or place.status == "not run":
        return None
    if place.place == found.reference and not place.compared:
        return None
    whole = place.whole
    limit = LEAST_RMS if whole is None else whole.allowed(WHOLE_TIMES)
    margin = None if whole is None else limit - whole.rms
    failed = place.status == "differs"
    run_on = f"run on {_names([place])}, compared with {here.chip}"
    if place.place == found.reference:
        run_on = "each operator alone; the reference for other CPUs' outputs"
    return Line(
        budget=BUDGET,
        unit="relative error",
        bound="at most",
        limit=limit,
        value=None if whole is None else whole.rms,
        margin=margin,
        margin_share=margin / limit if margin is not None and limit else None,
        status="fail" if failed else "pass",
        how=place.how,
        reason="; ".join(filter(None, [place.reason if failed else "", run_on])),
        remedy=_remedy(place) if failed else "",
    )


def answers_notes(found: Differences, device: Device, here: Device) -> Iterator[str]:
    """Notes on fixes and differences, merged if they are equal, and if the device's own class was
    not compared. That others were not is in the record and the report: it does not matter here.
    """
    own = _place_of(found, device, here)
    if own is None:
        yield f"not compared for {device.name}: its profile names no instruction sets"
    said: dict[tuple[str, str], list[PlaceDifferences]] = {}
    for place in found.places:
        # That the own class differs is said in its line.
        notable = ("cured", "not run") if place is own else ("cured", "differs")
        if place.status in notable:
            said.setdefault(_said(place), []).append(place)
    for (before, after), places in said.items():
        yield f"{before} {_names(places)}{after}"


def _place_of(found: Differences, device: Device, here: Device) -> PlaceDifferences | None:
    if device.id == here.id or matches(device, here):
        name: str | None = found.reference
    else:
        name = class_of_device(device)
    return next((place for place in found.places if place.place == name), None)


def _said(place: PlaceDifferences) -> tuple[str, str]:
    """Return the text before and after the names of the places that it applies to."""
    if place.status == "not run":
        return "answers not compared on", f": {place.reason}"
    if place.status == "differs":
        return "answers differ on", f": {place.reason}"
    fault = place.operators[0].statistics.faults()[0]
    settings = _settings(place)
    return "on", f", {place.operator} without {settings}, which is set at load there: {fault}"


def _names(places: Iterable[PlaceDifferences]) -> str:
    """`x86 avx2, avx512 and arm64 dotprod`."""
    by_kind: dict[str, list[str]] = {}
    for place in places:
        kind, _, name = place.place.partition(": ")
        by_kind.setdefault(kind, []).extend([name] if name else [])
    return " and ".join(f"{kind} {', '.join(names)}".rstrip() for kind, names in by_kind.items())


def _settings(place: PlaceDifferences) -> str:
    return ", ".join(f"{name}={value}" for name, value in place.cure.items())


def _remedy(place: PlaceDifferences) -> str:
    if place.cure:
        return f"set {_settings(place)} when the session is made"
    others = "another variant, or what differs in float32 with quantize.rules"
    return f"{others}; `edgeq compare-cpus` on the artifact shows each operator"
