"""Bundles of artifacts that no check judged."""

from __future__ import annotations

from pathlib import Path

from edgeq.pipeline.bundle.write import write_bundle


def unchecked_bundle(artifact: Path, out: Path) -> Path:
    """Write the artifact to the bundle `out`, without verdicts, recipe and licence."""
    return write_bundle(
        artifact,
        out,
        recipe_text="",
        verdicts=[],
        licence=None,
        licence_text=None,
        unchecked=True,
    )
