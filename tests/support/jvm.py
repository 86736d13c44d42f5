"""Kotlin in tests: the compiler of an npm package, and onnxruntime's Java binding for Android.

The binding's JNI library is made for Android's C library; `kotlin/bionic.c` lets it run here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import native

COMPILER = "kotlin-compiler@2.4.20"
JSON = "libandroid-json-org-java"
_SOURCES = Path(__file__).parent / "kotlin"
_PARTS = ("compiler", "stdlib", "reflect", "script-runtime")
_QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


class Kotlin(NamedTuple):
    """A directory with the compiler, onnxruntime's binding and stand-ins for Android's classes."""

    folder: Path

    def compiled(self, sources: Path, to: Path) -> subprocess.CompletedProcess[str]:
        """Compile an app, with a way to start it on a desktop."""
        jars = [self._jar(f"kotlin-{part}") for part in _PARTS]
        with_coroutines = [*jars, self._jar("kotlinx-coroutines-core-jvm")]
        command = [
            *("java", *_QUICK, "-cp", os.pathsep.join(with_coroutines)),
            "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler",
            *("-no-stdlib", "-no-reflect", "-jvm-target", "17", "-Werror"),
            *("-cp", self._classes(), "-d", str(to), str(sources), str(_SOURCES / "Desktop.kt")),
        ]
        return subprocess.run(command, capture_output=True, text=True)

    def run(self, app: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a compiled app: its assets, a directory for its files, texts."""
        environment = {
            **os.environ,
            "ONNXRUNTIME": str(native.library()),
            "LD_LIBRARY_PATH": str(self.folder),
            "TOKENIZERS_PYTHON": sys.executable,
        }
        command = [
            *("java", *_QUICK, f"-Donnxruntime.native.path={self.folder}"),
            *("-cp", f"{app}{os.pathsep}{self._classes()}", "com.example.starter.DesktopKt"),
            *arguments,
        ]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def _jar(self, name: str) -> str:
        return str(self.folder / "package" / "lib" / f"{name}.jar")

    def _classes(self) -> str:
        own = (self.folder / "stand-ins", self.folder / "classes.jar", self.folder / "json.jar")
        libraries = (self._jar("kotlin-stdlib"), self._jar("kotlinx-coroutines-core-jvm"))
        return os.pathsep.join([*map(str, own), *libraries])


def kotlin(factory: pytest.TempPathFactory) -> Kotlin:
    """The compiler and what an app is compiled with, made once. Else a skip."""
    for program in ("javac", "gcc"):
        if shutil.which(program) is None:
            pytest.skip(f"not run: {program} is not installed")
    runtime = native.release(factory)
    return Kotlin(native.once(factory, "kotlin", lambda folder: _make(folder, runtime)))


def _make(folder: Path, runtime: Path) -> None:
    native.unpack_npm(COMPILER, folder)
    _unpack_json(folder)
    with zipfile.ZipFile(runtime / native.ANDROID) as binding:
        binding.extract("classes.jar", folder)
        library = "libonnxruntime4j_jni.so"
        (folder / library).write_bytes(binding.read(f"jni/x86_64/{library}"))
    versions = f"-Wl,--version-script={_SOURCES / 'bionic.versions'}"
    flags = ("-shared", "-fPIC", "-fno-stack-protector", versions)
    command = ["gcc", *flags, str(_SOURCES / "bionic.c"), "-o", "libonnxruntime.so", "-ldl"]
    subprocess.run(command, cwd=folder, check=True)
    for name in ("libc.so", "libm.so", "libdl.so"):
        (folder / name).symlink_to("libonnxruntime.so")
    sources = [str(path) for path in (_SOURCES / "java").glob("**/*.java")]
    subprocess.run(["javac", "-d", str(folder / "stand-ins"), *sources], check=True)


def _unpack_json(folder: Path) -> None:
    """Android's own org.json, from Debian."""
    for command in (["apt-get", "download", JSON], ["sh", "-c", f"dpkg -x {JSON}_*.deb debian"]):
        if shutil.which(command[0]) is None:
            pytest.skip(f"not run: {command[0]} is not installed, which downloads org.json")
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"not run: Debian has no {JSON}: {done.stderr.strip()[-200:]}")
    shutil.copy(folder / "debian/usr/share/java/json-android.jar", folder / "json.jar")
