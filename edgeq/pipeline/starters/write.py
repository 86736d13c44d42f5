"""Write the starter of a bundle: its program, and the bundle unpacked next to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from edgeq.core.artifact import MODEL_FILE, seal
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import replacing
from edgeq.core.tasks import task_of
from edgeq.core.validation_messages import suggest
from edgeq.formats.bundle import BUNDLE_FILE, extract, read_bundle
from edgeq.formats.selftest import SELFTEST_FILE
from edgeq.pipeline.starters import javascript

BUNDLE_FOLDER = "bundle"
_LANGUAGES: dict[str, Callable[[str], dict[str, str]]] = {"javascript": javascript.encoder_files}
LANGUAGES = tuple(_LANGUAGES)


def write_starter(bundle: Path, language: str, out: Path) -> Path:
    """Write a program in `language` that runs `bundle`, to the new directory `out`.

    Raises InvalidInput for a bundle that changed or that the language has no starter for, and for
    a directory that is there already.
    """
    if language not in _LANGUAGES:
        what = f"there is no starter for {language!r}"
        raise InvalidInput(Problem("--language", what, suggest(language, LANGUAGES)))
    if out.exists():
        raise InvalidInput(Problem(str(out), "is there already", "name another with --out"))
    record = read_bundle(bundle)
    artifact = record.artifact
    if not task_of(artifact.task).embeds or MODEL_FILE not in artifact.files:
        what = f"is {artifact.name} for {artifact.task}; starters run sentence encoders in ONNX"
        remedy = "follow the README in the bundle"
        raise InvalidInput(Problem(str(bundle), what, remedy))
    if SELFTEST_FILE not in record.extras:
        remedy = "make it again: edgeq bundle RECIPE --out FILE.zip"
        raise InvalidInput(Problem(str(bundle), "has no self-test", remedy))
    name = re.sub(r"[^a-z0-9]+", "-", artifact.model.name.lower()).strip("-") or "model"
    with replacing(out) as partial:
        folder = partial / BUNDLE_FOLDER
        folder.mkdir(parents=True)
        extract(bundle, record.contents, folder)
        (folder / BUNDLE_FILE).write_bytes(seal(record.model_dump(mode="json")))
        for file, content in _LANGUAGES[language](name).items():
            (partial / file).write_text(content, encoding="utf-8")
    return out
