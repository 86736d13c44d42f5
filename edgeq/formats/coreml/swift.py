"""The Swift package that loads a Core ML package in an app for Apple's systems.

Names, shapes, lengths and end tokens are read from the package itself, so that the files match it.
They use the API of Core ML's headers for iOS 18.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.core.artifact import COREML_PACKAGE, Artifact
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.metadata_keys import CONTEXT_KEY, END_KEY
from edgeq.core.tasks import task_of
from edgeq.formats.apple import swift_templates as shared_templates
from edgeq.formats.apple.decoder import IDS, LOGITS, POSITION, ROWS
from edgeq.formats.apple.swift import (
    Swift,
    closing,
    ended,
    generating,
    header,
    identifiers,
    labels_of,
    package_files,
    plain,
    text,
    texts_of_decoder,
)
from edgeq.formats.coreml import swift_templates as templates
from edgeq.formats.coreml.executor.package import open_package

_MASK, _TYPES = "attention_mask", "token_type_ids"
# ArrayFeatureType.ArrayDataType of Core ML's FeatureTypes.proto, by Swift's names.
_SCALARS = {65552: "Float16", 65568: "Float", 65600: "Double", 131104: "Int32"}
# ImageFeatureType.ColorSpace, by the pixels that a buffer then has.
_COLOURS = {10: "grayscale", 20: "RGB", 30: "BGR"}
_PIXELS = {
    "grayscale": "kCVPixelFormatType_OneComponent8",
    "RGB": "kCVPixelFormatType_32BGRA",
    "BGR": "kCVPixelFormatType_32BGRA",
}
_FEATURES = ("MLFeatureValue(shapedArray: {})", "MLFeatureValue(pixelBuffer: {})")
_READ = {
    "array": "$0.shapedArrayValue(of: {}.self)",
    "string": "$0.stringValue",
    "shares": "$0.dictionaryValue as? {}",
}


@dataclass(frozen=True)
class _Value:
    """An input or output: its Swift type, its possible shapes, and how it is read."""

    name: str
    scalar: str
    shapes: tuple[tuple[int, ...], ...]
    kind: str = "array"

    @property
    def type(self) -> str:
        """The type in Swift."""
        return self.scalar if self.kind != "array" else f"MLShapedArray<{self.scalar}>"

    @property
    def shown(self) -> str:
        """The shapes for a comment, if the package states them."""
        said = " or ".join(" × ".join(map(str, shape)) for shape in self.shapes if shape)
        return f"{self.scalar}, {said}" if said else self.scalar


def swift_files(
    directory: Path, artifact: Artifact, documents: Collection[str] = ()
) -> dict[str, bytes]:
    """See `package_files`. Raises InvalidInput for a package whose inputs do not match its task."""
    model = f'.process("{COREML_PACKAGE}")'
    return package_files(
        directory,
        artifact,
        documents,
        model,
        lambda has_test: swift_file(directory, artifact, has_test=has_test),
    )


def swift_file(directory: Path, artifact: Artifact, *, has_test: bool = False) -> str:
    """The Swift source alone. has_test: whether a self-test with token ids is next to it."""
    package = open_package(directory / COREML_PACKAGE)
    inputs = _values(package.description.input)
    outputs = _values(package.description.output)
    facts = dict(package.description.metadata.userDefined)
    where = str(directory / COREML_PACKAGE)
    texts = ""
    if task_of(artifact.task).generates:
        body, texts = _decoder(inputs, outputs, facts, where), texts_of_decoder(directory)
    elif artifact.text is not None and not task_of(artifact.task).ranks:
        body, texts = _encoder(inputs, outputs, where, artifact, directory)
    else:
        body = _arrays(inputs, outputs)
    has_image = any(value.kind in _PIXELS for value in inputs.values())
    imports = ["import CoreGraphics", "import CoreVideo"] if has_image else []
    top = header(templates.HEADER, artifact, COREML_PACKAGE, imports, has_text=bool(texts))
    return top + ended(body, texts, has_test=has_test, is_async=False)


def _values(features: Iterable[Any]) -> dict[str, _Value]:
    return {feature.name: _value(feature.name, feature.type) for feature in features}


def _value(name: str, type: Any) -> _Value:
    word = type.WhichOneof("Type")
    if word == "imageType":
        shape = (int(type.imageType.height), int(type.imageType.width))
        return _Value(name, "CVPixelBuffer", (shape,), _COLOURS[type.imageType.colorSpace])
    if word == "stringType":
        return _Value(name, "String", (), "string")
    if word == "dictionaryType":
        return _Value(name, "[String: Double]", (), "shares")
    array = type.multiArrayType
    shapes = tuple(tuple(shape.shape) for shape in array.enumeratedShapes.shapes)
    return _Value(name, _SCALARS[array.dataType], shapes or (tuple(array.shape),))


def _encoder(
    inputs: Mapping[str, _Value],
    outputs: Mapping[str, _Value],
    where: str,
    artifact: Artifact,
    directory: Path,
) -> tuple[str, str]:
    """The actor's body, and its functions of texts."""
    _require(inputs, {IDS}, {IDS, _MASK, _TYPES}, where)
    _require(outputs, set(), {next(iter(outputs))}, where)
    output, settings = next(iter(outputs.values())), artifact.text
    assert settings is not None
    filled = {
        IDS: "ids + filling",
        _MASK: "[Int32](repeating: 1, count: ids.count) + filling",
        _TYPES: "[Int32](repeating: 0, count: length)",
    }
    features = [f"            {text(name)}: row({filled[name]})," for name in inputs]
    per_token = task_of(artifact.task).tags
    noun = "embedding" if artifact.classes is None else "scores"
    lengths = _lengths(inputs[IDS])
    shared = {"noun": noun, "shown": output.shown, "scalar": output.scalar}
    body = Swift(templates.ENCODER).substitute(
        shared,
        classes=labels_of(artifact),
        lengths=", ".join(map(str, lengths)),
        prompt=text(settings.prompted([""])[0]),
        closing=closing(directory),
        features="\n".join(features),
        output=text(output.name),
        whose="every token of a text" if per_token else "a text",
        result=f"Array({noun}.scalars.prefix(tokens.count * Self.labels.count))"
        if per_token
        else f"{noun}.scalars",
    )
    texts = Swift(shared_templates.ENCODER_TEXTS).substitute(shared, longest=lengths[-1])
    return body, texts


