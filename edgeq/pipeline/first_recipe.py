"""A first recipe for a user's model, with budgets from its estimates."""

from __future__ import annotations

import math
import os
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import writable, write_text
from edgeq.core.tasks import (
    OBJECT_DETECTION,
    SPEECH_RECOGNITION,
    TASKS,
    TENSOR,
    TEXT_GENERATION,
    FirstRecipe,
    Task,
    task_of,
)
from edgeq.core.tasks.task import exporting
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.units import format_bytes
from edgeq.core.yamlfile import yaml_word
from edgeq.models.architectures import Decoder
from edgeq.models.architectures.wrappers import TEXT
from edgeq.models.huggingface import licence_of
from edgeq.models.image_processor import PROCESSOR_FILE
from edgeq.models.jsonfile import read_optional
from edgeq.models.locate import Located, locate
from edgeq.models.source import Source, source_named
from edgeq.models.stated_task import task_of_config
from edgeq.pipeline.check.expected import expected_everywhere
from edgeq.pipeline.first_interface import (
    LABELS_FILE,
    Interface,
    a_sample,
    interface_of,
    interface_of_directory,
    is_stated_detector,
    rows_of,
    stated_task,
)
from edgeq.pipeline.first_targets import Targets, target_choices
from edgeq.pipeline.first_whisper import (
    from_base,
    is_whisper,
    read_whisper,
    whole_text,
    write_parts,
)
from edgeq.pipeline.plan.described import described
from edgeq.pipeline.plan.plan import Planned, make_plan

_MIB = 1 << 20
_LEAST_MEMORY = 128 * _MIB  # a process with a runtime and no model takes half


@dataclass(frozen=True)
class Need:
    """A data file that the recipe names. content: what has to be in it."""

    path: Path
    content: str


@dataclass(frozen=True)
class Written:
    """A recipe that was written.

    missing: data files that are not there yet. hint: what else the model may be for.
    """

    path: Path
    task: str
    missing: tuple[Need, ...]
    hint: str = ""


@dataclass(frozen=True)
class _Draft:
    """The part of a recipe before its budgets.

    base: the directory of the recipe. quantize: the variants. interface: what it declares. instead:
    why these are not the usual variants, empty if they are.
    """

    name: str
    source: Source
    task: Task
    targets: Targets
    data: tuple[Need, Need]
    base: Path
    quantize: tuple[str, ...]
    interface: Interface | None = None
    instead: str = ""

    @property
    def first(self) -> FirstRecipe:
        assert self.task.first_recipe is not None
        return self.task.first_recipe


def write_first_recipe(
    model: str,
    devices: Sequence[str],
    out: Path | None = None,
    *,
    task: str | None = None,
    calibration: Path | None = None,
    evaluation: Path | None = None,
) -> Written:
    """Write a recipe for `model`, a source as recipes name them, that fits `devices`.

    out: by default NAME.yaml in the current directory. task: by default what the model says.
    calibration, evaluation: data files; by default names next to the recipe. Raises InvalidInput
    for a model or device that recipes cannot have and for a file that is there already, Missing
    where the model cannot be fetched.
    """
    source = source_named(model)
    located = locate(source, Path(), model, weights=False)
    if not located.is_file and is_whisper(located.path) and task in (None, SPEECH_RECOGNITION.name):
        return _write_whisper(located.path, _name(source), devices, out, evaluation)
    exported = located.path / MODEL_FILE
    if exported.is_file() and not any(located.path.glob("*.safetensors")):
        source = source_named(str(Path(model, MODEL_FILE)))
        located = locate(source, Path(), model, weights=False)
    if located.is_file and not source.is_path:
        what = "has no model directory, but an .onnx file, which a recipe names by its path"
        raise InvalidInput(Problem(model, what, f"run: edgeq new {located.path}"))
    stated = task_of(task) if task else stated_by_files(located, model)
    if stated.first_recipe is None:
        remedy = f"copy a recipe of the task {stated.name} from the documentation"
        raise InvalidInput(Problem(model, f"no first recipe for {stated.noun} is known", remedy))
    name = _name(source)
    out = _new_file(out, name)
    first = stated.first_recipe
    takes_any = located.is_file and stated.takes_arrays and not stated.takes_files
    needs = [
        Need(given or out.parent / usual, content)
        for given, (usual, content) in (
            (calibration, first.calibration),
            (evaluation, first.evaluation),
        )
    ]
    if takes_any:
        shapes = f"{needs[0].content}: {rows_of(located.path)}"
        needs[0] = replace(needs[0], content=shapes)
    targets = next(target_choices(stated, devices))
    declares = located.is_file and (stated.takes_files or stated.reads_texts)
    interface = (interface_of if declares else interface_of_directory)(located.path, stated)
    data = (needs[0], needs[1])
    if interface is not None and interface.lacks:
        needs.insert(0, Need(out.parent / LABELS_FILE, interface.lacks))
    origin = _from(source, out.parent)
    draft = _Draft(name, origin, stated, targets, data, out.parent, first.quantize, interface)
    draft, planned = _possible(draft, model, located, devices)
    write_text(out, _text(draft, planned))
    missing = tuple(need for need in needs if not need.path.exists())
    hint = _hint() if takes_any and not task else ""
    if interface is not None and interface.image is not None and not interface.stated_by:
        hint = "no file says how an image becomes the input: write what the model was trained with"
        hint += " below image:, or every answer is a guess"
    return Written(out, stated.name, missing, hint)


