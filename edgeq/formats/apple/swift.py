"""What the Swift packages around Core ML's and Core AI's models share: names, texts, resources."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any

from edgeq.core.artifact import TOKENIZER_FILE, TOKENIZER_SETTINGS_FILE, Artifact
from edgeq.core.tasks import task_of
from edgeq.formats.apple import swift_templates as templates
from edgeq.formats.chat import CHAT_FILES, chat_of_directory
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


class Swift(Template):
    """Uses `%`, since Swift has its own `$0` and `{}`; its operator `%` is written `%%`."""

    delimiter = "%"


def package_files(
    directory: Path,
    artifact: Artifact,
    documents: Collection[str],
    model: str,
    source: Callable[[bool], str],
) -> dict[str, bytes]:
    """The Swift package around the artifact in `directory`: equal artifacts give equal bytes.

    documents: names of other files in the bundle. model: the line of the package's resources for
    the model. source: gives the Swift file, with or without a self-test with token ids.
    """
    has_test = SELFTEST_FILE in documents and TOKENIZER_FILE in artifact.files
    found = {SWIFT_FILE: source(has_test)}
    resources = [name for name in (TOKENIZER_FILE, *CHAT_FILES) if name in artifact.files]
    if resources:
        found[CONFIGURATION_FILE] = "{}\n"
        resources.append(CONFIGURATION_FILE)
        if TOKENIZER_SETTINGS_FILE not in resources:
            found[TOKENIZER_SETTINGS_FILE] = _tokenizer_settings(directory)
            resources.append(TOKENIZER_SETTINGS_FILE)
    if has_test:
        resources.append(SELFTEST_FILE)
    lines = [model, *(f'.copy("{name}")' for name in resources)]
    url = f"https://github.com/huggingface/{_TOKENIZERS}"
    has_text = TOKENIZER_FILE in artifact.files
    found[PACKAGE_FILE] = Swift(templates.PACKAGE).substitute(
        names(artifact),
        dependencies=f'        .package(url: "{url}", from: "1.0.0")\n' if has_text else "",
        products=f'.product(name: "Tokenizers", package: "{_TOKENIZERS}")' if has_text else "",
        resources="\n".join(f"                {line}," for line in lines),
    )
    return {name: text.encode() for name, text in found.items()}


def names(artifact: Artifact) -> dict[str, Any]:
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


def header(
    template: str, artifact: Artifact, model: str, imports: Iterable[str], *, has_text: bool
) -> str:
    """The beginning of the Swift file. model: the model's file. has_text: it has functions of
    texts.
    """
    more = [*imports]
    if has_text:
        more += ["#if canImport(Tokenizers)", "import Tokenizers", "#endif"]
    if task_of(artifact.task).generates:
        more += ["#if canImport(UIKit)", "import UIKit", "#endif"]
    files = [name for name in (TOKENIZER_FILE, *CHAT_FILES) if name in artifact.files]
    filled = Swift(template).substitute(
        names(artifact),
        artifact=plain(artifact.name),
        source=plain(artifact.model.source),
        model=model,
        files="".join(f", {name}" for name in files),
        stem=model.rpartition(".")[0],
        imports="".join(f"{line}\n" for line in more),
    )
    return filled + templates.RESOURCES


def texts_of_decoder(directory: Path) -> str:
    """The functions of texts of a language model."""
    has_chat = chat_of_directory(directory).template is not None
    return Swift(templates.DECODER_TEXTS).substitute(chat=templates.CHAT if has_chat else "")


def generating(*, is_async: bool) -> str:
    """Generation, token by token, from a function `logits(after:)`."""
    return Swift(templates.GENERATE).substitute(calls=_calls(is_async))


def ended(body: str, texts: str, *, has_test: bool, is_async: bool) -> str:
    """An actor's body with the functions of texts, the self-test and the end of the file."""
    if has_test and texts:
        words = {"async": " async" if is_async else "", "calls": _calls(is_async)}
        body += Swift(templates.SELF_TEST).substitute(words)
    if texts:
        test = templates.TOKENIZER_TEST if has_test else ""
        body += Swift(templates.TOKENIZER).substitute(texts=texts, test=test)
    return body + templates.END


def _calls(is_async: bool) -> str:
    return "try await" if is_async else "try"


def labels_of(artifact: Artifact) -> str:
    """What the scores of a classifier stand for; empty for other models."""
    if artifact.classes is None:
        return ""
    labels = ", ".join(map(text, artifact.classes.labels))
    whose = " of a token" if task_of(artifact.task).tags else ""
    return (
        f"    /// What the scores{whose} stand for, in their order; {artifact.classes.function} "
        f"makes probabilities of them.\n    public static let labels = [{labels}]\n"
    )


def closing(directory: Path) -> int:
    """How many special tokens end a text."""
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(directory / TOKENIZER_FILE)).encode("a").special_tokens_mask
    return next((n for n, special in enumerate(reversed(found)) if not special), 0)


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


def identifiers(words: Iterable[str]) -> list[str]:
    """Valid and unique Swift names."""
    taken: list[str] = []
    for name in words:
        word = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
        word = f"_{word}" if word[0].isdigit() or word == "_" else word
        while word in taken:
            word += "_"
        taken.append(word)
    return [f"`{word}`" if word in _KEYWORDS else word for word in taken]


def text(name: str) -> str:
    """A string literal of Swift."""
    escaped = "".join(
        letter if letter.isprintable() and letter not in '"\\' else f"\\u{{{ord(letter):x}}}"
        for letter in name
    )
    return f'"{escaped}"'


def plain(text: str) -> str:
    """One line of printable characters, for a comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
