"""Make an artifact directory, which workers need, from any path a person names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edgeq.core.artifact import (
    ARTIFACT_FILE,
    GGUF_FILE,
    Artifact,
    ModelRecord,
    TextSettings,
    record_files,
    write_artifact,
)
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import SENTENCE_EMBEDDING, TEXT_GENERATION
from edgeq.formats.gguf.file_format import GGUF
from edgeq.formats.package import open_package


def runnable(path: Path, folder: Path) -> tuple[Path, Artifact]:
    """Return an artifact directory with the model at `path`, and its record.

    An artifact directory is returned as is. A bundle is unpacked into the empty directory `folder`,
    and a bare `.gguf` is linked or copied there and gets a record. Raises InvalidInput for anything
    else, and for changed or damaged files.
    """
    if path.suffix == ".gguf" and path.is_file():
        return folder, _described(path, folder)
    package = open_package(path)
    if (path / ARTIFACT_FILE).exists():
        return path.absolute(), package.artifact
    package.extract(package.artifact.files, folder)
    write_artifact(folder, package.artifact)
    return folder, package.artifact


def _described(path: Path, folder: Path) -> Artifact:
    """The record of a bare `.gguf`, written to `folder` next to the file."""
    from edgeq.formats.gguf.parts import read_whole

    header = read_whole(path)
    if len(header.paths) > 1:
        what = f"is a model in {len(header.paths)} files, and is measured in one"
        remedy = f"merge them: llama-gguf-split --merge {path} MERGED.gguf"
        raise InvalidInput(Problem(str(path), what, remedy))
    kind = header.get("general.architecture", "")
    is_encoder = header.get(f"{kind}.attention.causal", True) is False
    try:
        os.link(path, folder / GGUF_FILE)
    except OSError:  # on another disk, or without support for links
        shutil.copyfile(path, folder / GGUF_FILE)
    files = record_files(folder, [GGUF_FILE])
    artifact = Artifact(
        name=path.name,
        format=GGUF.name,
        variant="",
        task=(SENTENCE_EMBEDDING if is_encoder else TEXT_GENERATION).name,
        model=ModelRecord(source=path.name, sha256=files[GGUF_FILE].sha256),
        inputs=(),
        outputs=(),
        text=TextSettings(max_tokens=int(header.get(f"{kind}.context_length", 512))),
        weight_bytes=sum(tensor.nbytes for tensor in header.tensors.values()),
        tensors={},
        files=files,
        tools={},
    )
    write_artifact(folder, artifact)
    return artifact
