"""Plan → artifacts, stage by stage; what was made once is found again in the store."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq import canonical
from edgeq.artifact import (
    DATA_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    Artifact,
    ModelRecord,
    TextSettings,
    ValueInfo,
    read_artifact,
    record_files,
    write_artifact,
)
from edgeq.calibration import data
from edgeq.calibration.statistics import Feed
from edgeq.errors import InvalidInput, Missing, Problem
from edgeq.plan import Planned
from edgeq.quantize.decide import Decision, decide
from edgeq.quantize.presets import PRESETS, Variant
from edgeq.recipe import DataRef
from edgeq.store import Store

Progress = Callable[[str], None]

# Whatever one of these computes can change a built file.
_TOOLS = (
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "optimum",
    "optimum-onnx",
    "torch",
    "transformers",
    "tokenizers",
)


@dataclass(frozen=True)
class Built:
    """An artifact and where it lies."""

    path: Path
    artifact: Artifact

    def summary(self) -> dict[str, Any]:
        """What a program wants to know of it."""
        return {
            "name": self.artifact.name,
            "path": str(self.path.absolute()),
            "format": self.artifact.format,
            "variant": self.artifact.variant,
            "bytes": self.artifact.bytes,
            "weight_bytes": self.artifact.weight_bytes,
            "grids": self.artifact.grid_summary(),
        }


def build(
    planned: Planned, store: Store, progress: Progress, formats: Sequence[str] | None = None
) -> list[Built]:
    """Every artifact of the plan, in its order; `formats` leaves out the others.

    Raises Missing where the build side is not installed, InvalidInput where the model or its
    data does not allow what the recipe asks for.
    """
    _require_tools(planned)
    stages = _Stages(planned, store, progress)
    return [
        stages.artifact(artifact.variant)
        for artifact in planned.plan.artifacts
        if formats is None or artifact.format in formats
    ]


def build_float(planned: Planned, store: Store, progress: Progress) -> Built:
    """The full-precision artifact that the others are held against."""
    _require_tools(planned)
    return _Stages(planned, store, progress).artifact(PRESETS["float32"])


def _require_tools(planned: Planned) -> None:
    if planned.plan.missing_packages:
        raise Missing(
            Problem(
                "build",
                f"not installed: {', '.join(planned.plan.missing_packages)}",
                'install the build side with: pip install "edgeq[build]"',
            )
        )


class _Stages:
    """The two stages of a build: the float graph, then an artifact for each variant."""

    def __init__(self, planned: Planned, store: Store, progress: Progress) -> None:
        self._planned = planned
        self._store = store
        self._progress = progress
        self._tools = {name: importlib.metadata.version(name) for name in _TOOLS}
        self._model_sha256 = planned.model.sha256()

    def artifact(self, variant: Variant) -> Built:
        planned = self._planned
        name = f"onnx-{variant.name}"
        rules = [rule.model_dump(mode="json") for rule in planned.recipe.quantize.rules]
        key = {
            **self._float_key(),
            "variant": variant.model_dump(mode="json"),
            "rules": [] if variant.weights == "float32" else rules,
            "calibration": self._calibration_key(variant),
            "licence": planned.plan.licence,
            "source": self._source,
            "revision": planned.plan.revision,
        }
        self._progress(f"{name}: looking in the store")
        path = self._store.stage(
            "artifact", key, lambda to: self._make_artifact(name, variant, to), describe=name
        )
        return Built(path, read_artifact(path))

    @property
    def _source(self) -> str:
        """As in the recipe, but of an absolute path, which is this machine's own, the end only."""
        source = self._planned.recipe.model.source
        if source.kind in ("file", "directory") and Path(source.value).is_absolute():
            return Path(source.value).name
        return str(source)

    def _float_graph(self) -> Path:
        return self._store.stage(
            "float", self._float_key(), self._make_float, describe=self._planned.plan.source
        )

    def _float_key(self) -> dict[str, Any]:
        recipe = self._planned.recipe
        return {"model": self._model_sha256, "task": recipe.model.task, "tools": self._tools}

    def _calibration_key(self, variant: Variant) -> dict[str, Any] | None:
        reference = self._planned.recipe.data.calibration
        if reference is None or variant.weights == "float32":
            return None
        path = self._planned.path.parent / reference.path
        return {"sha256": canonical.sha256_of_file(path), "samples": reference.samples}

    def _make_float(self, destination: Path) -> None:
        model = self._planned.model
        if model.directory is None:
            from edgeq.export.imported_onnx import import_onnx

            self._progress(f"import {model.located.path.name}")
            import_onnx(model.located.path, destination)
        else:
            from edgeq.export.float_onnx import export_sentence_encoder

            self._progress("export to ONNX in float32")
            export_sentence_encoder(model.directory, destination)

    def _make_artifact(self, name: str, variant: Variant, destination: Path) -> None:
        from edgeq.export.onnx import copy_float, write_quantized

        graph = self._float_graph()
        planned = self._planned
        spec = planned.recipe.quantize

        def settle(tensor: str, shape: tuple[int, ...]) -> Decision:
            return decide(tensor, shape, variant, spec)

        if variant.weights == "float32":
            written = copy_float(graph, destination)
        else:
            written = write_quantized(
                graph,
                destination,
                settle,
                self._calibration_feeds(graph),
                lambda step: self._progress(f"{name}: {step}"),
            )
        directory = planned.model.directory
        files = [file for file in (MODEL_FILE, DATA_FILE) if (destination / file).exists()]
        text = None
        if directory is not None:
            shutil.copyfile(directory.tokenizer, destination / TOKENIZER_FILE)
            files.append(TOKENIZER_FILE)
            text = TextSettings(max_tokens=directory.max_tokens)
        calibration = self._calibration_key(variant)
        write_artifact(
            destination,
            Artifact(
                name=name,
                format="onnx",
                variant=variant.name,
                task=planned.recipe.model.task,
                model=ModelRecord(
                    source=self._source,
                    revision=planned.plan.revision,
                    licence=planned.plan.licence,
                    sha256=self._model_sha256,
                ),
                inputs=written.inputs,
                outputs=written.outputs,
                text=text,
                dimension=directory.hidden_size if directory else None,
                weight_bytes=sum(tensor.bytes for tensor in written.tensors.values()),
                tensors=written.tensors,
                settings={
                    **variant.model_dump(mode="json", exclude={"name"}),
                    "inputs": written.input_codes,
                },
                files=record_files(destination, files),
                sources={"calibration": calibration["sha256"]} if calibration else {},
                tools=self._tools,
            ),
        )

    def _calibration_feeds(self, graph: Path) -> list[Feed]:
        reference = self._planned.recipe.data.calibration
        if reference is None:
            return []
        path = self._planned.path.parent / reference.path
        import onnx_ir as ir

        from edgeq.export.onnx import value_info

        inputs = [value_info(value) for value in ir.load(graph / MODEL_FILE).graph.inputs]
        directory = self._planned.model.directory
        if directory is not None:
            from edgeq.runners.text import TextEncoder

            encoder = TextEncoder(directory.tokenizer.read_bytes(), directory.max_tokens)
            names = [value.name for value in inputs]
            texts = data.read_texts(path, reference.samples)
            return [encoder.feeds(text, names) for text in texts]
        return _array_feeds(path, reference, inputs)


def _array_feeds(path: Path, reference: DataRef, inputs: Sequence[ValueInfo]) -> list[Feed]:
    from edgeq.runners.loaded import fit

    arrays = data.read_arrays(path, reference.samples)
    feeds = data.feeds(path, arrays, {value.name: len(value.shape) for value in inputs})
    try:
        return [{value.name: fit(feed[value.name], value) for value in inputs} for feed in feeds]
    except InvalidInput as error:
        problems = [Problem(f"{path}: {p.where}", p.what, p.remedy) for p in error.problems]
        raise InvalidInput(problems) from None
