"""Write a bundle: an artifact, the files an app's developer needs with it, and the verdicts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgeq.core.artifact import Artifact, FileRecord, read_artifact, seal
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import replacing
from edgeq.formats.bundle import BUNDLE_FILE, VERDICTS_FILE, Bundle, LimitLine, Verdicts
from edgeq.formats.bundle_zip import LARGEST, Content, write_archive
from edgeq.formats.registry import file_format

_NONE: Mapping[str, bytes] = MappingProxyType({})


def write_bundle(
    artifact_dir: Path,
    out: Path,
    *,
    recipe_text: str,
    verdicts: list[dict[str, Any]],
    licence: str | None,
    licence_text: str | None,
    unchecked: bool,
    limits: Sequence[LimitLine] = (),
    documents: Mapping[str, bytes] = _NONE,
    end_tokens: Sequence[int] = (),
) -> Path:
    """Write the artifact in `artifact_dir` to the bundle `out` and return `out`.

    Equal arguments give equal bytes. `verdicts` are JSON values; `licence` is an SPDX identifier;
    `limits` are those of `app_store_limits.sized`; `documents`, by name, are for an app's
    developer; `end_tokens` are those of a language model. Raises InvalidInput if a file of the
    artifact changed, if the directory of `out` does not exist, or if there is no verdict and
    `unchecked` is not set.
    """
    if not verdicts and not unchecked:
        remedy = "run `edgeq check` first, or pass --allow-unchecked"
        raise InvalidInput(Problem(str(artifact_dir), "was not checked", remedy))
    if not out.parent.is_dir() or out.is_dir():
        what = "is a directory" if out.is_dir() else f"{out.parent} is not a directory"
        raise InvalidInput(Problem(str(out), what, "name a .zip file in an existing directory"))
    artifact = read_artifact(artifact_dir)
    _require_sizes(artifact_dir, artifact)
    format = file_format(artifact.format)
    extras = {**format.extras(artifact_dir, artifact, tuple(documents)), **documents}
    if verdicts:
        extras[VERDICTS_FILE] = seal(Verdicts(verdicts=tuple(verdicts)).model_dump(mode="json"))
    bundle = Bundle(
        checked=not unchecked,
        artifact=artifact,
        files=artifact.files,
        extras={name: _record_of(content) for name, content in extras.items()},
        end_tokens=tuple(end_tokens),
        licence=licence,
        licence_text=licence_text,
        recipe=recipe_text,
        limits=tuple(limits),
    )
    contents: dict[str, Content] = {name: artifact_dir / name for name in artifact.files}
    contents.update(extras)
    first = (BUNDLE_FILE, seal(bundle.model_dump(mode="json")))
    with replacing(out) as partial:
        write_archive(partial, first, contents, bundle.contents)
    return out


def _require_sizes(directory: Path, artifact: Artifact) -> None:
    for name, record in artifact.files.items():
        if record.bytes > LARGEST:
            what = f"has {record.bytes} bytes; a bundle's files have at most {LARGEST}"
            remedy = "choose a variant with fewer bits"
            raise InvalidInput(Problem(str(directory / name), what, remedy))


def _record_of(content: bytes) -> FileRecord:
    return FileRecord(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
