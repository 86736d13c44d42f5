"""Copies of a model prepacked for this CPU, mapped from disk instead of kept in memory.

onnxruntime packs weights for the CPU's kernels when a session opens, in anonymous memory: for a
22.7 MB int8 encoder that is half of a process's memory. A copy saved with the packed weights is
mapped instead, but works for one CPU and one version of onnxruntime only, so artifacts and bundles
stay portable and the copy is made here, once, by a child process: packing in this process would
cost the memory that the copy saves.

A copy is kept only if its answers equal the model's, bit for bit. onnxruntime 1.31 does not align
the packed weights it saves, and int4 `MatMulNBits` with `accuracy_level` 4 requires them at
multiples of 64: after a tensor of another size in the file it reads its block sums from the wrong
place.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import child
from edgeq.core.artifact import MODEL_FILE, Artifact, ValueInfo
from edgeq.core.errors import EdgeqError, LoadedOtherwise, Missing, Problem
from edgeq.core.known_settings import SAMPLE_KEY, SESSION_BY_CPU, SESSION_BY_CPU_KEY, SESSION_KEY
from edgeq.core.temporary import TemporaryFolder
from edgeq.formats import runtime_cache
from edgeq.formats.package import Package, open_package
from edgeq.formats.samples import made_up
from edgeq.models import onnx_session

PREPARE_FROM = 256 * 1024
"""Minimum bytes of external data that justify a child process and a file for a copy."""
_STAGE = "prepared"
_REFUSED = "refused.txt"  # stands for a copy that was wrong, so that it is not made again


@dataclass(frozen=True)
class OpenModel:
    """A session, and whether its weights are mapped from a prepared copy.

    `folder` keeps an unpacked archive as long as this object lives.
    """

    session: onnx_session.Session
    prepared: bool
    folder: TemporaryFolder | None = None


def open_model(package: Package, threads: int) -> OpenModel:
    """Open the prepared copy of `package`, made now if there is none; else the model itself.

    Warns (LoadedOtherwise) and falls back if the copy cannot be made, e.g. on a read-only disk.
    """
    own = package.artifact.settings.get(SESSION_KEY)
    settings = _settings(package) if own is None else own
    if own is None and package.data_bytes >= PREPARE_FROM:
        try:
            session = onnx_session.open_session(
                _prepared_model(package), threads=threads, optimized=True, settings=settings
            )
            return OpenModel(session, prepared=True)
        except EdgeqError as error:
            warnings.warn(
                f"{package.path}: loaded without a prepared copy, which takes up to "
                f"{package.data_bytes / 2**20:.1f} MiB more memory that cannot be dropped: {error}",
                LoadedOtherwise,
                stacklevel=_callers_level(),
            )
    if not package.zipped:
        path = package.path / MODEL_FILE
        session = onnx_session.open_session(path, threads=threads, settings=settings)
        return OpenModel(session, prepared=False)
    folder = TemporaryFolder()
    package.extract(package.model_files, Path(folder.name))
    path = Path(folder.name, MODEL_FILE)
    session = onnx_session.open_session(path, threads=threads, settings=settings)
    return OpenModel(session, prepared=False, folder=folder)


def _settings(package: Package) -> dict[str, str]:
    """The record's session entries for this CPU; older records have none."""
    by_cpu = package.artifact.settings.get(SESSION_BY_CPU_KEY, SESSION_BY_CPU)
    return onnx_session.session_settings(by_cpu)


