"""What both of Apple's file formats answer in the same way."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.file_format import FileFormat, TensorPlan
from edgeq.quantize.number_formats.floats import FLOAT16
from edgeq.quantize.number_formats.integers import INT4_B32, INT8

if TYPE_CHECKING:
    from edgeq.models.graphs.weights import Decide, Weight
    from edgeq.models.model import DescribedModel
    from edgeq.quantize.decide import Decision
    from edgeq.quantize.spec import Intent


class AppleFormat(FileFormat):
    """See `FileFormat`. scales: the type of scales; None if it is that of operators."""

    uses_metal = True
    compared_presets = ("palette6",)
    memory_like = "Core ML"
    scales: ClassVar[str | None] = None

    def notes(self, model: DescribedModel) -> tuple[str, ...]:
        """See `FileFormat.notes`. Raises InvalidInput for operators that are not written here."""
        decoder = model.decoder
        unwritten = {
            "mixtures of experts": decoder and decoder.experts,
            "layers with a convolution": decoder and decoder.convolution,
            "layers with linear attention": decoder and decoder.delta,
            "embeddings of each layer": decoder and decoder.per_layer,
            "heads of two widths": decoder and decoder.whole_heads,
        }
        for name, found in unwritten.items():
            if found is not None:
                what = f"{name} cannot be written as {self.title}"
                raise InvalidInput(Problem(f"targets: {self.name}", what, "target gguf or onnx"))
        if model.graph is not None:
            from edgeq.formats.apple.unsupported import refuse_unsupported

            refuse_unsupported(model.graph, self.title, model.located.path.name)
        return ()

    def plan_tensors(
        self, model: DescribedModel, intent: Intent, compute: str
    ) -> Iterator[TensorPlan]:
        """See `FileFormat.plan_tensors`."""
        from edgeq.formats.apple.plan import apple_tensors

        return apple_tensors(model, intent, compute, self.scales)

    def settle(self, weight: Weight, decide: Decide) -> Decision:
        """See `FileFormat.settle`."""
        from edgeq.formats.apple.weights import settle_apple

        return settle_apple(weight, decide)

    def tensor_words(self, release: str | None) -> tuple[str, ...]:
        """See `FileFormat.tensor_words`."""
        return (INT4_B32.name, INT8.name, FLOAT16.name)

    def weights_word(self, most: str) -> str:
        """See `FileFormat.weights_word`."""
        return FLOAT16.name

    def input_rounding(self, number_format: str) -> str:
        """Empty: off a Mac, nothing is rounded that the float graph does not round."""
        return ""

    def file_bytes(
        self, model: DescribedModel, intent: Intent, context: int, weights: int, tensors: int
    ) -> int:
        """See `FileFormat.file_bytes`."""
        tokenizer = model.text.tokenizer.stat().st_size if model.text else 0
        return weights + tokenizer + self.program_bytes(model, context, tensors)

    @abstractmethod
    def program_bytes(self, model: DescribedModel, context: int, tensors: int) -> int:
        """Estimated bytes of a program without its weights."""
