"""Additions to the pages in docs/: the reference, and notes on code that is not run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent.parent
for folder in (_ROOT, Path(__file__).parent):  # the edgeq next to these pages
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import api  # noqa: E402
import commands  # noqa: E402
import fences  # noqa: E402
import reference  # noqa: E402
import words  # noqa: E402
from mkdocs.structure.files import File  # noqa: E402

PAGES = {
    "reference/recipe.md": reference.recipe,
    "reference/device.md": reference.device,
    "reference/devices.md": reference.devices,
    "reference/api.md": api.api,
    "reference/commands.md": commands.commands,
    "reference/statuses.md": commands.statuses,
    "reference/records.md": reference.records,
    "reference/glossary.md": words.glossary,
}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made from the code."""
    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Say below each command that is not run why."""
    return fences.say_what_is_not_run(markdown)
