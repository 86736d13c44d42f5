"""The Swift package that loads a Core AI model in an app for Apple's systems.

Names, shapes and end tokens are the artifact's own, so that the files match it. They use the API of
Apple's documentation for iOS 27.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

from edgeq.core.artifact import COREAI_ASSET, Artifact, ValueInfo
from edgeq.core.metadata_keys import CONTEXT_KEY, END_KEY
from edgeq.core.tasks import task_of
from edgeq.formats.apple import swift_templates as shared
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
from edgeq.formats.coreai import swift_templates as templates
from edgeq.formats.coreai.decoder import PIECE, read_metadata
from edgeq.formats.coreai.runtime import Runtime

_FILLED = {
    "input_ids": "tokens.map { Int32($0) }",
    "attention_mask": "[Int32](repeating: 1, count: length)",
    "token_type_ids": "[Int32](repeating: 0, count: length)",
}


def swift_files(
    directory: Path, artifact: Artifact, documents: Collection[str] = ()
) -> dict[str, bytes]:
    """See `package_files`."""
    model = f'.copy("{COREAI_ASSET}")'
    return package_files(
        directory,
        artifact,
        documents,
        model,
        lambda has_test: swift_file(directory, artifact, has_test=has_test),
    )


def swift_file(directory: Path, artifact: Artifact, *, has_test: bool = False) -> str:
    """The Swift source alone. has_test: whether a self-test with token ids is next to it."""
    texts = ""
    if task_of(artifact.task).generates:
        body, texts = _decoder(directory / COREAI_ASSET, artifact), texts_of_decoder(directory)
    elif artifact.text is not None and not task_of(artifact.task).ranks:
        body, texts = _encoder(directory, artifact)
    else:
        body = _arrays(artifact)
    body += Swift(templates.READ).substitute()
    top = header(templates.HEADER, artifact, COREAI_ASSET, (), has_text=bool(texts))
    return top + ended(body, texts, has_test=has_test, is_async=True)


def _encoder(directory: Path, artifact: Artifact) -> tuple[str, str]:
    """The actor's body, and its functions of texts."""
    settings, output = artifact.text, artifact.outputs[0]
    assert settings is not None
    features = [f"            {text(v.name)}: row({_FILLED[v.name]})," for v in artifact.inputs]
    words = {
        "noun": "embedding" if artifact.classes is None else "scores",
        "shown": _shown(output),
        "scalar": "Float",
        "longest": settings.max_tokens,
    }
    body = Swift(templates.ENCODER).substitute(
        words,
        classes=labels_of(artifact),
        prompt=text(settings.prompted([""])[0]),
        closing=closing(directory),
        features="\n".join(features),
        output=text(output.name),
        whose="every token of a text" if task_of(artifact.task).tags else "a text",
    )
    return body, Swift(shared.ENCODER_TEXTS).substitute(words)


def _decoder(asset: Path, artifact: Artifact) -> str:
    facts, states = read_metadata(asset), Runtime(asset).states()
    shape = next(iter(states.values()))
    names = dict(zip(states, identifiers(states), strict=True))
    state = Swift(templates.STATE).substitute(
        context=int(facts[CONTEXT_KEY]),
        piece=PIECE,
        ends=", ".join(str(int(token)) for token in facts.get(END_KEY, "").split()),
        fields="\n".join(f"        var {word} = Self.zeros()" for word in names.values()),
        size=math.prod(shape),
        shape=", ".join(map(str, shape)),
    )
    logits = Swift(templates.LOGITS).substitute(
        ids=text(IDS),
        position=text(POSITION),
        rows=text(ROWS),
        logits=text(LOGITS),
        inserts="\n".join(
            f"        states.insert(&kept.{word}, for: {text(name)})"
            for name, word in names.items()
        ),
    )
    choose = Swift(shared.CHOOSE).substitute(scalar="Float")
    return shared.SAMPLING + state + generating(is_async=True) + logits + choose


def _arrays(artifact: Artifact) -> str:
    labels, fields = (
        dict(zip(words, identifiers(words), strict=True))
        for words in ([v.name for v in values] for values in (artifact.inputs, artifact.outputs))
    )
    inputs, outputs = artifact.inputs, artifact.outputs
    return Swift(templates.ARRAYS).substitute(
        fields="\n".join(
            f"        /// {plain(v.name)}: {_shown(v)}\n"
            f"        public let {fields[v.name]}: [{_scalar(v)}]"
            for v in outputs
        ),
        shapes="\n".join(f"    /// - {labels[v.name]}: {_shown(v)}" for v in inputs),
        parameters=", ".join(f"{labels[v.name]}: [{_scalar(v)}]" for v in inputs),
        checks="\n".join(_check(v, labels[v.name]) for v in inputs),
        features="\n".join(
            f"            {text(v.name)}: NDArray(\n"
            f"                scalars: {labels[v.name]}, shape: {_sizes(v, labels[v.name])}),"
            for v in inputs
        ),
        guards="\n".join(
            f"        guard let output{n} = answer.remove({text(v.name)})?.ndArray else {{\n"
            f"            throw Failure.missingOutput({text(v.name)})\n"
            f"        }}"
            for n, v in enumerate(outputs)
        ),
        results=",\n".join(
            f"            {fields[v.name]}: Self.scalars(of: output{n}, as: {_scalar(v)}.self)"
            for n, v in enumerate(outputs)
        ),
    )


def _scalar(value: ValueInfo) -> str:
    return "Float" if value.dtype == "float32" else "Int32"


def _shown(value: ValueInfo) -> str:
    """The type and the sizes; a program has one sample at a time, whatever its graph had."""
    free = [1 if n == 0 and isinstance(size, str) else size for n, size in enumerate(value.shape)]
    return f"{_scalar(value)}, {' × '.join(map(str, free)) or 'one number'}"


def _check(value: ValueInfo, label: str) -> str:
    """Refuses another count of numbers than an input has."""
    fixed = [size for size in value.shape if isinstance(size, int)]
    is_right = f"{label}.count == {math.prod(fixed)}"
    if len(fixed) < len(value.shape):
        is_right = f"!{label}.isEmpty"
    return (
        f"        guard {is_right} else {{\n"
        f"            throw Failure.numberCount({text(value.name)}, {label}.count)\n"
        f"        }}"
    )


def _sizes(value: ValueInfo, label: str) -> str:
    """The shape; a free size, of which texts have one, is the count of numbers."""
    sizes = [str(size) if isinstance(size, int) else f"{label}.count" for size in value.shape]
    return f"[{', '.join(sizes)}]"
