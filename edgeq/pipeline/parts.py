"""Parts that ship together: the best artifact of each, one artifact of all, one verdict."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import canonical
from edgeq.core.artifact import (
    ARTIFACT_FILE,
    TOKENIZER_FILE,
    Artifact,
    ModelRecord,
    read_record,
    record_files,
    write_artifact,
)
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.store import Store
from edgeq.core.tasks import SPEECH_RECOGNITION, TENSOR
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import Progress
from edgeq.core.units import format_seconds
from edgeq.core.validation_messages import suggest
from edgeq.devices.catalogue import Device
from edgeq.formats.parts import named_after
from edgeq.formats.text import TextEncoder
from edgeq.formats.timed_feed import Feed, made_up, sequence
from edgeq.formats.transcriber import ENCODER, TOKENS
from edgeq.measure import arrays
from edgeq.measure.inputs import Evaluation, given_samples
from edgeq.pipeline.build.audio_arrays import prepared_recordings
from edgeq.pipeline.build.build import Built, build_float, build_possible, settled
from edgeq.pipeline.check import kept
from edgeq.pipeline.check.check import CheckRequest, check
from edgeq.pipeline.check.reference import evaluation_of
from edgeq.pipeline.check.speech_reference import speech_answers, speech_versions
from edgeq.pipeline.check.verdict import Verdict, exit_status, worst
from edgeq.pipeline.check.workflow import (
    by_place,
    chosen_devices,
    kept_verdicts,
    opened,
    targets,
    verdicts_of,
)
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.places.place import Place
from edgeq.quantize.storage import Format
from edgeq.recipe.parts import PartsRecipe, load_parts

VARIANT = "parts"
_FEED_FILE = "feed.npz"


@dataclass(frozen=True)
class Whole:
    """A recipe of parts with the plan of each, and the devices that all parts have, by format."""

    path: Path
    recipe: PartsRecipe
    parts: Mapping[str, Planned]
    devices: Mapping[Format, Mapping[str, Device]]


@dataclass(frozen=True)
class JudgedParts:
    """One artifact of all parts, its verdict on a device, and what each part became."""

    device: Device
    built: Built
    verdict: Verdict
    parts: Mapping[str, tuple[Planned, Built, Verdict]]


def plan_whole(path: Path, devices: Sequence[str]) -> Whole:
    """Plan every part for `devices`, by default those that all parts name.

    Raises InvalidInput if the parts have no file format and device in common.
    """
    recipe = load_parts(path)
    parts = {
        name: make_plan(path.parent / part.recipe, weights=True)
        for name, part in recipe.parts.items()
    }
    able = {name: _able(planned, devices) for name, planned in parts.items()}
    first, *others = able.values()
    shared: dict[Format, dict[str, Device]] = {}
    for (format, id), device in first.items():
        if all((format, id) in other for other in others):
            shared.setdefault(format, {})[id] = device
    if not shared:
        own = "; ".join(
            f"{name}: {', '.join(f'{format} on {id}' for format, id in each)}"
            for name, each in able.items()
        )
        what = f"its parts have no file format on one device in common: {own}"
        raise InvalidInput(Problem(str(path), what, "give the parts' recipes the same targets"))
    return Whole(path, recipe, parts, shared)


def _able(planned: Planned, names: Sequence[str]) -> dict[tuple[Format, str], Device]:
    """The devices that run a recipe's artifacts, by format and id."""
    chosen = chosen_devices(planned, names)
    return {
        (format, device.id): device
        for format in planned.targets
        for device in targets(planned, format, chosen)
    }


def check_parts(
    path: Path,
    devices: Sequence[str],
    full: bool,
    progress: Progress,
    on: str | None = None,
    names: Sequence[str] = (),
) -> list[Verdict]:
    """One verdict for each file format and device; see `judge_whole`.

    names: of artifacts of the whole, by default all.
    """
    progress("read the recipes of the parts")
    whole = plan_whole(path, devices)
    known = {name_of(format): format for format in whole.devices}
    for name in names:
        if name not in known:
            what = f"{path} makes no artifact {name!r}"
            raise InvalidInput(Problem("--artifact", what, suggest(name, known)))

    return [
        judge_whole(whole, format, device, full, progress, on).verdict
        for format in (known[name] for name in names or known)
        for device in whole.devices[format].values()
    ]


def kept_parts(
    path: Path, devices: Sequence[str], full: bool, progress: Progress, on: str | None = None
) -> list[JudgedParts]:
    """The whole in each file format and for each device, with verdicts as they are remembered.

    on: where everything runs, as `check_recipe` takes it.
    """
    progress("read the recipes of the parts")
    whole = plan_whole(path, devices)
    return [
        judge_whole(whole, format, device, full, progress, on, reuse=True)
        for format, own in whole.devices.items()
        for device in own.values()
    ]


