"""Verdicts of a matrix on disk, one file each, so that a run resumes an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from edgeq.core import canonical
from edgeq.core.artifact import Frozen
from edgeq.core.files import error_of_disk, write_text
from edgeq.pipeline.check.verdict import Verdict


class CellRecord(Frozen):
    """A verdict, and its inputs."""

    edgeq: Literal[1] = 1
    kind: Literal["cell"] = "cell"
    recipe: str = Field(description="Name of the recipe.")
    key: str = Field(description="SHA-256 over everything the verdict depends on.")
    verdict: Verdict


@dataclass(frozen=True)
class Records:
    """The records in `folder`, which is created on the first write; none without a folder."""

    folder: Path | None

    def find(self, recipe: str, artifact: str, device: str, key: str) -> Verdict | None:
        """The verdict of an earlier run, if its inputs are the same and its place was available."""
        path = self._path(recipe, artifact, device)
        if path is None:
            return None
        try:
            found = CellRecord.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None
        return found.verdict if found.key == key and was_there(found.verdict) else None

    def write(self, recipe: str, key: str, verdict: Verdict) -> None:
        """Write the record atomically. Raises InvalidInput if that fails."""
        path = self._path(recipe, verdict.artifact, verdict.device)
        if path is None:
            return
        record = CellRecord(recipe=recipe, key=key, verdict=verdict)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise error_of_disk(error, path, "--out") from None
        write_text(path, canonical.to_json(record.model_dump(mode="json")))

    def _path(self, recipe: str, artifact: str, device: str) -> Path | None:
        return self.folder / recipe / f"{artifact}--{device}.json" if self.folder else None


def was_there(verdict: Verdict) -> bool:
    """Whether the place for it was available to the end.

    Quality can be measured in every place, so it is missing only if the place was lost.
    """
    return "quality" not in verdict.measurement.absent
