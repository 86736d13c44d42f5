"""Compile edgeq-runner for a device, with whichever cross compiler is installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.core.files import replacing
from edgeq.core.validation_messages import suggest

_FLAGS = ("-std=c++17", "-O2", "-s", "-pthread")
_STATIC = ("-static-libstdc++", "-static-libgcc")  # on the device there may be neither
_SECONDS = 600.0
_NDK = "toolchains/llvm/prebuilt"
_ANDROID = "aarch64-linux-android28-clang++"


@dataclass(frozen=True)
class Target:
    """A kind of device: its compilers, and where its onnxruntime library is to be had."""

    triple: str
    zig: str | None
    library: str
    install: str


_WHEEL = (
    "capi/libonnxruntime.so.* in the wheel: pip download onnxruntime --no-deps --only-binary :all: "
    "--platform {platform}"
)
TARGETS = {
    "android-arm64": Target(
        "aarch64-linux-android",
        None,
        "jni/arm64-v8a/libonnxruntime.so in the .aar of "
        "com.microsoft.onnxruntime:onnxruntime-android (Maven)",
        "install Android's NDK, and set ANDROID_NDK_HOME to its directory",
    ),
    "linux-arm64": Target(
        "aarch64-linux-gnu",
        "aarch64-linux-gnu.2.28",
        _WHEEL.format(platform="manylinux_2_28_aarch64"),
        "install a cross compiler: pip install ziglang, or apt-get install g++-aarch64-linux-gnu",
    ),
    "linux-x86_64": Target(
        "x86_64-linux-gnu",
        "x86_64-linux-gnu.2.28",
        _WHEEL.format(platform="manylinux_2_28_x86_64"),
        "install a compiler: pip install ziglang, or apt-get install g++",
    ),
}


def build_runner(target: str, out: Path) -> str:
    """Compile the runner for `target` to the file `out`; returns the compiler's name.

    Raises InvalidInput for an unknown target, Missing with what to install without a compiler.
    """
    if target not in TARGETS:
        what = f"edgeq-runner is not built for {target!r}"
        raise InvalidInput(Problem("target", what, suggest(target, list(TARGETS))))
    compiler = next(_compilers(TARGETS[target]), None)
    if compiler is None:
        what = f"no C++ compiler for {target} here"
        raise Missing(Problem("edgeq-runner", what, TARGETS[target].install))
    with (
        resources.as_file(resources.files("edgeq.places.runner") / "source") as source,
        replacing(out) as partial,
    ):
        command = [*compiler, str(source / "main.cpp"), "-o", str(partial), *_FLAGS, "-ldl"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            what = f"{compiler[0]} did not finish within {_SECONDS:g} s"
            raise Missing(Problem("edgeq-runner", what, "try again")) from None
        if done.returncode != 0:
            said = " ".join(done.stderr.split())[:400]
            remedy = TARGETS[target].install
            raise Missing(Problem("edgeq-runner", f"{compiler[0]} failed: {said}", remedy))
        partial.chmod(0o755)
    return Path(compiler[0]).name if "ziglang" not in compiler else "zig"


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
