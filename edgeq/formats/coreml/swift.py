"""The Swift package that loads a Core ML package in an app for Apple's systems.

Names, shapes, lengths and end tokens are read from the package itself, so that the files match it.
They use the API of Core ML's headers for iOS 18; nothing here compiles Swift.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any

from edgeq.core.artifact import (
    COREML_PACKAGE,
    TOKENIZER_FILE,
    TOKENIZER_SETTINGS_FILE,
    Artifact,
)
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.metadata_keys import CONTEXT_KEY, END_KEY
from edgeq.core.tasks import task_of
from edgeq.formats.chat import CHAT_FILES, chat_of_directory
from edgeq.formats.coreml import swift_templates as templates
from edgeq.formats.coreml.executor.package import open_package
from edgeq.formats.selftest import SELFTEST_FILE

SWIFT_FILE, PACKAGE_FILE = "EdgeqModel.swift", "Package.swift"
CONFIGURATION_FILE = "config.json"
"""swift-transformers opens no folder without one; what it reads is in the tokenizer's own files."""
_TOKENIZERS = "swift-transformers"
_TOKENIZER_CLASSES = {
    "WordPiece": "BertTokenizer",
    "BPE": "GPT2Tokenizer",
    "Unigram": "T5Tokenizer",
}
"""Its classes, by the kind of model in `tokenizer.json`."""
_IDS, _POSITION, _LOGITS = "input_ids", "position", "logits"
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
    """The Swift package around the artifact in `directory`: equal artifacts give equal bytes.

    documents: names of other files in the bundle. Raises InvalidInput for a package whose inputs do
    not match its task.
    """
    has_test = SELFTEST_FILE in documents and TOKENIZER_FILE in artifact.files
    found = {SWIFT_FILE: swift_file(directory, artifact, has_test=has_test)}
    resources = [name for name in (TOKENIZER_FILE, *CHAT_FILES) if name in artifact.files]
    if resources:
        found[CONFIGURATION_FILE] = "{}\n"
        resources.append(CONFIGURATION_FILE)
        if TOKENIZER_SETTINGS_FILE not in resources:
            found[TOKENIZER_SETTINGS_FILE] = _tokenizer_settings(directory)
            resources.append(TOKENIZER_SETTINGS_FILE)
    if has_test:
        resources.append(SELFTEST_FILE)
    lines = [f'.process("{COREML_PACKAGE}")', *(f'.copy("{name}")' for name in resources)]
    url = f"https://github.com/huggingface/{_TOKENIZERS}"
    has_text = TOKENIZER_FILE in artifact.files
    found[PACKAGE_FILE] = _Swift(templates.PACKAGE).substitute(
        _names(artifact),
        dependencies=f'        .package(url: "{url}", from: "1.0.0")\n' if has_text else "",
        products=f'.product(name: "Tokenizers", package: "{_TOKENIZERS}")' if has_text else "",
        resources="\n".join(f"                {line}," for line in lines),
    )
    return {name: text.encode() for name, text in found.items()}


def swift_file(directory: Path, artifact: Artifact, *, has_test: bool = False) -> str:
    """The Swift source alone. has_test: whether a self-test with token ids is next to it."""
    package = open_package(directory / COREML_PACKAGE)
    inputs = _values(package.description.input)
    outputs = _values(package.description.output)
    facts = dict(package.description.metadata.userDefined)
    where = str(directory / COREML_PACKAGE)
    texts = ""
    if task_of(artifact.task).generates:
        body = _decoder(inputs, outputs, facts, where)
        has_chat = chat_of_directory(directory).template is not None
        texts = _Swift(templates.DECODER_TEXTS).substitute(chat=templates.CHAT if has_chat else "")
    elif artifact.text is not None and not task_of(artifact.task).ranks:
        body, texts = _encoder(inputs, outputs, where, artifact, directory)
    else:
        body = _arrays(inputs, outputs)
    if has_test and texts:
        body += templates.SELF_TEST
    if texts:
        body += _Swift(templates.TOKENIZER).substitute(texts=texts)
    return _header(artifact, inputs, bool(texts)) + body + templates.END


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


def _names(artifact: Artifact) -> dict[str, Any]:
    """A name of the model's own, so that an app can have several, and what else headers say."""
    target = artifact.settings["deployment_target"]
    source = PurePosixPath(re.split(r"[:@]", artifact.model.source)[-1].replace("\\", "/"))
    words = re.findall(r"[A-Za-z0-9]+", f"{source.stem or source.name} {artifact.name}")
    name = "".join(word[:1].upper() + word[1:] for word in words)
    name = f"Model{name}" if name[:1].isdigit() else name
    return {
        "type": name,
        "module": f"Edgeq{name}",
        "file": SWIFT_FILE,
        "ios": target["ios"],
        "macos": target["macos"],
    }


