"""Compile edgeq-runner for a device, with whichever cross compiler is installed; and find the
libraries that it opens there, in the packages that have them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.temporary import TemporaryFolder
from edgeq.devices.profile import Device
from edgeq.formats import runtime_cache
from edgeq.places.runner.llama_header import BUILD, llama_header

_FLAGS = ("-std=c++17", "-O2", "-s", "-pthread")
_STATIC = ("-static-libstdc++", "-static-libgcc")  # on the device there may be neither
RUNNER, NAMES = "edgeq-runner", "libpython-names.so"
_SECONDS = 600.0
_NDK = "toolchains/llvm/prebuilt"
_ANDROID = "aarch64-linux-android28-clang++"


@dataclass(frozen=True)
class Library:
    """A runtime's library: its path in the package that `package` names."""

    member: str
    package: str

    @property
    def fetch(self) -> str:
        """How to get the package, in the version that is installed here."""
        return self.package.format(
            onnxruntime=importlib.metadata.version("onnxruntime"), llama=BUILD.version
        )


@dataclass(frozen=True)
class Target:
    """A kind of device: its compilers, and where its runtimes are to be had, by format."""

    triple: str
    zig: str | None
    install: str
    libraries: Mapping[str, Library]


def _wheels(arch: str) -> dict[str, Library]:
    words = "pip download {} --no-deps --only-binary :all: --platform {}_{}"
    return {
        "onnxruntime": Library(
            "onnxruntime/capi/libonnxruntime.so.*",
            words.format("onnxruntime=={onnxruntime}", "manylinux_2_28", arch),
        ),
        "llama.cpp": Library(
            "xllamacpp/xllamacpp.abi3.so",
            words.format("xllamacpp=={llama}", "manylinux_2_17", arch),
        ),
    }


TARGETS = {
    ("android", "aarch64"): Target(
        "aarch64-linux-android",
        None,
        "install Android's NDK, and set ANDROID_NDK_HOME to its directory",
        {
            "onnxruntime": Library(
                "jni/arm64-v8a/libonnxruntime.so",
                "the .aar of com.microsoft.onnxruntime:onnxruntime-android:{onnxruntime} in Maven "
                "Central",
            )
        },
    ),
    ("linux", "aarch64"): Target(
        "aarch64-linux-gnu",
        "aarch64-linux-gnu.2.28",
        "install a cross compiler: pip install ziglang, or apt-get install g++-aarch64-linux-gnu",
        _wheels("aarch64"),
    ),
    ("linux", "x86_64"): Target(
        "x86_64-linux-gnu",
        "x86_64-linux-gnu.2.28",
        "install a compiler: pip install ziglang, or apt-get install g++",
        _wheels("x86_64"),
    ),
}
"""What to compile with, by the device's operating system and architecture."""


def target_of(device: Device) -> Target:
    """The target that a device is; raises Missing for one that the runner is not built for."""
    target = TARGETS.get((device.os, device.arch))
    if target is None:
        what = f"edgeq-runner is not built for {device.os} on {device.arch}"
        raise Missing(Problem(device.name, what, "measure it with Python there"))
    return target


def find_runner(target: Target) -> Path:
    """A directory with the runner for `target`, and `NAMES`; compiled on first use and cached."""
    with resources.as_file(resources.files("edgeq.places.runner") / "source") as source:
        texts = {path.name: path.read_text("utf-8") for path in sorted(source.iterdir())}
    texts["llama_abi.hpp"] = llama_header()
    key = {"target": target.triple, "source": canonical.sha256_of(texts)}
    return runtime_cache.store().stage(
        RUNNER, key, lambda directory: _compile(target, texts, directory), describe=RUNNER
    )


def find_library(path: Path, target: Target, runtime: str, folder: Path) -> Path:
    """The library of a runtime: the file `path`, or what is unpacked to `folder` out of the package
    `path`, or out of one of those in the directory `path`.

    Raises InvalidInput, with where it is to be had.
    """
    library = target.libraries.get(runtime)
    if library is None:
        what = f"no library of llama.cpp is known for {target.triple}"
        raise InvalidInput(Problem(str(path), what, "measure an ONNX model"))
    remedy = f"get it: {library.fetch}; and name that file"
    if not path.exists():
        raise InvalidInput(Problem(str(path), "does not exist", remedy))
    for each in sorted(path.iterdir()) if path.is_dir() else [path]:
        if not zipfile.is_zipfile(each):
            if each == path:
                return path
            continue
        with zipfile.ZipFile(each) as package:
            for name in package.namelist():
                if fnmatch(name, library.member):
                    return Path(package.extract(name, folder))
    raise InvalidInput(Problem(str(path), f"has no {library.member}", remedy))


def _compile(target: Target, texts: Mapping[str, str], out: Path) -> None:
    compiler = next(_compilers(target), None)
    if compiler is None:
        what = f"no C++ compiler for {target.triple} here"
        raise Missing(Problem(RUNNER, what, target.install))
    with TemporaryFolder() as name:
        for file, text in texts.items():
            Path(name, file).write_text(text, encoding="utf-8")
        for source, options, made in (
            ("main.cpp", ("-ldl",), RUNNER),
            ("python_names.cpp", ("-shared", "-fPIC"), NAMES),
        ):
            command = [*compiler, str(Path(name, source)), "-o", str(out / made), *_FLAGS, *options]
            _run(command, target)


def _run(command: list[str], target: Target) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        what = f"{command[0]} did not finish within {_SECONDS:g} s"
        raise Missing(Problem(RUNNER, what, "try again")) from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split())[:400]
        raise Missing(Problem(RUNNER, f"{command[0]} failed: {said}", target.install))


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