def _callers_level() -> int:
    """The `stacklevel` for a warning about the code that called edgeq."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] == "edgeq":
        frame, level = frame.f_back, level + 1
    return level


def _prepared_model(package: Package) -> Path:
    """The graph of the prepared copy; raises Missing with the reason if there cannot be one."""
    key = _key(package)
    found = runtime_cache.store().find(_STAGE, key)
    if found is None:
        _make_in_child(package.path)
        found = runtime_cache.store().find(_STAGE, key)
    if found is None:
        raise Missing(
            Problem(str(runtime_cache.cache_directory()), "the copy vanished", "load it again")
        )
    if (found / _REFUSED).exists():
        what = (found / _REFUSED).read_text(encoding="utf-8")
        raise Missing(Problem(f"onnxruntime {onnx_session.version()}", what))
    runtime_cache.mark_used(found)
    return found / MODEL_FILE


def _key(package: Package) -> dict[str, object]:
    files = {name: package.artifact.files[name].sha256 for name in package.model_files}
    facts = {**onnx_session.cpu_facts(), **_settings(package)}
    return {
        "files": files,
        "onnxruntime": onnx_session.version(),
        "cpu": facts,
        "compared": _inputs(package.artifact),  # a copy may be refused for want of inputs
    }


def _inputs(artifact: Artifact) -> dict[str, Any]:
    """What inputs are made from, to compare a copy with the model."""
    inputs = [value.model_dump(mode="json") for value in artifact.inputs]
    return {"inputs": inputs, "settings": {SAMPLE_KEY: artifact.settings.get(SAMPLE_KEY)}}


def _make_in_child(path: Path) -> None:
    """Prepare the model at `path` in a fresh process; raises Missing with the reason if that
    fails."""
    if not child.can_start():
        what = "a frozen application has no Python to start"
        raise Missing(Problem("preparing", what, "ship EDGEQ_CACHE filled, or do without"))
    try:
        made = subprocess.run(
            child.command("edgeq.formats.onnx.prepacked", str(path.absolute())),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except OSError as error:
        what = f"{sys.executable} cannot be started: {error.strerror}"
        raise Missing(Problem("preparing", what)) from error
    if made.returncode != 0:
        said = made.stderr.strip().splitlines()
        reason = said[-1] if said else f"the process ended with status {made.returncode}"
        raise Missing(Problem("preparing", reason))


def _prepare(package: Package, directory: Path) -> None:
    """Write the optimized model with packed weights to `directory`, or why it was refused."""
    unpacked = directory / "unpacked"
    if package.zipped:
        unpacked.mkdir()
        package.extract(package.model_files, unpacked)
    model = (unpacked if package.zipped else package.path) / MODEL_FILE
    copy = directory / MODEL_FILE
    onnx_session.save_optimized(model, copy, _settings(package))
    reason = _difference_in_child(model, copy, package.artifact)
    if package.zipped:
        shutil.rmtree(unpacked)
    if reason:
        for path in directory.iterdir():
            path.unlink()
        directory.joinpath(_REFUSED).write_text(reason, encoding="utf-8")


def _difference_in_child(model: Path, copy: Path, artifact: Artifact) -> str:
    """`_difference` in a separate process: misaligned packed weights crash it."""
    compared = subprocess.run(
        child.command("edgeq.formats.onnx.prepacked", str(model), str(copy)),
        input=json.dumps(_inputs(artifact)),
        capture_output=True,
        text=True,
    )
    if compared.returncode < 0:
        return f"its saved packed weights end the process with signal {-compared.returncode}"
    return (compared.stderr if compared.returncode else compared.stdout).strip()


def _difference(
    model: Path, copy: Path, inputs: Sequence[ValueInfo], settings: Mapping[str, Any]
) -> str:
    """Why the prepared `copy` cannot replace `model`; "" if both give the same bits."""
    plain = onnx_session.open_session(model, threads=1)
    packed = onnx_session.open_session(copy, threads=1, optimized=True)
    # Unfilled rows of a cache may have any content.
    names = [v.name for v in plain.get_outputs() if not v.name.startswith("present.")]
    for integer in (1, 0):
        feeds = made_up(inputs, settings, np.random.default_rng(0), integer)
        try:
            expected = plain.run(names, feeds)
        except Exception:  # onnxruntime's exceptions share no base class
            continue  # invalid inputs for the model, e.g. an index past the end of a table
        pairs = zip(expected, packed.run(names, feeds), strict=True)
        same = all(first.tobytes() == second.tobytes() for first, second in pairs)
        return "" if same else "its saved packed weights give other outputs than the model"
    return "the model accepts none of the inputs tried for comparing a copy with it"


def main(path: Path) -> None:
    """Make the prepared copy of the model at `path`, in this process."""
    package = open_package(path)
    made = runtime_cache.store().stage(
        _STAGE,
        _key(package),
        functools.partial(_prepare, package),
        describe=f"{package.artifact.name} for this CPU",
    )
    runtime_cache.drop_unused(made)


def _compare(model: Path, copy: Path) -> None:
    """Print how the `copy` differs from `model`; its inputs come on standard input."""
    given = json.load(sys.stdin)
    inputs = [ValueInfo.model_validate(value) for value in given["inputs"]]
    sys.stdout.write(_difference(model, copy, inputs, given["settings"]))


if __name__ == "__main__":
    try:
        (main if len(sys.argv) == 2 else _compare)(*map(Path, sys.argv[1:]))
    except EdgeqError as error:
        sys.exit(" ".join(str(error).split()))