def _header(artifact: Artifact, inputs: Mapping[str, _Value], has_text: bool) -> str:
    has_image = any(value.kind in _PIXELS for value in inputs.values())
    imports = ["import CoreGraphics", "import CoreVideo"] if has_image else []
    if has_text:
        imports += ["#if canImport(Tokenizers)", "import Tokenizers", "#endif"]
    if task_of(artifact.task).generates:
        imports += ["#if canImport(UIKit)", "import UIKit", "#endif"]
    files = [name for name in (TOKENIZER_FILE, *CHAT_FILES) if name in artifact.files]
    return _Swift(templates.HEADER).substitute(
        _names(artifact),
        artifact=_plain(artifact.name),
        source=_plain(artifact.model.source),
        package=COREML_PACKAGE,
        files="".join(f", {name}" for name in files),
        stem=COREML_PACKAGE.removesuffix(".mlpackage"),
        imports="".join(f"{line}\n" for line in imports),
    )


def _encoder(
    inputs: Mapping[str, _Value],
    outputs: Mapping[str, _Value],
    where: str,
    artifact: Artifact,
    directory: Path,
) -> tuple[str, str]:
    """The actor's body, and its functions of texts."""
    _require(inputs, {_IDS}, {_IDS, _MASK, _TYPES}, where)
    _require(outputs, set(), {next(iter(outputs))}, where)
    output, text, classes = next(iter(outputs.values())), artifact.text, artifact.classes
    assert text is not None
    filled = {
        _IDS: "ids + filling",
        _MASK: "[Int32](repeating: 1, count: ids.count) + filling",
        _TYPES: "[Int32](repeating: 0, count: length)",
    }
    features = [f"            {_text(name)}: row({filled[name]})," for name in inputs]
    per_token = task_of(artifact.task).tags
    noun, known = "embedding" if classes is None else "scores", ""
    if classes is not None:
        labels = ", ".join(map(_text, classes.labels))
        known = (
            f"    /// What the scores{' of a token' if per_token else ''} stand for, in their "
            f"order; {classes.function} makes probabilities of them.\n"
            f"    public static let labels = [{labels}]\n"
        )
    shared = {"noun": noun, "shown": output.shown, "scalar": output.scalar}
    body = _Swift(templates.ENCODER).substitute(
        shared,
        classes=known,
        lengths=", ".join(map(str, _lengths(inputs[_IDS]))),
        prompt=_text(text.prompted([""])[0]),
        closing=_closing(directory),
        features="\n".join(features),
        output=_text(output.name),
        whose="every token of a text" if per_token else "a text",
        result=f"Array({noun}.scalars.prefix(tokens.count * Self.labels.count))"
        if per_token
        else f"{noun}.scalars",
    )
    return body, _Swift(templates.ENCODER_TEXTS).substitute(shared)


def _tokenizer_settings(directory: Path) -> str:
    """What swift-transformers asks of `tokenizer_config.json`: which of its classes reads the
    tokenizer, and for word pieces, whether text becomes lower case.
    """
    from tokenizers import Tokenizer

    content = json.loads((directory / TOKENIZER_FILE).read_bytes())
    normalizer = Tokenizer.from_file(str(directory / TOKENIZER_FILE)).normalizer
    is_lower = normalizer is not None and normalizer.normalize_str("A") == "a"
    kind = _TOKENIZER_CLASSES.get(content["model"].get("type", ""), "PreTrainedTokenizer")
    return json.dumps({"tokenizer_class": kind, "do_lower_case": is_lower}) + "\n"


def _closing(directory: Path) -> int:
    """How many special tokens end a text."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(directory / TOKENIZER_FILE)).encode("a").special_tokens_mask
    return next((n for n, special in enumerate(reversed(found)) if not special), 0)


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
    features = [
        f"            {_text(name)}: {_FEATURES[value.kind in _PIXELS].format(labels[name])},"
        for name, value in inputs.items()
    ]
    results = [
        f"            {fields[name]}: try Self.value({_text(name)}, in: answer) {{\n"
        f"                {_READ[value.kind].format(value.scalar)}\n            }}"
        for name, value in outputs.items()
    ]
    return _Swift(templates.ARRAYS).substitute(
        fields="\n".join(
            f"        /// {_plain(name)}: {value.shown}\n"
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
    return _Swift(templates.IMAGES).substitute(
        width=width,
        height=height,
        pixels=_PIXELS[value.kind],
        input=_text(name),
        label=labels[name],
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