def name_of(format: Format) -> str:
    """The name of an artifact of all parts."""
    return f"{format}-{VARIANT}"


def judge_whole(
    whole: Whole,
    format: Format,
    device: Device,
    full: bool,
    progress: Progress,
    on: str | None = None,
    *,
    reuse: bool = False,
) -> JudgedParts:
    """Judge each part by itself, put the best of each together, and judge that.

    The best has passed, or come nearest to it, and is nearest to full precision among those.
    reuse: verdicts that are remembered.
    """
    chosen: dict[str, tuple[Planned, Built, Verdict]] = {}
    floats: dict[str, Built] = {}
    for name, planned in whole.parts.items():
        wanted = [each.name for each in planned.plan.artifacts if each.format == format]
        built, _ = build_possible(planned, Store(), progress, names=wanted)
        planned = settled(planned, built)
        by_name = {item.artifact.name: item for item in built}
        own = {device.id: device}
        if reuse:
            verdicts = kept_verdicts(planned, built, own, progress, full, on)
        else:
            verdicts = verdicts_of(planned, built, own, full, progress, on)
        best = max(verdicts, key=lambda each: each.nearness)
        chosen[name] = (planned, by_name[best.artifact], best)
        floats[name] = build_float(planned, Store(), progress, format)
    built_parts = {name: each[1] for name, each in chosen.items()}
    item = assemble(whole.path, whole.recipe, format, built_parts)
    ((address, there),) = by_place({device.id: device}, on).items()
    with opened(address, there, progress) as place:
        path = _verdict_path(whole, item, device, place)
        verdict = kept.recall(path, full) if reuse else None
        if verdict is None:
            verdict = _checked(whole, item, floats, device, place, full, progress)
            kept.remember(path, verdict)
    judged = {name: each[2] for name, each in chosen.items()}
    return JudgedParts(device, item, _joined(verdict, judged, whole.recipe), chosen)


def _verdict_path(whole: Whole, item: Built, device: Device, place: Place) -> Path:
    recipe, base = whole.recipe, whole.path.parent
    timed = {
        name: kept.data_of(planned.recipe.data.evaluation, planned.path.parent)
        for name, planned in whole.parts.items()
    }
    given = recipe.data.evaluation
    by = speech_versions(base / recipe.speech.tokenizer) if recipe.speech else {}
    return kept.path_of(item.path, device, place, recipe.budgets, given, base, parts=timed, by=by)


def _checked(
    whole: Whole,
    item: Built,
    floats: Mapping[str, Built],
    device: Device,
    place: Place,
    full: bool,
    progress: Progress,
) -> Verdict:
    """The verdict on the artifact of all parts, without those on each."""
    baseline = assemble(whole.path, whole.recipe, item.artifact.format, floats)
    with TemporaryFolder() as folder:
        request = CheckRequest(
            targets={item.path: [device]},
            float_dir=baseline.path,
            budgets=whole.recipe.budgets,
            evaluation=_evaluation(whole, baseline, floats, Path(folder), progress),
            alternatives={},
            full=full,
            recipe=str(whole.path),
            reference=_reference(whole, progress),
        )
        (verdict,) = check(request, place, progress)
    return verdict


def _reference(whole: Whole, progress: Progress) -> Callable[[Evaluation], Path] | None:
    """What records the original's texts; None if the parts' float models are the reference."""
    speech, base = whole.recipe.speech, whole.path.parent
    if speech is None or not speech_versions(base / speech.tokenizer):
        return None
    return functools.partial(speech_answers, speech, base, Store(), progress)


def _evaluation(
    whole: Whole, baseline: Built, floats: Mapping[str, Built], folder: Path, progress: Progress
) -> Evaluation | None:
    """What all parts together are run on."""
    recipe, given = whole.recipe, whole.recipe.data.evaluation
    if recipe.speech is None:
        _write_feed(folder / _FEED_FILE, whole, floats, progress)
        return Evaluation(folder / _FEED_FILE, only_timed=True)
    if given is None:
        return None
    (value,) = baseline.artifact.inputs
    recordings = whole.path.parent / given.path
    rest = (recipe.speech.audio, value, Store(), progress)
    return Evaluation(prepared_recordings(recordings, given.samples, *rest))


def _joined(own: Verdict, parts: Mapping[str, Verdict], recipe: PartsRecipe) -> Verdict:
    """The verdict on the whole with the lines of its parts."""
    lines = [*own.lines]
    notes = [*own.notes, *(_paces(parts, recipe) if recipe.speech is None else ())]
    for name, each in parts.items():
        lines += [
            line.model_copy(update={"budget": f"{name}.{line.budget}"})
            for line in each.lines
            if line.budget != "device.memory"  # the whole needs more
        ]
        notes += [f"{name}, {each.artifact}: {note}" for note in each.notes]
    statuses = [line.status for line in lines]
    return own.model_copy(
        update={
            "lines": tuple(lines),
            "notes": tuple(notes),
            "status": worst(statuses),
            "exit_status": exit_status(statuses),
        }
    )