def _decoder(
    inputs: Mapping[str, _Value],
    outputs: Mapping[str, _Value],
    facts: Mapping[str, str],
    where: str,
) -> str:
    _require(inputs, {IDS, POSITION, ROWS}, {IDS, POSITION, ROWS}, where)
    lengths = _lengths(inputs[IDS])
    if lengths[0] != 1 or CONTEXT_KEY not in facts or LOGITS not in outputs:
        what = "is not a language model built by edgeq"
        raise InvalidInput(Problem(where, what, "build it again"))
    state = Swift(templates.STATE).substitute(
        context=int(facts[CONTEXT_KEY]),
        piece=lengths[-1],
        ends=", ".join(str(int(token)) for token in facts.get(END_KEY, "").split()),
    )
    logits = Swift(templates.LOGITS).substitute(
        ids=text(IDS),
        position=text(POSITION),
        rows=text(ROWS),
        logits=text(LOGITS),
        scalar=outputs[LOGITS].scalar,
    )
    choose = Swift(shared_templates.CHOOSE).substitute(scalar=outputs[LOGITS].scalar)
    return shared_templates.SAMPLING + state + generating(is_async=False) + logits + choose


def _arrays(inputs: Mapping[str, _Value], outputs: Mapping[str, _Value]) -> str:
    labels = dict(zip(inputs, identifiers(inputs), strict=True))
    fields = dict(zip(outputs, identifiers(outputs), strict=True))
    features = [
        f"            {text(name)}: {_FEATURES[value.kind in _PIXELS].format(labels[name])},"
        for name, value in inputs.items()
    ]
    results = [
        f"            {fields[name]}: try Self.value({text(name)}, in: answer) {{\n"
        f"                {_READ[value.kind].format(value.scalar)}\n            }}"
        for name, value in outputs.items()
    ]
    return Swift(templates.ARRAYS).substitute(
        fields="\n".join(
            f"        /// {plain(name)}: {value.shown}\n"
            f"        public let {fields[name]}: {value.type}"
            for name, value in outputs.items()
        ),
        shapes="\n".join(
            f"    /// - {labels[name]}: {value.shown}" for name, value in inputs.items()
        ),
        parameters=", ".join(f"{labels[name]}: {value.type}" for name, value in inputs.items()),
        features="\n".join(features),
        results=",\n".join(results),
        images=_images(inputs, labels),
    )


def _images(inputs: Mapping[str, _Value], labels: Mapping[str, str]) -> str:
    """For a model of one image: a function of images of any size."""
    ((name, value), *others) = inputs.items()
    if others or value.kind not in _PIXELS:
        return ""
    height, width = value.shapes[0]
    return Swift(templates.IMAGES).substitute(
        width=width,
        height=height,
        pixels=_PIXELS[value.kind],
        input=text(name),
        label=labels[name],
    )


def _require(values: Mapping[str, _Value], least: set[str], most: set[str], where: str) -> None:
    if not least <= set(values) <= most:
        what = f"has {', '.join(values)}, of which edgeq does not support all"
        raise InvalidInput(Problem(where, what, f"it supports {', '.join(sorted(most))}"))


def _lengths(ids: _Value) -> list[int]:
    """The token counts that one call can have, ascending."""
    return sorted({shape[-1] for shape in ids.shapes})
