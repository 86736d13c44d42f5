"""Devices whose release of Apple's systems has no runtime for a target's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeq.core.errors import Problem
from edgeq.core.yamlfile import Document
from edgeq.devices.profile import Device, in_range
from edgeq.formats.apple.releases import Release
from edgeq.formats.registry import FILE_FORMATS, file_format
from edgeq.quantize.storage import Format
from edgeq.recipe.schema import Recipe


def runs_on(device: Device, release: Release) -> bool:
    """Whether a device has at least that release of its system."""
    oldest = release.macos if device.os == "macos" else release.ios
    return in_range(device.os_version, f">={oldest}")


def without_runtime(
    recipe: Recipe, document: Document, devices: Mapping[Format, Mapping[str, Device]]
) -> Iterator[Problem]:
    """A problem for every device that is older than the runtime of its target's format."""
    for index, target in enumerate(recipe.targets):
        format = file_format(target.format)
        first = format.first_release
        for position, id in enumerate(() if format.has_releases else target.devices):
            device = devices.get(target.format, {}).get(id)
            if first is None or device is None or runs_on(device, first):
                continue
            where = document.place(("targets", index, "devices", position))
            said = f"{id} has {device.os} {device.os_version}, {format.title} begins with {first}"
            yield Problem(where, said, f"remove the device, or {_older(first)}")


def _older(first: Release) -> str:
    """Formats that earlier releases read."""
    able = [
        f"write 'format: {each.name}', which {each.first_release} reads"
        for each in FILE_FORMATS.values()
        if each.first_release is not None and each.first_release.ios < first.ios
    ]
    return " or ".join(able) or "choose a newer one"