def _paces(parts: Mapping[str, Verdict], recipe: PartsRecipe) -> list[str]:
    """How long each part takes by itself, where that was measured."""
    times, total = [], 0.0
    for name, verdict in parts.items():
        runs, latency = recipe.parts[name].runs, verdict.measurement.latency
        if latency is None:
            return []
        total += runs * latency.p90.seconds
        often = f" × {runs}" if runs > 1 else ""
        times.append(f"{name} {format_seconds(latency.p90.seconds)}{often}")
    return [f"p90 of each part by itself: {', '.join(times)}; together {format_seconds(total)}"]


def assemble(path: Path, recipe: PartsRecipe, format: Format, built: Mapping[str, Built]) -> Built:
    """One artifact with the files of all parts, each in a directory of its name.

    path: of the recipe.
    """
    records = {name: each.artifact for name, each in built.items()}
    sources = {
        f"{name}/{file}": each.path / file
        for name, each in built.items()
        for file in (ARTIFACT_FILE, *each.artifact.files)
    }
    if recipe.speech is not None:
        sources[TOKENIZER_FILE] = path.parent / recipe.speech.tokenizer / TOKENIZER_FILE
    name = name_of(format)

    def make(to: Path) -> None:
        for file, source in sources.items():
            (to / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, to / file)
        artifact = Artifact(
            name=name,
            format=format,
            variant=VARIANT,
            model=_origin(recipe.name, records),
            **_interface(recipe, records),
            parts={name: recipe.parts[name].runs for name in built},
            weight_bytes=sum(each.weight_bytes for each in records.values()),
            tensors={f"{n}/{k}": t for n, a in records.items() for k, t in a.tensors.items()},
            files=record_files(to, [*sources]),
            tools={key: word for each in records.values() for key, word in each.tools.items()},
        )
        write_artifact(to, artifact)

    key = {
        "recipe": recipe.model_dump(mode="json", include={"name", "parts", "speech"}),
        "files": {file: canonical.sha256_of_file(source) for file, source in sources.items()},
    }
    made = Store().stage("parts", key, make, describe=name)
    return Built(made, read_record(made))


def _interface(recipe: PartsRecipe, records: Mapping[str, Artifact]) -> dict[str, Any]:
    """What goes in and comes out, as `Artifact` names it."""
    if recipe.speech is not None:
        return {
            "task": SPEECH_RECOGNITION.name,
            "inputs": records[ENCODER].inputs,
            "outputs": (TOKENS,),
            "audio": recipe.speech.audio,
            "decoding": recipe.speech.decoding,
        }
    return {
        "task": TENSOR.name,
        "inputs": tuple(v for n, a in records.items() for v in named_after(n, a.inputs)),
        "outputs": tuple(v for n, a in records.items() for v in named_after(n, a.outputs)),
    }


def _origin(name: str, records: Mapping[str, Artifact]) -> ModelRecord:
    licences = sorted({each.model.licence for each in records.values() if each.model.licence})
    stated = all(each.model.licence for each in records.values())
    return ModelRecord(
        source="; ".join(f"{part}: {each.model.source}" for part, each in records.items()),
        name=name,
        licence=" AND ".join(licences) if stated else None,
        sha256=canonical.sha256_of({part: each.model.sha256 for part, each in records.items()}),
    )


def _write_feed(file: Path, whole: Whole, floats: Mapping[str, Built], progress: Progress) -> None:
    """One sample of each part's data, as the inputs of the whole."""
    feed: Feed = {}
    for name, built in floats.items():
        evaluation = evaluation_of(whole.parts[name], Store(), progress)
        sample = _sample(built, evaluation, file.parent)
        feed |= {f"{name}/{key}": array[None] for key, array in sample.items()}
    np.savez(file, **feed)  # type: ignore[arg-type]


def _sample(built: Built, evaluation: Evaluation | None, folder: Path) -> Feed:
    """The input that a part is timed with."""
    artifact = built.artifact
    given = given_samples(evaluation, built.path, artifact, folder)
    if "feed" in given.timed:
        stored = arrays.read_arrays(given.timed["feed"])
        return {value.name: next(stored) for value in artifact.inputs}
    if artifact.text is None or TOKENIZER_FILE not in artifact.files:
        return made_up(artifact.inputs)
    most = artifact.text.max_tokens
    encoder = TextEncoder((built.path / TOKENIZER_FILE).read_bytes(), most)
    inputs = [value.name for value in artifact.inputs]
    return sequence(encoder.feeds("A sentence.", inputs), most)
