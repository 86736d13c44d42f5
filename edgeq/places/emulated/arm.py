"""A 64-bit Arm system in a folder, sufficient for edgeq's worker: downloaded once, run in an
emulator.

No image and no privileges are needed: Python and its libraries come as Arm packages from this
system's mirror, edgeq's imports as Arm wheels in the versions installed here.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgeq.core import child
from edgeq.core.errors import Missing, Problem
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import Progress
from edgeq.formats import runtime_cache
from edgeq.places.emulated import apt
from edgeq.places.emulated.elf import drop_unloaded
from edgeq.places.emulated.qemu import fetch_qemu, find_qemu

SETUP_COMMAND = "edgeq emulate arm64"
_ROOT_STAGE, _PACKAGES_STAGE = "arm64-system", "arm64-packages"
_ROOT_KEY = {"packages": ["python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1"]}
# Imports of a worker; xllamacpp only if GGUF files are run.
_IMPORTED = (
    *("annotated-types", "filelock", "flatbuffers", "numpy", "onnxruntime", "packaging"),
    *("platformdirs", "psutil", "pydantic", "pydantic-core", "ruamel.yaml", "tokenizers"),
    *("typing-extensions", "typing-inspection"),
)
_IF_HERE = ("xllamacpp",)
# Not used by a worker; half of the size.
_NOT_USED = (
    *("numpy/**/tests", "numpy/f2py", "onnxruntime/transformers", "onnxruntime/tools"),
    *("onnxruntime/quantization", "onnxruntime/capi/libonnxruntime.so*", "bin"),
)
_NOT_USED_ROOT = ("usr/share", "usr/lib/*/gconv", "usr/lib/python3*/pydoc_data", "var")
_OLDEST_GLIBC, _NEWEST_GLIBC = 17, 36  # minor versions of wheels' platforms; Debian 12's is 36
_SECONDS = 900


@dataclass(frozen=True)
class ArmSystem:
    """The paths of the emulator, the system's root, and the packages on Python's path."""

    qemu: Path
    root: Path
    packages: Path

    @property
    def python(self) -> Path:
        return _python(self.root)


def unsupported() -> str | None:
    """Why this machine cannot emulate an Arm system, whatever is downloaded; None if it can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        found = f"{platform.system()} on {platform.machine()}"
        return f"64-bit Arm is emulated on Linux on x86-64 only, this is {found}"
    return None


def find_arm() -> ArmSystem | None:
    """The Arm system set up here for the currently installed packages; None if there is none."""
    if unsupported():
        return None
    qemu = find_qemu("aarch64")
    root = runtime_cache.store().find(_ROOT_STAGE, _ROOT_KEY)
    if qemu is None or root is None:
        return None
    packages = runtime_cache.store().find(_PACKAGES_STAGE, _packages_key(root))
    return ArmSystem(qemu, root, packages) if packages else None


def set_up_arm(progress: Progress) -> ArmSystem:
    """Download missing parts; complete parts are kept if a later one fails.

    Raises Missing with the reason if one is not available.
    """
    reason = unsupported()
    if reason is not None:
        raise Missing(Problem("arm64", reason))
    qemu = fetch_qemu("aarch64", progress)
    root = runtime_cache.store().find(_ROOT_STAGE, _ROOT_KEY)
    if root is None:
        progress("fetching Python for 64-bit Arm")
        root = runtime_cache.store().stage(
            _ROOT_STAGE, _ROOT_KEY, _make_root, describe="an Arm Python"
        )
    key = _packages_key(root)
    packages = runtime_cache.store().find(_PACKAGES_STAGE, key)
    if packages is None:
        progress("fetching packages for 64-bit Arm")
        version = _python(root).name.removeprefix("python")
        packages = runtime_cache.store().stage(
            _PACKAGES_STAGE, key, lambda to: _make_packages(to, version), describe="Arm wheels"
        )
        runtime_cache.drop_unused(packages)
    return ArmSystem(qemu, root, packages)


def size(system: ArmSystem) -> int:
    """Bytes on disk of all parts."""
    folders = (system.root, system.packages)
    files = (path for folder in folders for path in folder.rglob("*"))
    total = sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink())
    return total + system.qemu.stat().st_size


def _make_root(directory: Path) -> None:
    with TemporaryFolder() as work:
        arm = apt.Apt(Path(work) / "apt", "arm64")
        version = arm.newest_python()
        names = [f"python{version}-minimal", f"libpython{version}-stdlib", *_ROOT_KEY["packages"]]
        arm.unpack(names, directory)
    if not (directory / "lib").exists():  # systems that have all libraries in usr/lib
        (directory / "lib").symlink_to("usr/lib")
    _remove(directory, _NOT_USED_ROOT)
    for path in list(directory.rglob("*")):
        if path.is_symlink() and not path.exists():  # to removed files, or to this very system
            path.unlink()


def _python(root: Path) -> Path:
    """`usr/bin/python3.N` below `root`."""
    found = [
        path for path in root.glob("usr/bin/python3.*") if re.fullmatch(r".*3\.\d+", path.name)
    ]
    return found[0]


def _packages_key(root: Path) -> dict[str, object]:
    return {"python": _python(root).name, "packages": _pinned()}


def _pinned() -> list[str]:
    """`name==version` of every package, as installed here."""
    pins = [f"{name}=={metadata.version(name)}" for name in _IMPORTED]
    for name in _IF_HERE:
        try:
            pins.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return pins


def _make_packages(directory: Path, python: str) -> None:
    platforms = [f"manylinux_2_{n}_aarch64" for n in range(_OLDEST_GLIBC, _NEWEST_GLIBC + 1)]
    command = [
        *child.command("pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--target", str(directory), "--no-deps", "--no-compile", "--only-binary", ":all:"),
        *("--python-version", python, "--implementation", "cp"),
        *(word for name in (*platforms, "manylinux2014_aarch64") for word in ("--platform", name)),
        *_pinned(),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        what = f"pip did not finish within {_SECONDS} s"
        raise Missing(Problem("arm64", what, f"try again: {SETUP_COMMAND}")) from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        what = f"pip has no such wheels for 64-bit Arm: {' '.join(errors or [done.stderr])[-400:]}"
        raise Missing(
            Problem("arm64", what, f"when the package index is reachable: {SETUP_COMMAND}")
        )
    _remove(directory, _NOT_USED)
    for library in directory.rglob("*.so*"):
        drop_unloaded(library)


def _remove(directory: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in list(directory.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
