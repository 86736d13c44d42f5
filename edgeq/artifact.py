"""The record of what a build made: `artifact.json`, the lock that intent became."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgeq import canonical

ARTIFACT_FILE = "artifact.json"


class Frozen(BaseModel):
    """An immutable record that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(Frozen):
    bytes: int
    sha256: str


class TensorRecord(Frozen):
    """What was done to one weight. `bytes` counts codes, scales and zero points in the file."""

    shape: tuple[int, ...]
    grid: str
    method: str
    bytes: int
    note: str = ""


class ValueInfo(Frozen):
    """An input or output of a model: `shape` holds numbers and names of free dimensions."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class ModelRecord(Frozen):
    """Where the weights came from. `sha256` covers every source file that was read."""

    source: str
    revision: str | None = None
    licence: str | None = None
    sha256: str


class TextSettings(Frozen):
    """How text becomes token ids: `tokenizer.json` with its own truncation overridden."""

    max_tokens: int
    pad_token: str


class Artifact(Frozen):
    """One built model: its files, what each weight became, and everything that went in.

    `weight_bytes` is what the quantized and float weights occupy, without graph and tokenizer.
    `settings` are facts a runner needs or a reader asks for (activation scheme, calibration).
    """

    edgeq: Literal[1] = 1
    name: str
    format: Literal["onnx"]
    variant: str
    task: str
    model: ModelRecord
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    text: TextSettings | None = None
    dimension: int | None = None
    weight_bytes: int
    tensors: dict[str, TensorRecord]
    settings: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, FileRecord]
    sources: dict[str, str] = Field(default_factory=dict)
    tools: dict[str, str]

    @property
    def bytes(self) -> int:
        """What an app downloads: the size of every file, in bytes."""
        return sum(file.bytes for file in self.files.values())

    def grid_summary(self) -> dict[str, int]:
        """Bytes of weights per grid name."""
        summary: dict[str, int] = {}
        for tensor in self.tensors.values():
            summary[tensor.grid] = summary.get(tensor.grid, 0) + tensor.bytes
        return dict(sorted(summary.items()))


def record_files(directory: Path, names: list[str]) -> dict[str, FileRecord]:
    """Size and SHA-256 of each named file in `directory`."""
    return {
        name: FileRecord(
            bytes=(directory / name).stat().st_size,
            sha256=canonical.sha256_of_file(directory / name),
        )
        for name in sorted(names)
    }


def write_artifact(directory: Path, artifact: Artifact) -> None:
    """Write `artifact.json` beside the files it describes."""
    text = canonical.to_json(artifact.model_dump(mode="json"))
    (directory / ARTIFACT_FILE).write_text(text, encoding="utf-8")
