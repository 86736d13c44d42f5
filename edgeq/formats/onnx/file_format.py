"""ONNX files on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgeq.formats.file_format import FileFormat, TensorPlan
from edgeq.formats.onnx.opener import OnnxOpener
from edgeq.quantize.number_formats.floats import FLOAT32
from edgeq.quantize.number_formats.integers import INT4_STORED, INT8_STORED
from edgeq.quantize.storage.onnx import OnnxStorage

if TYPE_CHECKING:
    from edgeq.models.model import DescribedModel
    from edgeq.quantize.decide import Decision
    from edgeq.quantize.spec import Intent

# The graph itself, without weights: measured 434 for an encoder of 6 layers, 690 for a decoder.
_ENCODERS_BYTES_PER_TENSOR, _DECODERS_BYTES_PER_TENSOR = 430, 600


class Onnx(OnnxOpener, OnnxStorage, FileFormat):
    """See `FileFormat`."""

    compared_by_operator = True
    compared_presets = ("int8-b32",)
    encoder_presets = ("float32", "int8-b32", "int8-dynamic", "int8-static", "int4-b32")
    decoder_presets = ("float32", "int8-b32", "int4-b32")

    def expanded_words(self) -> tuple[str, ...]:
        """See `FileFormat.expanded_words`."""
        return (INT4_STORED.name, INT8_STORED.name, FLOAT32.name)

    def input_rounding(self, number_format: str) -> str:
        """See `FileFormat.input_rounding`."""
        return (
            "" if number_format in self.expanded_words() else super().input_rounding(number_format)
        )

    def plan_tensors(
        self, model: DescribedModel, intent: Intent, compute: str
    ) -> Iterator[TensorPlan]:
        """See `FileFormat.plan_tensors`."""
        from edgeq.quantize.decide import stored_bytes

        decisions = _decisions(model, intent)
        for name, shape in model.tensors.items():
            decision = decisions[name]
            yield TensorPlan(
                name=name,
                shape=shape,
                number_format=decision.number_format,
                method=decision.method,
                reason=decision.reason,
                bytes=stored_bytes(decision, shape, is_table=model.is_table(name)),
                activations=decision.activations,
            )

    def file_bytes(
        self, model: DescribedModel, intent: Intent, context: int, weights: int, tensors: int
    ) -> int:
        """See `FileFormat.file_bytes`."""
        tokenizer = model.text.tokenizer.stat().st_size if model.text else 0
        graphs = 2 if model.decoder else 1  # onnxruntime-genai's too
        each = _DECODERS_BYTES_PER_TENSOR if model.decoder else _ENCODERS_BYTES_PER_TENSOR
        if model.graph is not None and model.weights is not None:
            from edgeq.formats.onnx.halves import bytes_of_the_rest

            weights += bytes_of_the_rest(model.graph, model.weights)
        return weights + tokenizer + graphs * each * tensors + _rotary_bytes(model, context)


def _decisions(model: DescribedModel, intent: Intent) -> dict[str, Decision]:
    """Decided by name alone; if operators are known, limited to what they support and pays."""
    from edgeq.quantize.decide import decide

    if model.weights is None:
        return {name: decide(name, shape, intent) for name, shape in model.tensors.items()}
    from edgeq.models.graphs.rounding import codes_from_end_to_end
    from edgeq.models.graphs.weights import settle

    weights = model.weights.values()
    found = {w.name: settle(w, lambda name, shape: decide(name, shape, intent)) for w in weights}
    return found | codes_from_end_to_end(weights, found)[2]


def _rotary_bytes(model: DescribedModel, context: int) -> int:
    """A decoder's ONNX graph has the sines and cosines of every supported position."""
    if model.decoder is None:
        return 0
    from edgeq.models.architectures import DEFAULT_CONTEXT

    positions = min(max(context, DEFAULT_CONTEXT), model.decoder.context)
    tables = 2 if model.decoder.local_rope else 1
    return tables * positions * model.decoder.rope_dim * 4


ONNX = Onnx()
