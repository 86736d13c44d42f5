"""An emulated 64-bit Arm CPU: runs the Arm builds of the runtimes, instruction by instruction."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.core import child
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.sampling import LEAST_SAMPLES
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import How, Pass
from edgeq.core.validation_messages import suggest
from edgeq.devices.profile import Device
from edgeq.formats import runtime_cache
from edgeq.places.emulated.arm import SETUP_COMMAND, ArmSystem, find_arm, unsupported
from edgeq.places.place import Place
from edgeq.places.process import PassFailed, Request, Requests, run_worker

_CORES = 2  # shown in cpuinfo; the host's CPUs do the work
# Settings of the host's environment for its libraries would reach the emulated ones.
_UNSET = (
    "LD_PRELOAD",
    "LD_AUDIT",
    "LD_LIBRARY_PATH",
    "GLIBC_TUNABLES",
    "OPENBLAS_CORETYPE",
    "PYTHONHOME",
)
_COMMON = "fp asimd aes pmull sha1 sha2 crc32"
_V82 = "atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True)
class ArmClass:
    """A generation of cores: QEMU's model, and Linux's description of it in /proc/cpuinfo.

    features: those that the kernel reports by AT_HWCAP on that model.
    """

    name: str
    words: str
    qemu: str
    features: str
    implementer: int
    part: int

    def cpuinfo(self) -> str:
        """The text of /proc/cpuinfo; onnxruntime's CPU detection ends the process without one."""
        cores = (
            f"processor\t: {core}\nBogoMIPS\t: 100.00\nFeatures\t: {self.features}\n"
            f"CPU implementer\t: {self.implementer:#04x}\nCPU architecture: 8\n"
            f"CPU variant\t: 0x0\nCPU part\t: {self.part:#05x}\nCPU revision\t: 1\n\n"
            for core in range(_CORES)
        )
        return "".join(cores)


CLASSES: dict[str, ArmClass] = {
    kind.name: kind
    for kind in (
        ArmClass(
            "armv8.0",
            "Cortex-A53 and A72, no dot products",
            "cortex-a53",
            f"{_COMMON} cpuid",
            0x41,
            0xD03,
        ),
        ArmClass(
            "dotprod",
            "Cortex-A76, dot products of bytes",
            "cortex-a76",
            f"{_COMMON} {_V82}",
            0x41,
            0xD0B,
        ),
        # Everything that QEMU has except SVE and SME: those slow it down, and its SME is wrong.
        ArmClass(
            "i8mm",
            "Armv8.6 and later, matrix products of bytes",
            "max,sve=off,sme=off",
            f"{_COMMON} {_V82} jscvt fcma sha3 sm3 sm4 sha512 asimdfhm ilrcpc flagm sb paca pacg"
            " dcpodp flagm2 frint i8mm bf16 rng bti mte",
            0x00,
            0x051,
        ),
    )
}


def available() -> str | None:
    """Why no Arm CPU can be emulated here now; None if one can."""
    reason = unsupported()
    if reason is None and find_arm() is None:
        return f"the Arm system is not set up: {SETUP_COMMAND}"
    return reason


class ArmPlace(Place):
    """An emulated Arm CPU of class `cpu_class` (`armv8.0`, `dotprod`, `i8mm`).

    Answers are those of the Arm kernels; time and memory are meaningless there. Raises Missing if
    `available` gives a reason.
    """

    how: How = "emulated"
    most_samples = LEAST_SAMPLES  # a sentence takes about a second
    slowdown = 50.0
    passes: frozenset[Pass] = frozenset(("quality",))

    def __init__(self, cpu_class: str) -> None:
        if cpu_class not in CLASSES:
            remedy = suggest(cpu_class, list(CLASSES))
            raise InvalidInput(Problem(cpu_class, "is not a class of Arm CPUs", remedy))
        self.cpu_class = CLASSES[cpu_class]
        self.name = f"arm64: {cpu_class}"
        found = find_arm() if unsupported() is None else None
        if found is None:
            raise Missing(Problem(self.name, available() or "it was removed", SETUP_COMMAND))
        self._system: ArmSystem = found
        self._folder: TemporaryFolder | None = None
        self._device: Device | None = None

    def run(self, request: Request, timeout_seconds: float | None = None) -> dict[str, Any]:
        """See `Place.run`. Raises InvalidInput for a pass that is meaningless here."""
        if request.work not in self.passes:
            what = f"an emulator cannot measure {request.work}"
            raise InvalidInput(Problem(self.name, what, "measure it on the device"))
        return run_worker(request, timeout_seconds, python=self.interpreter())

    def run_each(self, requests: Sequence[Request]) -> list[dict[str, Any]]:
        together = Requests(requests=tuple(requests))
        return list(run_worker(together, python=self.interpreter())["replies"])

    def device(self) -> Device:
        if self._device is None:
            command = self.interpreter().command("edgeq.devices.detect")
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                what = f"an emulated process ended with {done.returncode}: {done.stderr[-400:]}"
                raise PassFailed(what)
            found = Device.model_validate(json.loads(done.stdout))
            words = f"an emulated CPU: {self.cpu_class.words}"
            self._device = found.model_copy(update={"name": words})
        return self._device

    def python(self) -> Path:
        """A program that is Python on the emulated CPU, with packages to import, until `close`."""
        if self._folder is None:
            self._folder = TemporaryFolder()
            _furnish(Path(self._folder.name), self._system, self.cpu_class)
        return Path(self._folder.name, "python")

    def interpreter(self) -> child.Python:
        """The same program, to run modules of this edgeq."""
        # Packages next to an installed edgeq are for this machine's CPU: they are not searched.
        path = (str(self._system.packages),)
        return dataclasses.replace(child.this_python(), executable=str(self.python()), path=path)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def _furnish(folder: Path, system: ArmSystem, kind: ArmClass) -> None:
    """Write the files that start an emulated process: a root and the program."""
    root = folder / "root"
    (root / "proc").mkdir(parents=True)
    for path in system.root.iterdir():
        if path.is_dir():
            (root / path.name).symlink_to(path)
    (root / "proc" / "cpuinfo").write_text(kind.cpuinfo(), encoding="ascii")
    cache = runtime_cache.cache_directory() / "emulated"
    variables = {
        "PYTHONPATH": str(system.packages),
        "PYDANTIC_DISABLE_PLUGINS": "1",  # searching for some takes a tenth of a start
        "EDGEQ_CACHE": str(cache / f"arm64-{kind.name}"),
    }
    # A script, so that a worker's own children are emulated too: they start sys.executable, which
    # is the name given with -0. Variables reach the emulated process only through -E.
    words = [
        *(str(system.qemu), "-cpu", kind.qemu, "-L", str(root)),
        *(word for name in _UNSET for word in ("-U", name)),
        *(word for name, value in variables.items() for word in ("-E", f"{name}={value}")),
    ]
    python = [str(system.python), "-s", "-X", f"pycache_prefix={cache / 'arm64-bytecode'}"]
    script = f'#!/bin/sh\nexec {shlex.join(words)} -0 "$0" {shlex.join(python)} "$@"\n'
    program = folder / "python"
    program.write_text(script, encoding="utf-8")
    program.chmod(0o755)
