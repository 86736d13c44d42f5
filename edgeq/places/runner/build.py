"""Compile edgeq-runner for a device, with whichever cross compiler is installed; and onnxruntime's
library for it, out of the package that has it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path

from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.devices.profile import Device
from edgeq.formats import runtime_cache

_FLAGS = ("-std=c++17", "-O2", "-s", "-pthread")
_STATIC = ("-static-libstdc++", "-static-libgcc")  # on the device there may be neither
RUNNER = "edgeq-runner"
_SECONDS = 600.0
_NDK = "toolchains/llvm/prebuilt"
_ANDROID = "aarch64-linux-android28-clang++"


@dataclass(frozen=True)
class Target:
    """A kind of device: its compilers, and where its onnxruntime library is to be had.

    member: the library's path in the package that `package` names.
    """

    triple: str
    zig: str | None
    member: str
    package: str
    install: str

    @property
    def fetch(self) -> str:
        """How to get the library, in the version that is installed here."""
        return self.package.format(version=importlib.metadata.version("onnxruntime"))


_MEMBER = "onnxruntime/capi/libonnxruntime.so.*"
_WHEEL = "pip download onnxruntime=={{version}} --no-deps --only-binary :all: --platform {}"
TARGETS = {
    ("android", "aarch64"): Target(
        "aarch64-linux-android",
        None,
        "jni/arm64-v8a/libonnxruntime.so",
        "the .aar of com.microsoft.onnxruntime:onnxruntime-android:{version} in Maven Central",
        "install Android's NDK, and set ANDROID_NDK_HOME to its directory",
    ),
    ("linux", "aarch64"): Target(
        "aarch64-linux-gnu",
        "aarch64-linux-gnu.2.28",
        _MEMBER,
        _WHEEL.format("manylinux_2_28_aarch64"),
        "install a cross compiler: pip install ziglang, or apt-get install g++-aarch64-linux-gnu",
    ),
    ("linux", "x86_64"): Target(
        "x86_64-linux-gnu",
        "x86_64-linux-gnu.2.28",
        _MEMBER,
        _WHEEL.format("manylinux_2_28_x86_64"),
        "install a compiler: pip install ziglang, or apt-get install g++",
    ),
}
"""By the device's operating system and architecture."""


def target_of(device: Device) -> Target:
    """The target that a device is; raises Missing for one that the runner is not built for."""
    target = TARGETS.get((device.os, device.arch))
    if target is None:
        what = f"edgeq-runner is not built for {device.os} on {device.arch}"
        raise Missing(Problem(device.name, what, "measure it with Python there"))
    return target


def find_runner(target: Target) -> Path:
    """The runner for `target`, compiled on first use and cached."""
    with _source() as source:
        texts = b"".join(path.read_bytes() for path in sorted(source.iterdir()))
        key = {"target": target.triple, "source": hashlib.sha256(texts).hexdigest()}

        def make(directory: Path) -> None:
            _compile(target, source / "main.cpp", directory / RUNNER)

        return runtime_cache.store().stage(RUNNER, key, make, describe=RUNNER) / RUNNER


def find_library(path: Path, target: Target, folder: Path) -> Path:
    """The library in `path`: itself, or a package that has it, which is unpacked to `folder`.

    Raises InvalidInput, with where it is to be had.
    """
    if not path.is_file():
        remedy = f"get it: {target.fetch}; and name that file"
        raise InvalidInput(Problem(str(path), "is not a file", remedy))
    if not zipfile.is_zipfile(path):
        return path
    with zipfile.ZipFile(path) as package:
        names = [name for name in package.namelist() if fnmatch(name, target.member)]
        if len(names) != 1:
            what = f"has no {target.member}"
            raise InvalidInput(Problem(str(path), what, f"get it: {target.fetch}"))
        return Path(package.extract(names[0], folder))


def _source() -> contextlib.AbstractContextManager[Path]:
    return resources.as_file(resources.files("edgeq.places.runner") / "source")


def _compile(target: Target, source: Path, out: Path) -> None:
    compiler = next(_compilers(target), None)
    if compiler is None:
        what = f"no C++ compiler for {target.triple} here"
        raise Missing(Problem(RUNNER, what, target.install))
    command = [*compiler, str(source), "-o", str(out), *_FLAGS, "-ldl"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        what = f"{compiler[0]} did not finish within {_SECONDS:g} s"
        raise Missing(Problem(RUNNER, what, "try again")) from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[:400]
        raise Missing(Problem(RUNNER, f"{compiler[0]} failed: {said}", target.install))


def _compilers(target: Target) -> Iterator[list[str]]:
    """Commands of the compilers that are here, the best first."""
    ndk = os.environ.get("ANDROID_NDK_HOME") or os.environ.get("ANDROID_NDK_ROOT")
    if target.triple.endswith("android"):
        for found in sorted(Path(ndk).glob(f"{_NDK}/*/bin/{_ANDROID}")) if ndk else []:
            yield [str(found), "-static-libstdc++"]
        return
    for name in (f"{target.triple}-g++", *(["g++"] if _is_native(target) else [])):
        if path := shutil.which(name):
            yield [path, *_STATIC]
    if importlib.util.find_spec("ziglang") is not None and target.zig:
        yield [sys.executable, "-m", "ziglang", "c++", "-target", target.zig]


def _is_native(target: Target) -> bool:
    return sys.platform == "linux" and target.triple.startswith(f"{os.uname().machine}-")
