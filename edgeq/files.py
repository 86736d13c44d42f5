"""Files a person names to be written."""

from __future__ import annotations

from pathlib import Path

from edgeq.errors import InvalidInput, Problem


def writable(path: Path, option: str) -> None:
    """Refuse a file to write, before the work, if its directory is not there or it is one."""
    if path.is_dir():
        raise InvalidInput(Problem(option, f"{path} is a directory", "name a file in it"))
    if not path.parent.is_dir():
        what = f"there is no directory {path.parent}"
        raise InvalidInput(Problem(option, what, "make it first, or name another"))
