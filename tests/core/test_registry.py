"""Objects by name, built in and from installed packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq.core.errors import InvalidInput
from edgeq.core.registry import Registry


@dataclass(frozen=True)
class Thing:
    name: str


def test_what_is_built_in_is_found_without_a_search_for_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that cannot be loaded ends what asks for its objects, and nothing else."""
    info = tmp_path / "toy_thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-thing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgeq.test_things]\nother = toy_thing:ABSENT\n")
    monkeypatch.syspath_prepend(tmp_path)
    things = Registry("thing", "edgeq.test_things", Thing, [Thing("own")])
    assert things.named("own") == Thing("own")
    for ask in (lambda: things.named("other"), lambda: list(things), lambda: things.packages):
        with pytest.raises(InvalidInput, match="toy_thing:ABSENT cannot be loaded"):
            ask()
