"""The pages of the reference, from the schemas, the profiles, the command line and the glossary."""

from __future__ import annotations

import tables
from tables import code, plain, table

from edgeq.core.artifact import ARTIFACT_FILE, Artifact
from edgeq.core.units import exact_bytes, format_bytes
from edgeq.devices.catalogue import HERE, device_ids, load_device
from edgeq.devices.profile import Device
from edgeq.formats.bundle import BUNDLE_FILE, VERDICTS_FILE, Bundle, Verdicts
from edgeq.pipeline.check.verdict import Verdict
from edgeq.recipe.parts import PartsRecipe
from edgeq.recipe.schema import Recipe

_MADE = "*This page is made from the code that it describes, whenever the site is built.*\n"


def _page(title: str, *parts: str) -> str:
    return "\n\n".join((f"# {title}", _MADE, *parts)) + "\n"


def recipe() -> str:
    """Every field of a recipe."""
    single, parts = Recipe.model_json_schema(), PartsRecipe.model_json_schema()
    return _page(
        "Recipe",
        "A recipe is a YAML 1.2 file. A key that is not listed here is refused, with the nearest "
        "one that exists; every quantity carries its unit. `edgeq schema` prints the same as JSON "
        "schema, with which editors complete and check recipes. What the parts are for: "
        "[Recipes](../concepts/recipe.md). The keys of a recipe of "
        "[several models](../howto/parts.md) are at the end.",
        tables.objects(single, "recipe"),
        tables.objects(parts, "parts", without=[*single["$defs"]]),
    )


def device() -> str:
    """Every field of a device profile."""
    return _page(
        "Device profile",
        "A profile is a YAML file whose name is the device's id. "
        "[Add a device](../howto/device.md) shows how to write one.",
        tables.objects(Device.model_json_schema(), "device"),
    )


def devices() -> str:
    """Every shipped device, each fact with its sources."""
    known = [load_device(id) for id in device_ids() if id != HERE]
    rows = [
        [f"[`{d.id}`](#{d.id})", d.name, d.chip, format_bytes(d.ram),
         f"{format_bytes(d.app_limit().bytes)} ({d.app_limit().basis})"]
        for d in known
    ]  # fmt: skip
    head = ["id", "device", "chip", "memory", "one app may use"]
    return _page(
        "Devices",
        "The devices that come with edgeq. Every fact has a source; *rule of thumb* means that "
        "nobody published a measurement. `edgeq devices ID` prints the same.",
        table(head, rows),
        *map(_facts, known),
    )


def _facts(device: Device) -> str:
    rows = []
    for name in Device.model_fields:
        value = getattr(device, name)
        if name in ("id", "name", "sources") or not value:
            continue
        notes = [
            f"{plain(note.text)} [source]({note.url})" if note.url else plain(note.text)
            for note in device.sources.get(name, ())
        ]
        rows.append([code(name), _shown(name, value), "<br>".join(notes)])
    return f"## {device.name} {{ #{device.id} }}\n\n" + table(["fact", "value", "source"], rows)


def _shown(name: str, value: object) -> str:
    if name in ("ram", "gpu_memory"):
        return exact_bytes(value)  # type: ignore[arg-type]
    if name == "memory_bandwidth":
        return f"{value / 1e9:g} GB/s"  # type: ignore[operator]
    if name == "app_memory":
        return "<br>".join(
            f"{format_bytes(limit.limit)}: system {plain(limit.os)}, entitlement "
            f"{limit.entitlement}, {limit.basis}"
            for limit in value  # type: ignore[attr-defined]
        )
    if name == "cores":
        threads = value.threads  # type: ignore[attr-defined]
        words = f"{value.performance} performance, {value.efficiency} efficiency"  # type: ignore[attr-defined]
        return f"{words}, {threads} threads" if threads else words
    if isinstance(value, dict):
        return "<br>".join(
            f"{key}: {plain(held) if isinstance(held, str) else ', '.join(held)}"
            for key, held in value.items()
        )
    return ", ".join(value) if isinstance(value, tuple) else plain(str(value))


def records() -> str:
    """The JSON that edgeq writes."""
    artifact, bundle, verdicts, verdict = (
        model.model_json_schema(mode="serialization")
        for model in (Artifact, Bundle, Verdicts, Verdict)
    )
    known = ("Artifact", *artifact["$defs"])
    return _page(
        "JSON records",
        f"`{ARTIFACT_FILE}` lies in every artifact, `{BUNDLE_FILE}` first in every bundle, and "
        f"`{VERDICTS_FILE}` in every bundle that was checked; each ends with `digest`, the SHA-256 "
        "of the record without it, so that a changed byte is noticed. A verdict is what `edgeq "
        "check --json` prints a list of. Sizes are in bytes, times in seconds; nothing is rounded.",
        tables.objects(artifact, ARTIFACT_FILE, written=False),
        tables.objects(bundle, BUNDLE_FILE, written=False, without=known),
        tables.objects(verdicts, VERDICTS_FILE, written=False),
        tables.objects(verdict, "verdict", written=False),
    )
