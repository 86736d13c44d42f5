"""What a package brings that adds a file format and a task: installed and registered by a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edgeq.core.artifact import MODEL_FILE, TensorRecord
from edgeq.core.tasks import Task
from edgeq.formats.base import Array, Model
from edgeq.formats.file_format import FileFormat, TensorPlan
from edgeq.formats.package import Package
from edgeq.formats.samples import SampleModel
from edgeq.formats.written import Made, Sources, copy_tokenizer, settings_of
from edgeq.models.model import DescribedModel
from edgeq.quantize.decide import decide
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.presets import Variant
from edgeq.quantize.spec import Intent


class Plain(FileFormat):
    """A float graph whose weights are what a number format makes of them."""

    name = "plain"
    title = "Plain"
    model_file = "model.plain"

    def holds(self, variant: Variant) -> bool:
        stored = self.weights_of(variant)
        is_coded = isinstance(stored, IntegerFormat) and stored.group_size is not None
        return variant.weights == "float32" or is_coded

    def plan_tensors(
        self, model: DescribedModel, intent: Intent, compute: str
    ) -> Iterator[TensorPlan]:
        for name, shape in model.tensors.items():
            decision = decide(name, shape, intent)
            yield TensorPlan(
                name=name,
                shape=shape,
                number_format=decision.number_format,
                method=decision.method,
                reason=decision.reason,
                bytes=4 * int(np.prod(shape)),
            )

    def file_bytes(
        self, model: DescribedModel, intent: Intent, context: int, weights: int, tensors: int
    ) -> int:
        assert model.directory is not None
        return weights + model.directory.tokenizer.stat().st_size + 600 * tensors

    def write(self, sources: Sources, name: str, intent: Intent, destination: Path) -> Made:
        import onnx
        import onnx_ir as ir
        from onnx.numpy_helper import from_array, to_array

        from edgeq.formats.onnx.write import value_info

        directory = sources.model.directory
        assert directory is not None
        folder = sources.float_graph()
        graph = onnx.load(folder / MODEL_FILE)
        decisions = {n: decide(n, shape, intent) for n, shape in sources.model.tensors.items()}
        is_coded = any(decision.choice for decision in decisions.values())
        codes = sources.codes(decisions, name) if is_coded else {}
        turned = {node.input[1] for node in graph.graph.node if node.op_type == "MatMul"}
        records = {}
        for constant in graph.graph.initializer:
            own, shape = constant.name, sources.model.tensors.get(constant.name)
            if own in codes:
                rounded = codes[own].dequantize()
                constant.CopyFrom(from_array(rounded.T if own in turned else rounded, own))
            if shape is not None:
                held = decisions[own] if own in codes else None
                records[own] = TensorRecord(
                    shape=shape,
                    number_format=held.number_format if held else "float32",
                    method=held.method if held else "none",
                    bytes=to_array(constant).nbytes,
                )
        (destination / self.model_file).write_bytes(graph.SerializeToString())
        files = copy_tokenizer(
            directory, destination, settings=False, max_tokens=directory.max_tokens
        )
        read = ir.load(folder / MODEL_FILE).graph
        inputs, outputs = (tuple(map(value_info, side)) for side in (read.inputs, read.outputs))
        settings = settings_of(intent)
        return Made([self.model_file, *files], records, inputs, outputs, settings)

    def import_runtime(self, task: str) -> None:
        import onnxruntime  # noqa: F401

    def open(
        self, package: Package, threads: int | None, context: int | None, units: str | None
    ) -> Model:
        return PlainModel(package)


class PlainModel(SampleModel):
    """Runs one in onnxruntime."""

    runtime, threads = "onnxruntime", 1

    def __init__(self, package: Package) -> None:
        import onnxruntime

        super().__init__(package)
        self._session = onnxruntime.InferenceSession(package.read(Plain.model_file))

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [value.name for value in self.artifact.outputs]
        return dict(zip(names, self._session.run(names, self._fitted(feeds)), strict=True))


PLAIN = Plain()
FINGERPRINT = Task(
    name="text-fingerprint",
    noun="a maker of fingerprints",
    summary="text to a fingerprint.",
    explanation="a model that makes a fingerprint of a text",
    consequence="The check compares fingerprints.",
    takes="texts",
    has_sentence_head=True,
    architectures=("BertModel",),
    auto_class="AutoModel",
    optimum_task="feature-extraction",
    unused_weights=("pooler.",),
    verb="embed",
    budgets=("latency.p90", "quality.cosine"),
)
