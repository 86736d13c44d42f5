"""The Swift file that loads a Core ML package in an app for Apple's systems.

Names, shapes, lengths and end tokens are read from the package itself, so that the file matches it.
It uses the API of Core ML's headers for iOS 18; nothing here compiles Swift.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from edgeq.core.artifact import COREML_PACKAGE, TOKENIZER_FILE, Artifact, Classes
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.metadata_keys import CONTEXT_KEY, END_KEY
from edgeq.core.tasks import task_of
from edgeq.formats.coreml import swift_templates as templates
from edgeq.formats.coreml.executor.package import open_package

SWIFT_FILE = "EdgeqModel.swift"
_IDS, _POSITION, _LOGITS = "input_ids", "position", "logits"
_MASK, _TYPES = "attention_mask", "token_type_ids"
# ArrayFeatureType.ArrayDataType of Core ML's FeatureTypes.proto, by Swift's names.
_SCALARS = {65552: "Float16", 65568: "Float", 65600: "Double", 131104: "Int32"}
_KEYWORDS = frozenset(
    (
        *("as", "break", "case", "catch", "class", "continue", "default", "defer", "deinit", "do"),
        *("else", "enum", "extension", "fallthrough", "false", "fileprivate", "for", "func"),
        *("guard", "if", "import", "in", "init", "inout", "internal", "is", "let", "nil"),
        *("operator", "private", "protocol", "public", "repeat", "rethrows", "return", "self"),
        *("Self", "static", "struct", "subscript", "super", "switch", "throw", "throws", "true"),
        *("try", "typealias", "var", "where", "while", "Any"),
    )
)


class _Swift(Template):
    """Uses `%`, since Swift has its own `$0` and `{}`; its operator `%` is not used here."""

    delimiter = "%"


@dataclass(frozen=True)
class _Value:
    """An input or output: its Swift type, and its possible shapes."""

    name: str
    scalar: str
    shapes: tuple[tuple[int, ...], ...]

    @property
    def shown(self) -> str:
        """The shapes for a comment, if the package states them."""
        said = " or ".join(" × ".join(map(str, shape)) for shape in self.shapes if shape)
        return f"{self.scalar}, {said}" if said else self.scalar


def swift_file(directory: Path, artifact: Artifact) -> str:
    """The Swift file for the Core ML artifact in `directory`: equal artifacts give equal text.

    Raises InvalidInput for a package whose inputs do not match its task.
    """
    package = open_package(directory / COREML_PACKAGE)
    inputs = _values(package.description.input)
    outputs = _values(package.description.output)
    facts = dict(package.description.metadata.userDefined)
    where = str(directory / COREML_PACKAGE)
    if task_of(artifact.task).generates:
        body = _decoder(inputs, outputs, facts, where)
    elif artifact.text is not None and not task_of(artifact.task).ranks:
        per_token = task_of(artifact.task).tags
        body = _encoder(inputs, outputs, where, artifact.classes, per_token=per_token)
    else:
        body = _arrays(inputs, outputs)
    return _header(artifact) + body + templates.END


def _values(features: Iterable[Any]) -> dict[str, _Value]:
    found = {}
    for feature in features:
        array = feature.type.multiArrayType
        shapes = tuple(tuple(shape.shape) for shape in array.enumeratedShapes.shapes)
        scalar = _SCALARS[array.dataType]
        found[feature.name] = _Value(feature.name, scalar, shapes or (tuple(array.shape),))
    return found


def _header(artifact: Artifact) -> str:
    target = artifact.settings["deployment_target"]
    has_text = TOKENIZER_FILE in artifact.files
    stem = COREML_PACKAGE.removesuffix(".mlpackage")
    return _Swift(templates.HEADER).substitute(
        file=SWIFT_FILE,
        artifact=_plain(artifact.name),
        source=_plain(artifact.model.source),
        package=COREML_PACKAGE,
        tokenizer=f", {TOKENIZER_FILE}" if has_text else "",
        stem=stem,
        ios=target["ios"],
        macos=target["macos"],
        tokens=_Swift(templates.TOKENS).substitute(tokenizer=TOKENIZER_FILE) if has_text else "",
    )


def _encoder(
    inputs: Mapping[str, _Value],
    outputs: Mapping[str, _Value],
    where: str,
    classes: Classes | None,
    *,
    per_token: bool,
) -> str:
    _require(inputs, {_IDS}, {_IDS, _MASK, _TYPES}, where)
    _require(outputs, set(), {next(iter(outputs))}, where)
    output = next(iter(outputs.values()))
    filled = {
        _IDS: "ids + filling",
        _MASK: "[Int32](repeating: 1, count: ids.count) + filling",
        _TYPES: "[Int32](repeating: 0, count: length)",
    }
    features = [f"            {_text(name)}: row({filled[name]})," for name in inputs]
    noun, known = "embedding" if classes is None else "scores", ""
    if classes is not None:
        labels = ", ".join(map(_text, classes.labels))
        known = (
            f"    /// What {'a token has' if per_token else 'the'} scores "
            f"{'for' if per_token else 'stand for'}, in their order; {classes.function} makes "
            f"probabilities of them.\n"
            f"    static let labels = [{labels}]\n"
        )
    return _Swift(templates.ENCODER).substitute(
        noun=noun,
        classes=known,
        lengths=", ".join(map(str, _lengths(inputs[_IDS]))),
        features="\n".join(features),
        output=_text(output.name),
        shown=output.shown,
        whose="every token of a text" if per_token else "a text",
        result=f"Array({noun}.scalars.prefix(tokens.count * Self.labels.count))"
        if per_token
        else f"{noun}.scalars",
        scalar=output.scalar,
    )


def _decoder(
    inputs: Mapping[str, _Value],
    outputs: Mapping[str, _Value],
    facts: Mapping[str, str],
    where: str,
) -> str:
    _require(inputs, {_IDS, _POSITION}, {_IDS, _POSITION}, where)
    lengths = _lengths(inputs[_IDS])
    if lengths[0] != 1 or CONTEXT_KEY not in facts or _LOGITS not in outputs:
        what = "is not a language model built by edgeq"
        raise InvalidInput(Problem(where, what, "build it again"))
    return _Swift(templates.DECODER).substitute(
        context=int(facts[CONTEXT_KEY]),
        piece=lengths[-1],
        ends=", ".join(str(int(token)) for token in facts.get(END_KEY, "").split()),
        ids=_text(_IDS),
        position=_text(_POSITION),
        logits=_text(_LOGITS),
        scalar=outputs[_LOGITS].scalar,
    )


def _arrays(inputs: Mapping[str, _Value], outputs: Mapping[str, _Value]) -> str:
    labels = dict(zip(inputs, _identifiers(inputs), strict=True))
    fields = dict(zip(outputs, _identifiers(outputs), strict=True))
    return _Swift(templates.ARRAYS).substitute(
        fields="\n".join(
            f"        /// {_plain(name)}: {value.shown}\n"
            f"        let {fields[name]}: MLShapedArray<{value.scalar}>"
            for name, value in outputs.items()
        ),
        shapes="\n".join(
            f"    /// - {labels[name]}: {value.shown}" for name, value in inputs.items()
        ),
        parameters=", ".join(
            f"{labels[name]}: MLShapedArray<{value.scalar}>" for name, value in inputs.items()
        ),
        features="\n".join(
            f"            {_text(name)}: MLFeatureValue(shapedArray: {labels[name]}),"
            for name in inputs
        ),
        results=",\n".join(
            f"            {fields[name]}: try Self.array({_text(name)}, in: answer)"
            for name in outputs
        ),
    )


def _require(values: Mapping[str, _Value], least: set[str], most: set[str], where: str) -> None:
    if not least <= set(values) <= most:
        what = f"has {', '.join(values)}, of which edgeq does not support all"
        raise InvalidInput(Problem(where, what, f"it supports {', '.join(sorted(most))}"))


def _lengths(ids: _Value) -> list[int]:
    """The token counts that one call can have, ascending."""
    return sorted({shape[-1] for shape in ids.shapes})


def _identifiers(names: Iterable[str]) -> list[str]:
    """Valid and unique Swift names."""
    taken: list[str] = []
    for name in names:
        word = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
        word = f"_{word}" if word[0].isdigit() or word == "_" else word
        while word in taken:
            word += "_"
        taken.append(word)
    return [f"`{word}`" if word in _KEYWORDS else word for word in taken]


def _text(name: str) -> str:
    """A string literal of Swift."""
    escaped = "".join(
        letter if letter.isprintable() and letter not in '"\\' else f"\\u{{{ord(letter):x}}}"
        for letter in name
    )
    return f'"{escaped}"'


def _plain(text: str) -> str:
    """One line of printable characters, for a comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