def possible_plans(
    model: str, located: Located, task: Task, device: str, presets: Sequence[str]
) -> list[Planned]:
    """The plan of a first recipe for each of `presets` that quantizes the model on a device.

    All have one file format, the best that holds the model. Raises InvalidInput, with the last
    reason of the best for the task, if none does.
    """
    declares = located.is_file and (task.takes_files or task.reads_texts)
    interface = interface_of(located.path, task) if declares else None
    none = Need(Path(), "")
    source = source_named(str(located.path.resolve()))
    problems: list[InvalidInput] = []
    for targets in target_choices(task, [device]):
        draft = _Draft("model", source, task, targets, (none, none), Path(), (), interface)
        plans, problem = _plans(draft, model, located, presets)
        if plans or problem is None:
            return plans
        problems.append(problem)
    raise problems[0]


def _plans(
    draft: _Draft, model: str, located: Located, presets: Sequence[str]
) -> tuple[list[Planned], InvalidInput | None]:
    """The plan of a draft for each of `presets` that it can have, and the last refusal."""
    plans: list[Planned] = []
    problem = None
    for preset in presets:
        try:
            plans.append(_planned(replace(draft, quantize=(preset,)), model, located))
        except InvalidInput as error:
            problem = error
    return plans, problem


def _hint() -> str:
    names = [task.name for task in TASKS.values() if task.takes_files]
    return f"if it takes images or speech, write it with --task {' or '.join(names)}"


# However short a recording is, its spectrum has 30 seconds.
_WHISPER_LATENCY = "latency: {p90: 3 s}"


def _write_whisper(
    folder: Path, name: str, devices: Sequence[str], out: Path | None, evaluation: Path | None
) -> Written:
    """Write the recipes of an encoder and a decoder, and the one of both."""
    out, first = _new_file(out, name), SPEECH_RECOGNITION.first_recipe
    assert first is not None
    first = replace(first, budgets=(_WHISPER_LATENCY, *first.budgets[1:]))
    whisper = read_whisper(folder)
    usual, content = first.evaluation
    need = Need(evaluation or out.parent / usual, content)
    targets = _target_lines(next(target_choices(TENSOR, devices)))
    licence = licence_of(folder)
    recipes = write_parts(folder, out, name, licence, targets)
    budgets = _budgets(first, [make_plan(recipe) for recipe in recipes.values()])
    text = whole_text(name, whisper, recipes, folder, out.parent, need.path, budgets)
    write_text(out, text)
    return Written(out, SPEECH_RECOGNITION.name, () if need.path.exists() else (need,))


def _name(source: Source) -> str:
    path = Path(source.value).resolve()
    named = path.parent if path.name == MODEL_FILE else path
    bare = named.name.removesuffix(".onnx").lower()
    return re.sub(r"[^a-z0-9]+", "-", bare).strip("-") or "model"


def _new_file(out: Path | None, name: str) -> Path:
    """The recipe to write. Raises InvalidInput if it is there already."""
    out = out or Path(f"{name}.yaml")
    writable(out, "--out", ".yaml")
    if out.exists():
        remedy = "remove it, or name another with --out"
        raise InvalidInput(Problem(str(out), "is there already", remedy))
    return out


