"""The README of a bundle, for an app's developer who has never heard of edgeq."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from edgeq.core.artifact import (
    TOKENIZER_FILE,
    Artifact,
    Classes,
    TextSettings,
    ValueInfo,
)
from edgeq.core.audio import AudioSettings, TranscriptionSettings
from edgeq.core.detection import DetectionSettings
from edgeq.core.images import ImageSettings
from edgeq.core.known_settings import KV_KEY, SESSION_BY_CPU_KEY
from edgeq.core.kv_cache import QUANTIZED
from edgeq.core.tasks import task_of
from edgeq.core.units import format_bytes
from edgeq.formats.bundle import BUNDLE_FILE
from edgeq.formats.registry import file_format
from edgeq.formats.selftest import SELFTEST_FILE, SelfTest
from edgeq.pipeline.bundle.asset_packs import delivery
from edgeq.pipeline.bundle.selftest import Facts
from edgeq.pipeline.check.remedies import format_value
from edgeq.pipeline.check.verdict import Line, Verdict
from edgeq.pipeline.starters.write import STARTERS

README_FILE = "README.md"
_PARTS = {
    "box": "four numbers of the box",
    "objectness": "a score that multiplies the others",
    "scores": "a score for each label",
    "score": "a score",
    "class": "the number of a label",
}
_FORMS = {
    "xyxy": "left, top, right, bottom",
    "yxyx": "top, left, bottom, right",
    "cxcywh": "the center's x and y, width, height",
    "xywh": "left, top, width, height",
}
_UNITS = {
    "pixels": "pixels of the input",
    "fractions": "fractions of the input's width and height",
}
_CPUS = {
    "x86_64-without-vnni": "x86-64 without `avx512_vnni` and `avx_vnni`",
    "aarch64": "64-bit Arm",
}


def readme(
    artifact: Artifact,
    facts: Facts,
    test: SelfTest,
    verdict: Verdict | None,
    licence: str | None,
) -> bytes:
    """Inputs, outputs, the settings that make it correct, and how to verify a port."""
    task, format = task_of(artifact.task), file_format(artifact.format)
    parts = [
        f"# {artifact.model.name}",
        f"{_sentence(task.noun)} in {format.title}, {artifact.variant}, "
        f"{format_bytes(artifact.bytes)}. The model: {_cell(artifact.model.source)}"
        f"{f', revision {artifact.model.revision}' if artifact.model.revision else ''}. "
        f"Licence of its weights: {licence or 'not stated'}.",
        "## Files",
        *_files(artifact),
        "## In and out",
        *_in_and_out(artifact, facts),
        *_session(artifact),
        "## Prove your port",
        *_proof(test),
        *_starters(artifact),
        "## Deliver it through a store",
        *delivery(artifact),
        "## What was measured",
        *_measured(verdict),
    ]
    return ("\n\n".join(parts) + "\n").encode()


def readme_of_parts(artifact: Artifact, verdict: Verdict) -> bytes:
    """What is in a bundle of several models, and where each is described."""
    rows = ["| part | runs | size | described in |", "|---|---|---|---|"]
    for name, runs in artifact.parts.items():
        size = sum(f.bytes for file, f in artifact.files.items() if file.startswith(f"{name}/"))
        where = f"`about/{name}/{README_FILE}`"
        rows.append(f"| `{name}/` | {runs} | {format_bytes(size)} | {where} |")
    title = file_format(artifact.format).title
    paragraphs = [
        f"# {artifact.model.name}",
        f"{len(artifact.parts)} models in {title}, {format_bytes(artifact.bytes)}. "
        f"Licence of their weights: {artifact.model.licence or 'not stated'}.",
        "## Parts",
        "Each is in a directory of its name; how it is used and tested is in a README of its own. "
        "*Runs*: how often it ran for one answer when the whole was timed.",
        "\n".join(rows),
        f'In Python: `edgeq.load("BUNDLE.zip").parts["{next(iter(artifact.parts))}"]`.',
        "## What was measured",
        *_measured(verdict),
    ]
    return ("\n\n".join(paragraphs) + "\n").encode()


def _sentence(noun: str) -> str:
    return noun[:1].upper() + noun[1:]


def _cell(text: str) -> str:
    """Foreign text as code in a table, with nothing that could end it."""
    return _code(text.replace("|", "/"))


def _code(text: str) -> str:
    """Foreign text as code, with nothing that could end it."""
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"


def _files(artifact: Artifact) -> Iterator[str]:
    format = file_format(artifact.format)
    opened = format.model_file
    runtime = format.memory_like if format.runs_anywhere else format.title
    lines = [f"- `{opened}`: the model, for {runtime}."]
    if any(name.startswith(f"{opened}.") for name in artifact.files):
        lines.append("- The file next to it holds its weights; keep both in one directory.")
    if TOKENIZER_FILE in artifact.files:
        lines.append(
            f"- `{TOKENIZER_FILE}`: for the `tokenizers` library (Rust, with bindings). It cuts "
            "texts where the check did, and pads none."
        )
    lines.append("- `bundle.json`: every setting and hash, for programs.")
    yield "\n".join(lines)
    yield "All files can be mapped into memory as they are; none is compressed."


def _in_and_out(artifact: Artifact, facts: Facts) -> Iterator[str]:
    if (text := artifact.text) is not None:
        yield "\n".join(_texts(artifact, text, facts))
    if (image := artifact.image) is not None:
        yield "\n".join(_images(image))
    if artifact.audio is not None and artifact.transcription is not None and artifact.classes:
        yield "\n".join(_speech(artifact.audio, artifact.transcription, artifact.classes))
    elif artifact.detection is not None and artifact.classes is not None:
        yield "\n".join(_boxes(artifact.detection, artifact.classes))
    elif (classes := artifact.classes) is not None:
        task = task_of(artifact.task)
        lines = _tags(classes) if task.tags else _labels(classes, task.samples[:-1])
        yield "\n".join(lines)
    for title, values in (("Inputs", artifact.inputs), ("Outputs", artifact.outputs)):
        if values:
            yield _table(title, values)


def _texts(artifact: Artifact, text: TextSettings, facts: Facts) -> Iterator[str]:
    task = task_of(artifact.task)
    if task.generates:
        yield f"- The cache takes at most {facts.longest or text.max_tokens} tokens."
        if kv := artifact.settings.get(KV_KEY):
            flash = " and `flash_attn_type` to enabled" if kv in QUANTIZED else ""
            yield f"- The cache was checked in {kv}: set `type_k` and `type_v` to it{flash}."
        ends = ", ".join(map(str, facts.end_tokens))
        yield f"- Stop at any of these tokens (`end_tokens` in `{BUNDLE_FILE}`): {ends}."
        if any(value.name == "past_length" for value in artifact.inputs):
            yield (
                "- Your app keeps keys and values: give zeros of `capacity` positions, bind each "
                "`present` to the memory of its `past_key_values`, and count the filled positions "
                "in `past_length`. `logits_to_keep` says how many of the last tokens get logits."
            )
        return
    yield f"- A text has at most {text.max_tokens} tokens, special tokens included."
    yield "- Run one text at a time, without padding: in a batch, padding changes the answer."
    for name, prompt in text.prompts.items():
        chosen = ", unless another is chosen" if name == text.default_prompt else ""
        put = _cell(prompt) if prompt else "nothing"
        yield f"- Prompt {_cell(name)}: put {put} in front of the text{chosen}."
    if task.ranks:
        yield (
            "- Query and text go into one call, as a pair: the tokenizer puts its special tokens "
            "between them, and `token_type_ids`, if the model takes them, are 1 in the text and 0 "
            "before. If the pair is too long, the longer of the two is cut, token by token."
        )
        yield "- The output is one score, not a probability. Sort texts by it, the highest first."
    if task.embeds:
        done = "of unit length" if text.normalize else "not normalized"
        done = "the first values of a longer one, not of unit length" if text.shortened else done
        yield (
            f"- The output is one vector, {done}. Pooling ({text.pooling}) is part of the model: "
            f"add none. Compare vectors by {text.similarity}."
        )


def _images(image: ImageSettings) -> Iterator[str]:
    """The steps from an image to the input, in their order."""
    height, width = image.size
    place = image.placed(height, width)
    filter = (
        f"Pillow's filter `{image.resample}`; filters of that name in other libraries may give "
        "other pixels"
    )
    if not image.antialias:
        filter = "bilinear interpolation between the nearest four pixels"
    if image.resize == "fit":
        size = f"scaled in proportion, as large as fits into {width} × {height} pixels"
    elif isinstance(image.resize, int):
        size = f"resized until its shorter side has {image.resize} pixels, the other in proportion"
    else:
        size = f"stretched to {place.width} × {place.height} pixels"
    yield (
        f"- An image is turned as its EXIF orientation says, converted to 8-bit {image.color} "
        f"without transparency, and {size}, by {filter}."
    )
    if image.resize == "fit":
        where = "in the middle" if image.align == "center" else "in the top left corner"
        yield (
            f"- It lies {where}, where halves of pixels are rounded down; the pixels around it are "
            f"{image.fill} in every channel."
        )
    elif image.resize is not None:
        yield (
            f"- Its middle of {width} × {height} pixels is kept: from column "
            f"(width − {width}) // 2 and row (height − {height}) // 2 on."
        )
        if image.has_border:
            yield (
                "- Where it is smaller, it lies in the middle, halves of pixels rounded up, and "
                "the pixels around it are 0."
            )
    mean, deviation = (
        f"[{', '.join(f'{number:.9g}' for number in part)}]"
        for part in (image.mean, image.deviation)
    )
    yield (
        f"- The input is (pixel × {image.scale:.9g} − {mean}) ÷ {deviation}, with the "
        f"axes {image.layout} and the channels in the order {image.color}."
    )


def _labels(classes: Classes, noun: str) -> Iterator[str]:
    labels = ", ".join(map(_cell, classes.labels))
    score = "probability" if classes.function == "none" else "score"
    yield f"- The output has one {score} for each label, in this order: {labels}."
    if classes.function == "softmax":
        yield f"- Softmax turns scores into probabilities; the {noun} has the likeliest label."
    elif classes.function == "sigmoid":
        yield f"- Sigmoid turns each score into a probability; the {noun} has all above 0.5."
    else:
        yield f"- The {noun} has the likeliest label."


def _tags(classes: Classes) -> Iterator[str]:
    labels = ", ".join(map(_cell, classes.labels))
    score = "probability" if classes.function == "none" else "score"
    yield f"- The output has one {score} for each token and label, labels in this order: {labels}."
    if classes.function == "softmax":
        yield "- Softmax over the labels turns a token's scores into probabilities."
    yield (
        "- A token has its likeliest label; leave out special tokens and padding. Neighbouring "
        "tokens whose labels are equal, apart from a leading `B-` or `I-`, are one part of the "
        "text; `B-` begins another. Tokens labelled `O` are in none."
    )


def _boxes(detection: DetectionSettings, classes: Classes) -> Iterator[str]:
    """The steps from the outputs to boxes, in their order."""
    labels = ", ".join(map(_cell, classes.labels))
    line = "column" if detection.transposed else "row"
    parts = ", ".join(_PARTS[part] for part in detection.row)
    yield (
        f"- The output {_cell(detection.boxes)} has a {line} for each box: {parts}. The box is "
        f"{_FORMS[detection.box]}, in {_UNITS[detection.unit]}."
    )
    if detection.scores is not None:
        each = "the score" if detection.classes is not None else "a score for each label"
        yield f"- The output {_cell(detection.scores)} has {each} of each box, in the same order."
    if detection.classes is not None:
        yield f"- The output {_cell(detection.classes)} has the number of each box's label."
    if classes.function != "none":
        yield f"- The {classes.function} of a score is a probability."
    yield f"- The labels in the model's order: {labels}."
    if detection.background is not None:
        yield f"- The {detection.background} class, with no label here, means no object."
    chosen = "" if detection.names_class else " A box has the likeliest label."
    yield f"- Drop boxes that score less than {detection.threshold:g}.{chosen}"
    if detection.overlap is not None:
        whose = "any label" if detection.across_labels else "the same label"
        yield (
            "- From the highest score down, drop each box whose intersection with a kept one of "
            f"{whose}, divided by their union, is above {detection.overlap:g}."
        )
    yield (
        f"- Keep the {detection.most} best. Subtract the top left corner of where the image lies "
        "in the input, scale by the image's size divided by its size there, and cut off at the "
        "image's edges."
    )


def _speech(
    audio: AudioSettings, transcription: TranscriptionSettings, classes: Classes
) -> Iterator[str]:
    """The steps from a recording to the input, and from the output to a text."""
    yield (
        f"- A recording becomes the mean of its channels, from −1 to 1, at {audio.rate} samples "
        "per second, without the frequencies above half of that. It has at most "
        f"{audio.seconds:g} seconds."
    )
    if audio.normalize:
        yield "- Subtract its mean and divide by the root of (its variance + 1e-7)."
    yield f"- Zeros follow, up to {audio.samples} samples."
    labels = ", ".join(map(_code, classes.labels))
    yield f"- The output has a score for each symbol in each frame, in this order: {labels}."
    ignored = ", ".join(map(_code, transcription.ignore))
    without = f", leave out {ignored}" if ignored else ""
    yield (
        f"- Take the likeliest symbol of each frame{without}, take equal ones in a row once, and "
        f"drop {_code(transcription.blank)}. {_code(transcription.space)} separates words, "
        "several in a row as one."
    )


def _table(title: str, values: tuple[ValueInfo, ...]) -> str:
    rows = [f"| {title} | dtype | shape |", "|---|---|---|"]
    alike: dict[tuple[str, ...], list[str]] = {}  # of every layer, in one line
    for value in values:
        shape = " × ".join(map(str, value.shape)) or "a number"
        key = (re.sub(r"\d+", "0", value.name), value.dtype, shape)
        alike.setdefault(key, []).append(value.name)
    for (_, dtype, shape), names in alike.items():
        name = " to ".join(map(_cell, dict.fromkeys((names[0], names[-1]))))
        rows.append(f"| {name} | {dtype} | {_cell(shape)} |")
    return "\n".join(rows)


def _session(artifact: Artifact) -> Iterator[str]:
    by_cpu: Mapping[str, Mapping[str, Any]] = artifact.settings.get(SESSION_BY_CPU_KEY, {})
    entries = [
        f"| {_CPUS.get(name, name)} | `{key}` | `{value}` |"
        for name, settings in by_cpu.items()
        for key, value in settings.items()
    ]
    if entries:
        yield "## Session settings"
        yield (
            "On these CPUs, onnxruntime's fastest kernels are inexact for this model. Before you "
            "create the session, add the entry with `AddSessionConfigEntry`, or what your binding "
            "calls it:"
        )
        yield "\n".join(["| CPU | entry | value |", "|---|---|---|", *entries])


def _proof(test: SelfTest) -> Iterator[str]:
    same, other = test.largest_distance_same_cpu, test.largest_distance_other_cpu
    yield (
        f"`{SELFTEST_FILE}` has inputs, token ids and values of outputs. Your code is right if its "
        "ids are the same and its outputs near enough: take the values at the listed positions, "
        "subtract the listed values, and divide the L2 norm of the difference by that of the "
        f"listed values. That is at most {same:g} on a CPU with the instruction sets of "
        f"{_cell(test.cpu)}, and at most {other:g} on others. A text that is cut, masked or "
        "prepared otherwise misses it. Run it when your app starts for the first time on a device."
    )


def _starters(artifact: Artifact) -> Iterator[str]:
    languages = [name for name, starter in STARTERS.items() if starter.runs(artifact)]
    if languages:
        chosen = " or ".join(f"`--language {name}`" for name in languages)
        yield (
            "A program that runs the model and this test, written by edgeq: `edgeq starter "
            f"BUNDLE.zip --out my-app` with {chosen}. Its README says how to build it."
        )


def _measured(verdict: Verdict | None) -> Iterator[str]:
    if verdict is None:
        yield "**Nothing.** The bundle was made without a check."
        return
    yield f"For the device {verdict.device}, against the limits of its recipe:"
    rows = ["| | limit | seen | how |", "|---|---|---|---|", *map(_line, verdict.lines)]
    yield "\n".join(rows)


def _line(line: Line) -> str:
    seen = "nothing" if line.value is None else format_value(line.value, line.unit)
    limit = format_value(line.limit, line.unit)
    return f"| {line.budget} | {line.bound} {limit} | {seen} | {line.how} |"
