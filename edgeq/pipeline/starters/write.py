"""Write the starter of a bundle: its program, and the bundle unpacked next to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edgeq.core.artifact import Artifact, seal
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import replacing
from edgeq.core.validation_messages import suggest
from edgeq.formats.bundle import BUNDLE_FILE, extract, read_bundle
from edgeq.formats.selftest import ARRAYS_FILE, SELFTEST_FILE
from edgeq.pipeline.starters import cpp, csharp, javascript, kotlin

BUNDLE_FOLDER = "bundle"


class Starter(NamedTuple):
    """A language's starter: which artifacts it runs, in words too; its files; what to type next;
    where its program wants the bundle."""

    runs: Callable[[Artifact], bool]
    words: str
    files: Callable[[Artifact, str, bytes | None], dict[str, bytes]]
    next: str
    bundle: str = BUNDLE_FOLDER


_IN_ONNX = "language models, sentence encoders, classifiers of texts and models of arrays in ONNX"
STARTERS = {
    "cpp": Starter(
        cpp.runs,
        f"{_IN_ONNX}, and language models in GGUF",
        cpp.files,
        "build it as its README.md says, then: build/selftest",
    ),
    "javascript": Starter(
        javascript.runs,
        _IN_ONNX,
        javascript.node_files,
        f"{javascript.INSTALL} && node selftest.mjs",
    ),
    "web": Starter(
        javascript.runs,
        _IN_ONNX,
        javascript.web_files,
        f"{javascript.INSTALL} && node serve.mjs",
    ),
    "kotlin": Starter(
        kotlin.runs,
        _IN_ONNX,
        kotlin.files,
        "gradle installDebug",
        f"{kotlin.ASSETS}/{BUNDLE_FOLDER}",
    ),
    "csharp": Starter(csharp.runs, _IN_ONNX, csharp.files, "dotnet run"),
}


def write_starter(bundle: Path, language: str, out: Path) -> Path:
    """Write a program in `language` that runs `bundle`, to the new directory `out`.

    Raises InvalidInput for a bundle that changed or that the language has no starter for, and for
    a directory that is there already.
    """
    if language not in STARTERS:
        what = f"there is no starter for {language!r}"
        raise InvalidInput(Problem("--language", what, suggest(language, list(STARTERS))))
    if out.exists():
        raise InvalidInput(Problem(str(out), "is there already", "name another with --out"))
    starter, record = STARTERS[language], read_bundle(bundle)
    artifact = record.artifact
    if not starter.runs(artifact):
        what = f"is {artifact.name} for {artifact.task}; this starter runs {starter.words}"
        remedy = "follow the README in the bundle"
        raise InvalidInput(Problem(str(bundle), what, remedy))
    if SELFTEST_FILE not in record.extras:
        remedy = "make it again: edgeq bundle RECIPE --out FILE.zip"
        raise InvalidInput(Problem(str(bundle), "has no self-test", remedy))
    name = re.sub(r"[^a-z0-9]+", "-", artifact.model.name.lower()).strip("-") or "model"
    with replacing(out) as partial:
        folder = partial / starter.bundle
        folder.mkdir(parents=True)
        extract(bundle, record.contents, folder)
        (folder / BUNDLE_FILE).write_bytes(seal(record.model_dump(mode="json")))
        arrays = folder / ARRAYS_FILE
        given = arrays.read_bytes() if arrays.is_file() else None
        for file, content in starter.files(artifact, name, given).items():
            path = partial / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return out
