"""What native programs are built with in tests: onnxruntime's headers next to the wheel's library.

The package index has the library without headers. An npm package has those, in 150 MB, and
onnxruntime's bindings for C# (sources) and Android.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import filelock
import onnxruntime
import pytest

from edgeq.core import child
from edgeq.places.emulated.arm_place import ArmPlace

HEADERS = "com.github.asus4.onnxruntime@0.4.9"
CSHARP = "package/Runtime"
ANDROID = "package/Plugins/Android/onnxruntime.aar"
_INSIDE = "package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers"


def library() -> Path:
    """The C library inside the installed wheel."""
    (found,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    return found


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A directory that `make` fills, once for all processes of a test run."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with filelock.FileLock(f"{folder}.lock"):
        if not folder.exists():
            work = folder.with_suffix(".partial")
            work.mkdir(exist_ok=True)
            make(work)
            work.rename(folder)
    return folder


def unpack_npm(package: str, folder: Path, *members: str) -> None:
    """The package's members, or all of it, in `folder`, below `package/`. Else a skip."""
    for program in ("npm", "tar"):
        if shutil.which(program) is None:
            pytest.skip(f"not run: {program} is not installed")
    packed = subprocess.run(
        ["npm", "pack", package, "--silent"], cwd=folder, capture_output=True, text=True
    )
    if packed.returncode:
        pytest.skip(f"not run: npm has no {package}: {packed.stderr.strip()[-200:]}")
    archive = folder / packed.stdout.split()[-1]
    subprocess.run(["tar", "xzf", archive.name, *members], cwd=folder, check=True)
    archive.unlink()


def release(factory: pytest.TempPathFactory) -> Path:
    """A directory as a release of ONNX Runtime is unpacked: include/ and lib/. Else a skip.

    CSHARP and ANDROID, below it, are its bindings for those.
    """
    for program in ("cmake", "g++"):
        if shutil.which(program) is None:
            pytest.skip(f"not run: {program} is not installed")
    return once(factory, "onnxruntime-release", _make_release)


def _make_release(folder: Path) -> None:
    unpack_npm(HEADERS, folder, _INSIDE, CSHARP, ANDROID)
    (folder / _INSIDE).rename(folder / "include")
    (folder / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(library())


def arm_library(folder: Path) -> Path:
    """The same version's library for 64-bit Arm Linux, from its wheel. Else a skip."""
    version = onnxruntime.__version__
    command = [
        *child.command("pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"),
        *("--platform", "manylinux_2_28_aarch64", "--platform", "manylinux_2_27_aarch64"),
        *("--dest", str(folder / "wheel"), f"onnxruntime=={version}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"not run: no Arm wheel of onnxruntime {version}: {done.stderr[-200:]}")
    (wheel,) = (folder / "wheel").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if "capi/libonnxruntime.so." in n)
        return Path(archive.extract(name, folder))


def llama(folder: Path) -> dict[str, str]:
    """Variables for `tests/support/llama_cpp`: headers of the installed wheel's version. Else a
    skip."""
    xllamacpp = pytest.importorskip("xllamacpp", reason="not run: no llama.cpp is installed")
    python = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LDLIBRARY"))
    if python.suffix != ".so":
        pytest.skip(f"not run: Python has no shared library, which xllamacpp's needs: {python}")
    version = importlib.metadata.version("xllamacpp")
    command = [
        *child.command("pip", "download", "--quiet", "--no-deps", "--no-binary", "xllamacpp"),
        *("--dest", str(folder), f"xllamacpp=={version}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"not run: no source of xllamacpp {version}: {done.stderr[-200:]}")
    (archive,) = folder.glob("xllamacpp-*.tar.gz")
    root = f"xllamacpp-{version}/thirdparty/llama.cpp"
    parts = (f"{root}/include", f"{root}/ggml/include")
    subprocess.run(["tar", "xzf", archive.name, *parts], cwd=folder, check=True)
    return {
        "LLAMA_HEADERS": str(folder / root),
        "LLAMA_LIBRARY": str(Path(xllamacpp.__file__).parent / "xllamacpp.abi3.so"),
        "PYTHON_LIBRARY": str(python),
        "PYTHON_FOLDER": str(python.parent),
    }


def emulator_words(arm: ArmPlace) -> list[str]:
    """The command line by which `arm` emulates, up to the program."""
    script = arm.python().read_text(encoding="utf-8").splitlines()[1]
    words = shlex.split(script.removeprefix("exec "))
    return words[: words.index("-0")]
