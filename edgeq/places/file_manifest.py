"""Files to copy to another machine: by their SHA-256, and edgeq's own source."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Problem

_PACKAGE = Path(__file__).parent.parent
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip: equal sources give equal archives
# What a worker can import: `measure` and the rooms below it.
_ROOMS = ("core", "devices", "formats", "measure", "models", "places", "quantize", "recipe")
# each imports those before it
_AGENT = (
    "core.child",
    "places.agent_machine",
    "places.agent_wire",
    "places.agent_room",
    "places.agent",
)


class Hashes:
    """SHA-256 of files, recomputed only if a file's size or times have changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}

    def of(self, path: Path) -> str:
        """The full hexadecimal SHA-256. Raises InvalidInput if the file cannot be read."""
        try:
            stat = path.stat()
            state = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            known = self._known.get(path)
            if known is None or known[0] != state:
                self._known[path] = known = (state, canonical.sha256_of_file(path))
        except OSError as error:
            raise InvalidInput(Problem(str(path), f"cannot be read: {error.strerror}")) from None
        return known[1]


def files_below(path: Path, name: str) -> dict[str, Path]:
    """The file `path`, or every file in the directory `path`, named below `name`."""
    if not path.is_dir():
        return {name: path}
    found = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {f"{name}/{file.relative_to(path).as_posix()}": file for file in found}


def write_source(archive: Path) -> None:
    """Write the modules that a worker needs to a zip; the same ones always give the same bytes."""
    found = (path for room in _ROOMS for path in (_PACKAGE / room).rglob("*.py"))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted([*_PACKAGE.glob("*.py"), *found]):
            name = path.relative_to(_PACKAGE.parent).as_posix()
            file.writestr(zipfile.ZipInfo(name, _EPOCH), path.read_bytes(), zipfile.ZIP_DEFLATED)


def agent_source() -> bytes:
    """The agent's modules, as the starter of `start_command` reads them."""
    files = {name: _PACKAGE.joinpath(*name.split(".")).with_suffix(".py") for name in _AGENT}
    texts = [(f"edgeq.{name}", path.read_text(encoding="utf-8")) for name, path in files.items()]
    return json.dumps(texts).encode()
