"""An artifact's share of an app, compared with app store limits and the device's app limit."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.core.artifact import Artifact
from edgeq.core.terms import How
from edgeq.core.units import format_bytes
from edgeq.devices.profile import AppMemory, Device, System, in_range
from edgeq.formats.bundle import LimitLine
from edgeq.pipeline.check.verdict import Verdict

MB, GB = 10**6, 10**9


@dataclass(frozen=True)
class StoreLimit:
    """One limit of a store, in bytes.

    written: as the store writes it. limited: what must stay below it. beyond: the remedy above it.
    If a store does not say whether a MB has 10^6 or 2^20 bytes, the smaller is used.
    """

    id: str
    system: System
    bytes: int
    written: str
    limited: str
    beyond: str
    url: str


_APP_STORE = "https://developer.apple.com/help/app-store-connect/reference/maximum-build-file-sizes"
_CELLULAR = (  # the setting since iOS 13: "Ask If Over 200 MB"
    "https://is.jablickar.cz/"
    "jak-na-iphone-povolit-stahovani-velkych-aplikaci-z-app-store-pres-mobilni-data/"
)
_PLAY = "https://support.google.com/googleplay/android-developer/answer/9859372"

STORE_LIMITS = (
    StoreLimit(
        "app-store.cellular",
        "ios",
        200 * MB,
        "200 MB",
        "above which the App Store asks before downloading an app over a cellular network",
        "the download waits for confirmation; to avoid that, deliver it with Background Assets",
        _CELLULAR,
    ),
    StoreLimit(
        "app-store.app",
        "ios",
        4 * GB,
        "4 GB",
        "for the uncompressed size of an app in the App Store",
        "deliver it with Background Assets, or choose a variant with fewer bits",
        _APP_STORE,
    ),
    StoreLimit(
        "google-play.base",
        "android",
        200 * MB,
        "200 MB",
        "for the compressed base module of an app on Google Play",
        "move it to an asset pack",
        _PLAY,
    ),
    StoreLimit(
        "google-play.asset-pack",
        "android",
        1500 * MB,
        "1.5 GB",
        "for one compressed asset pack on Google Play",
        "split it, or choose a variant with fewer bits",
        _PLAY,
    ),
    StoreLimit(
        "google-play.install",
        "android",
        4 * GB,
        "4 GB",
        "for all modules and install-time asset packs on Google Play together, compressed",
        "choose a variant with fewer bits",
        _PLAY,
    ),
)
"""Limits of stores; for the base module, the smaller of the published numbers."""


def sized(
    artifact: Artifact,
    device: Device,
    verdict: Verdict | None = None,
    cache_bytes: int | None = None,
) -> tuple[LimitLine, ...]:
    """Compare an artifact with the stores of a device's system and the memory of one app there.

    verdict: the artifact's, whose measured memory is used if it is for `device`; without it, memory
    is estimated from the weights and `cache_bytes`, a language model's KV cache.
    """
    memory, how = memory_of(artifact, device, verdict, cache_bytes)
    return (*store_lines(artifact.bytes, device), *memory_lines(memory, how, device))


def store_lines(size: int, device: Device) -> tuple[LimitLine, ...]:
    """Compare `size` bytes of an app's files with the store limits of a device's system.

    Model files hardly compress, so their size also approximates the compressed download.
    """
    return tuple(
        _store_line(size, known, device) for known in STORE_LIMITS if known.system == device.os
    )


def _store_line(size: int, known: StoreLimit, device: Device) -> LimitLine:
    within = size < known.bytes
    limit = f"the {known.written} ({format_bytes(known.bytes)}) {known.limited}"
    left = f"below {limit}; {format_bytes(known.bytes - size)} are left for the rest of the app"
    over = f"not below {limit}: {known.beyond}"
    return LimitLine(
        limit=known.id,
        device=device.id,
        bytes=size,
        limit_bytes=known.bytes,
        within=within,
        how="measured",
        text=f"adds {format_bytes(size)}: {left if within else over}",
        url=known.url,
    )


def memory_of(
    artifact: Artifact, device: Device, verdict: Verdict | None, cache_bytes: int | None
) -> tuple[int, How]:
    """Bytes that an artifact needs on a device: measured there, else its weights and cache."""
    lines = verdict.lines if verdict is not None and verdict.device == device.id else ()
    for line in lines:
        if line.budget == "device.memory" and line.value is not None:
            return int(line.value), line.how
    return artifact.weight_bytes + (cache_bytes or 0), "estimated"


def memory_lines(needed: int, how: How, device: Device) -> tuple[LimitLine, ...]:
    """Compare `needed` bytes with the memory of one app on a device, for every entitlement."""
    limits = [known for known in device.app_memory if in_range(device.os_version, known.os)]
    return tuple(_memory_line(needed, how, known, device) for known in limits)


def _memory_line(needed: int, how: How, known: AppMemory, device: Device) -> LimitLine:
    within = needed < known.limit
    what = "weights and cache, estimated, without activations" if how == "estimated" else how
    below = "below" if within else "not below"
    granted = "" if known.entitlement == "none" else f" with the entitlement {known.entitlement}"
    return LimitLine(
        limit=f"app-memory.{known.entitlement}",
        device=device.id,
        bytes=needed,
        limit_bytes=known.limit,
        within=within,
        how=how,
        text=f"needs {format_bytes(needed)} ({what}): {below} the {format_bytes(known.limit)} "
        f"({known.basis}) that one app may use on {device.id}, {device.os} {device.os_version}"
        f"{granted}",
        url=next((note.url for note in device.sources["app_memory"] if note.url), None),
    )
