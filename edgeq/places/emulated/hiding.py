"""Hide instruction sets from a process: two small libraries, and a table they read.

`hide_cpuid.c` answers CPUID, `show_cpuinfo.c` shows another /proc/cpuinfo.
"""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import ClassVar

from edgeq.core import canonical
from edgeq.core.errors import Missing, Problem
from edgeq.core.files import write_bytes
from edgeq.formats import runtime_cache
from edgeq.places.emulated import x86_classes
from edgeq.places.emulated.x86_scan import find_cpuid

_MAGIC = b"EGQCPUI1"
_COMMON = ("-O2", "-shared", "-fPIC", "-Wl,-z,noexecstack")
# The audit library runs before a C library is ready, so it may not use one; and the code whose
# CPUID
# it answers may use any vector registers.
_BARE = (
    *("-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fcf-protection=none"),
    "-mgeneral-regs-only",
)
_SOURCES = {"hide_cpuid": _BARE, "show_cpuinfo": ()}


def compiler() -> str | None:
    """A C compiler of this machine, None if there is none."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


def libraries() -> dict[str, Path]:
    """The compiled libraries by the names of their sources, compiled on the first call and kept.

    Raises Missing if they cannot be compiled here.
    """
    folder = resources.files(__package__)
    sources = {name: folder.joinpath(f"{name}.c").read_bytes() for name in _SOURCES}
    key = {name: canonical.sha256_of(source.decode()) for name, source in sources.items()}

    def make(directory: Path) -> None:
        for name, source in sources.items():
            _compile(source, directory / f"{name}.so", _SOURCES[name])

    made = runtime_cache.store().stage("hide-cpuid", key, make, describe="hides instruction sets")
    return {name: made / f"{name}.so" for name in _SOURCES}


def _compile(source: bytes, library: Path, options: Iterable[str]) -> None:
    found = compiler()
    if found is None:
        what = "no C compiler is installed, and a small library must be compiled"
        raise Missing(Problem("hidden instruction sets", what, "install gcc or clang"))
    command = [found, *_COMMON, *options, "-x", "c", "-", "-o", str(library)]
    done = subprocess.run(command, input=source, capture_output=True)
    if done.returncode != 0:
        what = f"{found} ended with status {done.returncode}: {done.stderr.decode()[-400:]}"
        raise Missing(Problem("hidden instruction sets", what, "install another C compiler"))


class Table:
    """The file that tells a process what to hide, and where the CPUID instructions of files are.

    Extended as files are loaded: `learn` reads files that a process loaded and that were not known.
    What one table of this process learned, the next begins with.
    """

    _loaded: ClassVar[set[Path]] = set()

    def __init__(self, path: Path, hidden: Iterable[str]) -> None:
        self.path = path
        self._masks = list(x86_classes.masks(tuple(hidden)))
        self._known = {path: _places(path) for path in self._loaded if path.exists()}
        self._write()

    def learn(self) -> bool:
        """Add files that a process loaded and that were unknown; returns whether there were any.

        Answers of such a process are worthless: it saw the real CPU. Raises Missing if the system
        does not allow code to be changed.
        """
        refused = self._said("refused")
        if refused:
            what = f"the system does not allow the code of {refused[0]} to be changed in memory"
            remedy = "allow it (SELinux: execmod), or use another machine"
            raise Missing(Problem("hidden instruction sets", what, remedy))
        unknown = [Path(line) for line in self._said("unknown") if Path(line).exists()]
        for path in unknown:
            self._known[path.resolve()] = _places(path)
        self._loaded.update(self._known)
        if unknown:
            self._write()
        return bool(unknown)

    def _said(self, kind: str) -> list[str]:
        path = self.path.with_name(f"{self.path.name}.{kind}")
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").splitlines()
        path.unlink()
        return sorted(set(lines))

    def _write(self) -> None:
        files, places = [], []
        for index, (path, addresses) in enumerate(self._known.items()):
            about = path.stat()
            row = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)
            files.append(struct.pack("<4Q", *row))
            places += [struct.pack("<2Q", index, address) for address in addresses]
        masks = [struct.pack("<4I", *mask) for mask in self._masks]
        counts = struct.pack("<3Q", len(masks), len(files), len(places))
        write_bytes(self.path, b"".join([_MAGIC, counts, *masks, *files, *places]))


def _places(path: Path) -> tuple[int, ...]:
    about = path.stat()
    return _find(path, about.st_size, about.st_mtime_ns)


@functools.cache
def _find(path: Path, size: int, changed: int) -> tuple[int, ...]:
    """`find_cpuid`, once for every state of a file."""
    return find_cpuid(path)
