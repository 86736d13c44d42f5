"""Plan → artifacts, stage by stage; what was made once is found again in the store."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.core.artifact import (
    Artifact,
    ModelRecord,
    TextSettings,
    read_record,
    record_files,
    write_artifact,
)
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.store import Store
from edgeq.core.tasks import task_of
from edgeq.core.terms import Progress
from edgeq.formats.registry import file_format
from edgeq.formats.written import text_settings
from edgeq.models.naming import model_name
from edgeq.pipeline.allocate.prospects import prospect
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.build.trained import better_of, untrained
from edgeq.pipeline.build.writers import write
from edgeq.pipeline.plan.images import labels_of
from edgeq.pipeline.plan.plan import Planned
from edgeq.pipeline.plan.requirements import require
from edgeq.pipeline.proof.original import require_known
from edgeq.pipeline.proof.original import versions as original_versions
from edgeq.pipeline.proof.result import run_once
from edgeq.quantize.budget_spec import FitSpec
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.presets import PRESETS
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import Format


@dataclass(frozen=True)
class Built:
    """An artifact and where it lies. notes, became: of the budget that it was made for."""

    path: Path
    artifact: Artifact
    notes: tuple[str, ...] = ()
    became: Intent | None = None

    def summary(self) -> dict[str, Any]:
        """The facts that programs need."""
        return {
            "name": self.artifact.name,
            "path": str(self.path.absolute()),
            "format": self.artifact.format,
            "variant": self.artifact.variant,
            "bytes": self.artifact.bytes,
            "weight_bytes": self.artifact.weight_bytes,
            "number_formats": self.artifact.bytes_by_number_format(),
            "proof": str(self.artifact.proof) if self.artifact.proof else None,
        }


class Partly(InvalidInput):
    """Some variants of a recipe are impossible; `done` is what a command returns for the others."""

    def __init__(self, problems: Iterable[Problem], done: Any) -> None:
        super().__init__(problems)
        self.done = done


def build(
    planned: Planned,
    store: Store,
    progress: Progress,
    formats: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> list[Built]:
    """Every artifact of the plan, in its order; `formats` and `names` leave out the others.

    Raises Missing where the build side is not installed, InvalidInput where the model or its
    data does not allow what the recipe asks for; Partly, once the others are built, where only
    some variants are impossible.
    """
    built, refused = build_possible(planned, store, progress, formats, names)
    if refused:
        raise Partly(refused, built)
    return built


def build_possible(
    planned: Planned,
    store: Store,
    progress: Progress,
    formats: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> tuple[list[Built], list[Problem]]:
    """Like `build`, with the problem of each impossible variant instead of Partly.

    Raises InvalidInput if all are impossible.
    """
    spec, task = planned.recipe.quantize, planned.recipe.model.task
    wanted = dict.fromkeys(target.format for target in planned.recipe.targets)
    intents = [
        intent
        for format in wanted
        if formats is None or format in formats
        for intent in spec.intents(format, task)
        if names is None or intent.name in names
    ]
    require([intent for intent in intents if intent.name not in planned.impossible])
    require_known(planned.model)
    builder = _Builder(Stages(planned, store, progress))
    found: dict[str, Built] = {}
    problems: list[Problem] = []
    for intent in intents:
        if intent.name in planned.impossible:
            problems.append(planned.impossible[intent.name])
        else:
            found[intent.name] = builder.artifact(planned.cached(intent))
    for format in wanted:
        for fit, intent in zip(spec.fit, spec.pending(format, task), strict=True):
            if (formats is None or format in formats) and (names is None or intent.name in names):
                if intent.name in planned.impossible:
                    problems.append(planned.impossible[intent.name])
                    continue
                require([intent], fits=True)
                found[intent.name] = builder.fitted(format, fit)
    builder.open_once(found.values())
    order = [artifact.name for artifact in planned.plan.artifacts]
    if problems and not found:
        raise InvalidInput(problems)
    return [found[name] for name in order if name in found], problems


def settled(planned: Planned, built: Iterable[Built]) -> Planned:
    """The plan with what its budgets became in `built`."""
    return planned.settled(item.became for item in built if item.became is not None)


def build_float(planned: Planned, store: Store, progress: Progress, format: Format) -> Built:
    """The full-precision artifact that the others of `format` are compared with."""
    intent = Intent(PRESETS["float32"], format, planned.recipe.model.task)
    require([intent])
    return _Builder(Stages(planned, store, progress)).artifact(intent)


def artifact_maker(stages: Stages) -> Callable[[Intent], Path]:
    """A function that makes artifacts from `stages`, or finds them, and returns their paths.

    It raises what `build` does.
    """
    builder = _Builder(stages)

    def make(intent: Intent) -> Path:
        require([intent])
        return builder.artifact(intent).path

    return make


class _Builder:
    """One artifact after the other, from the stages they share."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._planned = stages.planned

    def open_once(self, found: Iterable[Built]) -> None:
        """Run each artifact on a sample; Core ML programs were run when they were written."""
        built = {
            each.path: each.artifact
            for each in found
            if file_format(each.artifact.format).runs_anywhere
        }
        proof = None if self._planned.model.text else self._stages.onnx_proof()
        run_once(built, self._stages.store, proof, self._stages.progress)

    def fitted(self, format: Format, fit: FitSpec) -> Built:
        """The artifact that a budget became."""
        from edgeq.pipeline.allocate.allocation import allocate

        found, _ = allocate(self._stages, format, fit, artifact_maker(self._stages))
        found = self._planned.cached(found)
        note = prospect(self._planned, format, fit).note(fit, format)
        return replace(self.artifact(found), notes=(note,) if note else (), became=found)

    def artifact(self, intent: Intent) -> Built:
        """The artifact of an intent; of trained codes, the better one with them or without."""
        start = untrained(intent)
        if start is None:
            return self._as_intended(intent)
        path = better_of(self._stages, intent, start, lambda each: self._as_intended(each).path)
        return Built(path, read_record(path))

    def _as_intended(self, intent: Intent) -> Built:
        stages, variant = self._stages, intent.variant
        name, method = intent.name, rounding_method(variant.method)
        is_float = variant.weights == "float32"
        key = {
            **stages.float_key(),
            "format": intent.format,
            "tools": self._tools(intent),
            "variant": variant.model_dump(mode="json"),
            "rules": [] if is_float else [rule.model_dump(mode="json") for rule in intent.rules],
            **({"chosen": dict(intent.chosen)} if intent.chosen else {}),
            **({"kv": intent.kv} if intent.kv else {}),
            "calibration": None if is_float else stages.calibration.key(),
            "importance": stages.importance_key() if method.takes_imatrix else None,
            **self._settings_key(intent),
            **self._interface_key(),
            "licence": self._planned.plan.licence,
            "source": stages.source,
            "revision": self._planned.plan.revision,
            "original": original_versions(self._planned.model),
        }
        stages.progress(f"{name}: looking in the store")
        path = stages.store.stage(
            "artifact", key, lambda to: self._make(name, intent, to), describe=name
        )
        return Built(path, read_record(path))

    def _interface_key(self) -> dict[str, Any]:
        """What the recipe declares of an .onnx file, which its record repeats."""
        model = self._planned.model
        declared = {
            "image": model.image,
            "detection": model.detection,
            "audio": self._planned.recipe.model.audio,
            "transcription": self._planned.recipe.model.transcription,
            "classes": model.classes if model.located.is_file else None,
        }
        return {name: each.model_dump(mode="json") for name, each in declared.items() if each}

    def _settings_key(self, intent: Intent) -> dict[str, Any]:
        """The settings of a recipe that affect a file beyond its weights."""
        section, recipe = file_format(intent.format).section, self._planned.recipe
        if not section:
            return {}
        return {
            section: getattr(recipe, section).model_dump(mode="json"),
            "labels": labels_of(recipe, self._planned.path),
            "context": recipe.workload.context if self._planned.model.decoder else None,
        }

    def _tools(self, intent: Intent) -> dict[str, str]:
        format = file_format(intent.format)
        own = {name: importlib.metadata.version(name) for name in format.tools}
        own |= self._stages.extensions
        from_graph = format.from_graph or intent.variant.needs_calibration
        return {**self._stages.tools, **own} if from_graph else own

    def _make(self, name: str, intent: Intent, destination: Path) -> None:
        planned, stages, variant = self._planned, self._stages, intent.variant
        proof = stages.proof()
        made = write(stages, name, intent, destination)
        files, decoder = planned.model.text, planned.model.decoder
        task = task_of(planned.recipe.model.task)
        text = None
        if decoder is not None:
            text = TextSettings(max_tokens=made.max_tokens or decoder.context)
        elif files is not None:
            text = text_settings(files, made.max_tokens, task)
        is_float = variant.weights == "float32"
        calibration = None if is_float else stages.calibration.key()
        artifact = Artifact(
            name=name,
            format=intent.format,
            variant=variant.name,
            task=planned.recipe.model.task,
            model=ModelRecord(
                source=stages.source,
                name=model_name(stages.source, planned.model.located.path),
                revision=planned.plan.revision,
                licence=planned.plan.licence,
                sha256=stages.model_sha256,
            ),
            inputs=made.inputs,
            outputs=made.outputs,
            text=text,
            dimension=int(made.outputs[0].shape[-1]) if task.has_sentence_head else None,
            image=planned.model.image,
            detection=planned.model.detection,
            audio=planned.recipe.model.audio,
            transcription=planned.recipe.model.transcription,
            classes=planned.model.classes,
            weight_bytes=sum(tensor.bytes for tensor in made.tensors.values()),
            tensors=made.tensors,
            settings=made.settings,
            files=record_files(destination, made.files),
            sources={"calibration": calibration["sha256"]} if calibration else {},
            tools=self._tools(intent),
            proof=proof,
        )
        write_artifact(destination, artifact)