def _from(source: Source, base: Path) -> Source:
    """The same source with a path relative to `base`, as recipes have it."""
    if not source.is_path or Path(source.value).is_absolute():
        return source
    return source.model_copy(update={"value": from_base(Path(source.value), base)})


def stated_by_files(located: Located, model: str) -> Task:
    """The task stated by the model's files. Raises InvalidInput if they state none."""
    if located.path.suffix == ".gguf":
        return TEXT_GENERATION
    if not located.is_file and (located.path / "modules.json").is_file():
        return next(task for task in TASKS.values() if task.has_sentence_head)
    if located.is_file:
        detects = is_stated_detector(located.path)
        return stated_task(located.path) or (OBJECT_DETECTION if detects else TENSOR)
    config = read_optional(located.path / "config.json")
    meant = task_of_config(config)
    if TEXT in config and (meant is None or not meant.takes_images):
        return TEXT_GENERATION
    stated: Any = config.get("architectures") or []
    names = ", ".join(map(str, stated if isinstance(stated, list) else [stated]))
    if meant is not None and not _takes_no_text(located.path, meant):
        return meant
    if not names:
        what, remedy = "its config.json names no architecture", f"add --task {' or '.join(TASKS)}"
    else:
        what = f"edgeq knows no task of a {names}"
        remedy = f"{exporting(located.path)}; then: edgeq new EXPORTED/model.onnx"
    raise InvalidInput(Problem(model, what, remedy))


def _takes_no_text(path: Path, task: Task) -> bool:
    """Whether files say that images or sound go into what has the name of a text model."""
    has_processor = (path / PROCESSOR_FILE).is_file()
    return task.takes == "texts" and has_processor and not (path / "tokenizer.json").is_file()


def _possible(
    draft: _Draft, model: str, located: Located, devices: Sequence[str]
) -> tuple[_Draft, Planned]:
    """The draft with file formats and variants that quantize most of the model, and its plan.

    Where none do: the first that can be planned.
    """
    others = (draft.first.otherwise, ("float32",))  # the last for weights too small for any
    variants = [draft.quantize, *(each for each in others if each)]
    drafts = [
        replace(draft, targets=targets, quantize=each)
        for targets in target_choices(draft.task, devices)
        for each in variants
    ]
    possible: list[tuple[_Draft, Planned]] = []
    refusals: list[InvalidInput] = []
    for each in drafts:
        try:
            changed = bool(refusals) and each.quantize != draft.quantize
            why = refusals[0].problems[0].what if changed else ""
            possible.append((replace(each, instead=why), _planned(each, model, located)))
        except InvalidInput as reason:
            refusals.append(reason)
            continue
        if _is_quantized(possible[-1][1]):
            return possible[-1]
    if not possible:
        raise refusals[0]
    return possible[0]


def _is_quantized(planned: Planned) -> bool:
    """Whether more than half of what its weights take in float32 is saved."""
    tensors = planned.plan.artifacts[0].tensors
    floats = sum(4 * math.prod(tensor.shape) for tensor in tensors)
    return 2 * sum(tensor.bytes for tensor in tensors) < floats


def _planned(draft: _Draft, model: str, located: Located) -> Planned:
    """The plan of the recipe in 8 bits, without budgets and contents of data."""
    source = str(draft.source)
    if draft.source.is_path:
        source = str((draft.base / source).resolve())
    lines = _model(draft, None, source)
    if draft.task.generates:
        read = described(draft.source, draft.task.name, draft.base, model, weights=False)
        lines += _workload(draft, read.decoder)
    with TemporaryFolder() as folder:
        if draft.interface is not None:
            lines += draft.interface.lines(Path(folder), draft=True)
        if draft.task.takes_files:
            lines.append("data: {calibration: {path: files}}")
            Path(folder, "files").mkdir()
            suffix = ".png" if draft.task.takes_images else ".wav"
            Path(folder, "files", f"named-only{suffix}").touch()
        elif draft.task.takes_arrays and located.is_file:
            lines.append("data: {calibration: {path: made-up.npz}}")
            np.savez(Path(folder, "made-up.npz"), **a_sample(located.path))  # type: ignore[arg-type]
        lines += [f"quantize: {{default: [{draft.quantize[0]}]}}", *_target_lines(draft.targets)]
        path = Path(folder, "draft.yaml")
        path.write_text("\n".join(lines), encoding="utf-8")
        try:
            return make_plan(path)
        except InvalidInput as error:
            problems = [Problem(model, each.what, each.remedy) for each in error.problems]
            raise InvalidInput(problems) from None


