"""This machine as an older x86: instruction sets hidden from its programs, at native speed."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeq.core import child
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import How
from edgeq.core.validation_messages import suggest
from edgeq.devices import cpu
from edgeq.devices.profile import Device
from edgeq.formats import runtime_cache
from edgeq.formats.gguf.instructions import beyond
from edgeq.places.emulated import hiding
from edgeq.places.emulated.hiding import Table
from edgeq.places.emulated.x86_classes import CLASSES, CpuClass, class_without, glibc_tunables
from edgeq.places.place import ALL_PASSES, Place
from edgeq.places.process import Request, Requests, run_worker

_CPUINFO = Path("/proc/cpuinfo")
_MOST_ROUNDS = 6  # each library may load others that were not loaded before
# numpy's names for flags that it asks the CPU for
_HEARD = {"AVX": "avx", "F16C": "f16c", "FMA3": "fma", "AVX2": "avx2", "AVX512F": "avx512f"}


def available(name: str) -> str | None:
    """Why this machine cannot stand in for class `name`; None if it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return (
            f"instruction sets are hidden on Linux on x86-64 only, this is {platform.system()} "
            f"on {platform.machine()}"
        )
    if platform.libc_ver()[0] != "glibc":
        return "only glibc's dynamic linker has the audit interface needed to hide them"
    if hiding.compiler() is None:
        return "no C compiler is installed, and a small library must be compiled"
    with contextlib.suppress(ImportError):
        import capstone  # noqa: F401

        present = set(_present())
        lacking = [word for word in class_of(name).needs if word not in present]
        return f"this CPU itself lacks {' and '.join(lacking)}" if lacking else None
    return 'capstone is not installed: pip install ".[emulate]"'


def class_of(name: str) -> CpuClass:
    """The class called `name`; raises InvalidInput suggesting the nearest name."""
    if name not in CLASSES:
        raise InvalidInput(
            Problem(name, "is not a class of x86 CPUs", suggest(name, list(CLASSES)))
        )
    return CLASSES[name]


def _present() -> tuple[str, ...]:
    text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    return cpu.parse_cpuinfo(text, "x86_64").instruction_sets or ()


class MaskedPlace(Place):
    """This CPU, as `cpu_class`: programs that ask for its instruction sets see only those.

    Answers equal that CPU's, bit by bit, if a program chooses its code by asking; time is this
    CPU's, with the code the other one would run. Raises Missing if `available` gives a reason.
    """

    how: How = "emulated"
    passes = ALL_PASSES
    slowdown = 2.0  # narrower vectors

    def __init__(self, cpu_class: str) -> None:
        self.cpu_class = class_of(cpu_class)
        self.name = f"x86: {cpu_class}"
        reason = available(cpu_class)
        if reason is not None:
            raise Missing(Problem(self.name, reason))
        self._folder: TemporaryFolder | None = None
        self._table: Table | None = None
        self._device: Device | None = None

    def run(self, request: Request, timeout_seconds: float | None = None) -> dict[str, Any]:
        """See `Place.run`. Also raises Missing for a runtime compiled for sets that this class
        lacks.
        """
        reply = self._run(request, timeout_seconds)
        self._refuse_beyond(reply["instructions"])
        return reply

    def run_each(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        replies = self._run(Requests(requests=tuple(requests)))["replies"]
        for reply in replies:
            self._refuse_beyond(reply["instructions"])
        return list(replies)

    def _run(
        self, request: Request | Requests, timeout_seconds: float | None = None
    ) -> dict[str, Any]:
        environment = self.environment()
        for _ in range(_MOST_ROUNDS):
            reply = run_worker(request, timeout_seconds, environment=environment)
            if not self._learn():
                return reply
        raise self._restless()

    def device(self) -> Device:
        self.environment()
        assert self._device is not None
        return self._device

    def environment(self) -> dict[str, str]:
        """Environment variables with which a process sees the other CPU.

        The first call runs a process to find the libraries that will be loaded, which takes several
        seconds. Raises Missing if the CPU could not be hidden.
        """
        if self._folder is None:
            self._folder = TemporaryFolder()
            folder = Path(self._folder.name)
            shown = class_without(self.cpu_class, _CPUINFO.read_text(encoding="utf-8"))
            (folder / "cpuinfo").write_text(shown, encoding="utf-8")
            self._table = Table(folder / "table", self.cpu_class.hidden)
            self._meet(self._variables(folder))
        return self._variables(Path(self._folder.name))

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _variables(self, folder: Path) -> dict[str, str]:
        libraries = hiding.libraries()
        preloaded = [str(libraries["show_cpuinfo"]), *os.environ.get("LD_PRELOAD", "").split()]
        return {
            "LD_AUDIT": str(libraries["hide_cpuid"]),
            "LD_PRELOAD": " ".join(preloaded),
            "GLIBC_TUNABLES": glibc_tunables(self.cpu_class.hidden),
            "EDGEQ_HIDE_CPUID": str(folder / "table"),
            "EDGEQ_CPUINFO": str(folder / "cpuinfo"),
            # A variable that names a kernel would force it, whatever the CPU has; an empty name has
            # no effect.
            **{name: "" for name in ("OPENBLAS_CORETYPE",) if name in os.environ},
            # Prepacked copies depend on the visible instruction sets.
            "EDGEQ_CACHE": str(
                runtime_cache.cache_directory() / "emulated" / f"x86-{self.cpu_class.name}"
            ),
        }

    def _learn(self) -> bool:
        assert self._table is not None
        return self._table.learn()

    def _meet(self, variables: dict[str, str]) -> None:
        environment = {**os.environ, **variables}
        command = child.command("edgeq.places.emulated.x86_meet")
        for _ in range(_MOST_ROUNDS):
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode != 0:
                what = f"a process with hidden instruction sets ended with {done.returncode}: "
                raise Missing(Problem(self.name, what + done.stderr.strip()[-400:]))
            if self._learn():
                continue
            said = json.loads(done.stdout)
            heard = {_HEARD[word] for word in said["heard"] if word in _HEARD}
            if heard & set(self.cpu_class.hidden):
                what = f"numpy still sees {', '.join(sorted(heard & set(self.cpu_class.hidden)))}"
                raise Missing(Problem(self.name, what))
            found = Device.model_validate_json(said["here"])
            words = f"this machine as {self.cpu_class.words}"
            self._device = found.model_copy(update={"name": words})
            return
        raise self._restless()

    def _restless(self) -> Missing:
        what = f"other libraries were loaded in each of {_MOST_ROUNDS} runs"
        return Missing(Problem(self.name, what, "start it where no library changes"))

    def _refuse_beyond(self, system: str) -> None:
        """A library compiled for one CPU never asks, so it ran here as it could not there."""
        extra = beyond(system, self.device().instruction_sets)
        if extra:
            what = (
                f"this build of the runtime uses {', '.join(extra)}, which {self.cpu_class.words} "
                f"lacks: it would be killed there by SIGILL"
            )
            raise Missing(Problem(self.name, what, "install a build for that CPU"))
