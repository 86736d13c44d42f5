"""QEMU's user-mode emulators: run a program for another CPU as a process of this system."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Literal

from edgeq.core.errors import Missing, Problem
from edgeq.core.terms import Progress
from edgeq.formats import runtime_cache
from edgeq.places.emulated.apt import Apt

Target = Literal["aarch64", "x86_64"]
_TARGETS = ("aarch64", "x86_64")
_KEY = {"package": "qemu-user-static", "targets": list(_TARGETS)}
_STAGE = "qemu"


def find_qemu(target: Target) -> Path | None:
    """An installed emulator for `target`.

    The one `EDGEQ_QEMU` names (for aarch64), else one in PATH, else the one kept by `fetch_qemu`.
    Raises Missing if `EDGEQ_QEMU` does not name a program.
    """
    chosen = os.environ.get("EDGEQ_QEMU")
    if chosen and target == "aarch64":
        if shutil.which(chosen) is None:
            what = f"{chosen!r} is not a program"
            raise Missing(Problem("EDGEQ_QEMU", what, "name a qemu-aarch64, or unset it"))
        return Path(chosen).absolute()
    for name in (f"qemu-{target}-static", f"qemu-{target}"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    made = runtime_cache.store().find(_STAGE, _KEY)
    return made / f"qemu-{target}-static" if made else None


def fetch_qemu(target: Target, progress: Progress) -> Path:
    """An emulator for `target`, downloaded from the system's package mirror if there is none.

    Raises Missing if none is available.
    """
    found = find_qemu(target)
    if found is not None:
        return found

    def make(directory: Path) -> None:
        work = directory / "work"
        apt = Apt(work, _native())
        apt.unpack(["qemu-user-static"], work / "unpacked", alone=True)
        for name in _TARGETS:
            program = directory / f"qemu-{name}-static"
            (work / "unpacked/usr/bin" / program.name).replace(program)
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        shutil.rmtree(work)

    progress("fetching QEMU")
    made = runtime_cache.store().stage(_STAGE, _KEY, make, describe="QEMU's user-mode emulators")
    return made / f"qemu-{target}-static"


def _native() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