def _text(draft: _Draft, planned: Planned) -> str:
    calibration, evaluation = (
        yaml_word(Path(os.path.relpath(need.path, draft.base)).as_posix()) for need in draft.data
    )
    return "\n".join(
        [
            "# A first recipe: everything in it is yours to change. An editor completes and checks",
            '# it with the schema that "edgeq schema > recipe.schema.json" writes.',
            *_model(draft, planned.plan.licence, str(draft.source)),
            *(draft.interface.lines(draft.base) if draft.interface else ()),
            "",
            "# Quantization sees the first file only, and quality is judged on the second; they",
            "# must not share a sample.",
            *_comment(f"calibration: {draft.data[0].content}."),
            *_comment(f"evaluation: {draft.data[1].content}."),
            "data:",
            f"  calibration: {{path: {calibration}}}",
            f"  evaluation: {{path: {evaluation}}}",
            "",
            '# Each word becomes an artifact; "edgeq bundle" packs the best that is within budget.',
            *_comment(f"The usual are impossible: {draft.instead}." if draft.instead else ""),
            "quantize:",
            f"  default: [{', '.join(draft.quantize)}]",
            "",
            '# The file format, and the devices it must fit; "edgeq devices" lists them.',
            *_target_lines(draft.targets),
            *_workload(draft, planned.model.decoder),
            "",
            *_budgets(draft.first, [planned]),
            "",
        ]
    )


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 88, initial_indent="# ", subsequent_indent="# ")


def _model(draft: _Draft, licence: str | None, source: str) -> list[str]:
    return [
        "edgeq: 1",
        f"name: {draft.name}",
        "",
        "# What is deployed. The bundle carries the licence: state it before you ship.",
        "model:",
        f"  source: {yaml_word(source)}",
        f"  task: {draft.task.name}",
        f"  licence: {yaml_word(licence)}" if licence else "  # licence: apache-2.0",
    ]


def _target_lines(targets: Mapping[str, Sequence[str]]) -> list[str]:
    lines = ["targets:"]
    for format, devices in targets.items():
        lines += [f"  - format: {format}", f"    devices: [{', '.join(map(yaml_word, devices))}]"]
    return lines


def _workload(draft: _Draft, decoder: Decoder | None) -> list[str]:
    if decoder is None:
        return []
    context = min(draft.first.context, decoder.context)
    prompt, answer = min(128, context // 2), min(64, context // 4)
    return [
        "",
        "# How many tokens a conversation may have, and what the user waits for.",
        f"workload: {{context: {context}, prompt: {prompt}, generate: {answer}}}",
    ]


def _budgets(first: FirstRecipe, plans: Sequence[Planned]) -> list[str]:
    """Limits with room above what 8 bits of all models are estimated to take, within what a device
    allows."""
    download, memory = 0, Counter[str]()
    for planned in plans:
        download += max(artifact.download_bytes for artifact in planned.plan.artifacts)
        memory.update(
            {
                id: estimates.memory.peak.high
                for own in expected_everywhere(planned).values()
                for id, estimates in own.items()
            }
        )
    devices = [device for planned in plans for device in planned.devices.values()]
    allowed = min(device.app_limit().bytes for device in devices)
    lines = [f"# Estimated in 8 bits: a download of {format_bytes(download)}"]
    peak = _LEAST_MEMORY
    if memory:
        id = max(memory, key=lambda each: memory[each])
        lines[0] += f", and at most {format_bytes(memory[id])} of memory on {id}"
        peak = max(peak, _rounded_up(1.25 * memory[id]))
    return [
        f"{lines[0]}.",
        "# State what your app can spare; what misses a limit is not bundled.",
        "budgets:",
        f"  size: {{download: {math.ceil(1.1 * download / _MIB)} MiB}}",
        f"  memory: {{peak: {min(peak, allowed) // _MIB} MiB}}",
        *(f"  {budget}" for budget in first.budgets),
    ]


def _rounded_up(size: float) -> int:
    step = 32 * _MIB
    return math.ceil(size / step) * step
