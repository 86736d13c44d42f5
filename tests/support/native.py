"""What native programs are built with in tests: onnxruntime's headers next to the wheel's library.

The package index has the library without headers. An npm package has those, in 150 MB.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import onnxruntime
import pytest

HEADERS = "com.github.asus4.onnxruntime@0.4.9"
_INSIDE = "package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers"


def library() -> Path:
    """The C library inside the installed wheel."""
    (found,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    return found


def release(folder: Path) -> Path:
    """`folder` as a release of ONNX Runtime is unpacked: include/ and lib/. Else a skip."""
    for program in ("cmake", "g++", "npm", "tar"):
        if shutil.which(program) is None:
            pytest.skip(f"not run: {program} is not installed")
    packed = subprocess.run(
        ["npm", "pack", HEADERS, "--silent"], cwd=folder, capture_output=True, text=True
    )
    if packed.returncode:
        pytest.skip(f"not run: npm has no {HEADERS}: {packed.stderr.strip()[-200:]}")
    archive = folder / packed.stdout.split()[-1]
    subprocess.run(["tar", "xzf", archive.name, _INSIDE], cwd=folder, check=True)
    archive.unlink()
    (folder / _INSIDE).rename(folder / "include")
    (folder / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(library())
    return folder
