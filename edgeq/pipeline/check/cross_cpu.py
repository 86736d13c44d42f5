"""Cross-CPU comparison as part of every check: each artifact on every CPU class available here,
once; `EDGEQ_COMPARE_CPUS` chooses among them.

Each class's result is kept in the build store under everything it depends on, as soon as it is
known: the next check of the same artifact, or one after an interrupt, only reads it.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeq.core import canonical
from edgeq.core.artifact import ARTIFACT_FILE, read_artifact
from edgeq.core.errors import EdgeqError, InvalidInput, Problem, in_one_line
from edgeq.core.store import Store
from edgeq.core.terms import Progress
from edgeq.devices import detect
from edgeq.formats.registry import file_format
from edgeq.measure.cross_cpu.records import VARIABLE, Differences, PlaceDifferences
from edgeq.measure.inputs import Evaluation
from edgeq.places.emulated.arm import find_arm
from edgeq.places.emulated.catalogue import stand_in, stand_ins
from edgeq.places.place import Here, Place
from edgeq.places.process import PassFailed

_STAGE, _FILE = "differences", "differences.json"
_MOST_SECONDS = 300.0
# Packages that compute in those places; numpy holds the answers of llama.cpp and onnxruntime.
_RUNTIMES = ("onnxruntime", "xllamacpp", "llama_cpp_python", "numpy")


class Comparison:
    """Compares artifacts on this machine and on the stand-ins available here.

    A stand-in is started for the first artifact without a stored result of it; `close` ends all.
    """

    def __init__(
        self, float_dir: Path, progress: Progress, evaluation: Evaluation | None = None
    ) -> None:
        """evaluation: the recipe's data, of which a model of arrays gets samples."""
        self._float_dir, self._progress, self._evaluation = float_dir, progress, evaluation
        self._reasons = _to_compare()
        self._stack = contextlib.ExitStack()
        self._places: dict[str, Place] = {Here.name: Here()}

    def of(self, artifact_dir: Path) -> Differences | None:
        """Compare an artifact across CPUs; unavailable classes are listed as not run.

        An artifact that cannot be compared, such as one that does not run here either, is listed as
        not run everywhere, with the reason. None for a Core ML package: none of its kernels run on
        these CPUs. Raises InvalidInput for a changed artifact.
        """
        artifact = read_artifact(artifact_dir)
        if not file_format(artifact.format).runs_anywhere:
            return None
        key = _key(artifact_dir, self._float_dir)
        if artifact.text is None and self._evaluation is not None:
            samples = canonical.sha256_of_file(self._evaluation.arrays)
            key |= {"data": samples, "samples": self._evaluation.samples}
        wanted = [Here.name, *(name for name, reason in self._reasons.items() if reason is None)]
        found = {name: kept for name in wanted if (kept := _recall(key, name)) is not None}
        missing = [name for name in wanted if name not in found]
        if missing:
            try:
                made = self._find(artifact_dir, missing, functools.partial(_keep, key))
            except (EdgeqError, PassFailed) as error:
                reason = " ".join(str(error).split())
                if isinstance(error, EdgeqError):
                    reason = in_one_line(error)
                return _compared_nowhere(artifact.name, key["artifact"], reason, self._reasons)
            found |= {each.place: each for each in made.places}
        compared = tuple(found[name] for name in wanted if name in found)
        lacking = tuple(_lacking(name, reason) for name, reason in self._reasons.items() if reason)
        return Differences(
            artifact=artifact.name,
            artifact_sha256=key["artifact"],
            reference=Here.name,
            places=compared + lacking,
        )

    def close(self) -> None:
        """End the stand-ins."""
        self._stack.close()
        self._places = {Here.name: Here()}

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _find(
        self, artifact_dir: Path, names: Sequence[str], keep: Callable[[PlaceDifferences], None]
    ) -> Differences:
        from edgeq.measure.cross_cpu.compare import compare_cpus

        places = self._started(names)
        return compare_cpus(
            artifact_dir,
            places,
            self._say,
            self._float_dir,
            most_seconds(),
            keep,
            self._evaluation,
        )

    def _say(self, step: str) -> None:
        self._progress(f"{step}, answers")

    def _started(self, names: Sequence[str]) -> list[Place]:
        """The places by name; one that cannot be made now counts as unavailable."""
        for name in names:
            if name in self._places:
                continue
            try:
                self._places[name] = self._stack.enter_context(stand_in(name))
            except EdgeqError as error:
                self._reasons[name] = in_one_line(error, name)
        return [self._places[name] for name in names if name in self._places]


def reachable() -> list[str]:
    """Names of the stand-ins to compare with here, which a remembered verdict depends on."""
    return [name for name, reason in _to_compare().items() if reason is None]


def most_seconds() -> float | None:
    """What a class may take; any time if classes were asked for by name."""
    return _MOST_SECONDS if os.environ.get(VARIABLE, "") in ("", "none") else None


def _to_compare() -> dict[str, str | None]:
    """Every stand-in by name, and why it is not compared with, None if it is.

    Raises InvalidInput for a CPU class in the variable that there is none of.
    """
    reasons = stand_ins()
    if VARIABLE not in os.environ:
        return reasons
    classes = {name.rpartition(":")[2].strip(): name for name in reasons}
    words = {word.strip() for word in os.environ[VARIABLE].split(",")} - {"", "none"}
    unknown = sorted(words - set(classes))
    if unknown:
        known = f"known are: none, {', '.join(classes)}"
        raise InvalidInput(Problem(VARIABLE, f"{unknown[0]!r} is not a CPU class", known))
    left_out = f"{VARIABLE} leaves it out"
    return {name: reasons[name] if each in words else left_out for each, name in classes.items()}


def _compared_nowhere(
    name: str, sha256: str, reason: str, reasons: Mapping[str, str | None]
) -> Differences:
    places = (
        _lacking(Here.name, reason),
        *(_lacking(each, known or reason) for each, known in reasons.items()),
    )
    return Differences(artifact=name, artifact_sha256=sha256, reference=Here.name, places=places)


def _lacking(name: str, reason: str) -> PlaceDifferences:
    return PlaceDifferences(place=name, how="not run", status="not run", reason=reason)


def _key(artifact_dir: Path, float_dir: Path) -> dict[str, Any]:
    """Everything that answers in any place depend on: the artifact, the runtimes, the CPUs."""
    machine = detect.detect()
    arm = find_arm()
    return {
        "artifact": canonical.sha256_of_file(artifact_dir / ARTIFACT_FILE),
        "float": canonical.sha256_of_file(float_dir / ARTIFACT_FILE),
        "most_seconds": most_seconds(),
        "cpu": [machine.chip, machine.arch, sorted(machine.instruction_sets)],
        "emulator": canonical.sha256_of_file(arm.qemu) if arm else None,
        "runtimes": {name: _version(name) for name in _RUNTIMES},
        "llama": os.environ.get("EDGEQ_LLAMA"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _recall(key: Mapping[str, Any], place: str) -> PlaceDifferences | None:
    kept = Store().find(_STAGE, {**key, "place": place})
    if kept is None:
        return None
    try:
        return PlaceDifferences.model_validate_json((kept / _FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _keep(key: Mapping[str, Any], found: PlaceDifferences) -> None:
    if not found.settled:  # a stand-in that died or was too slow is tried again next time
        return

    def write(directory: Path) -> None:
        text = canonical.to_json(found.model_dump(mode="json"))
        (directory / _FILE).write_text(text, encoding="utf-8")

    Store().stage(_STAGE, {**key, "place": found.place}, write, describe=found.place)
