"""GGUF files on llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from edgeq.core.errors import Missing, missing_extra
from edgeq.formats.file_format import FileFormat, TensorPlan
from edgeq.formats.gguf.opener import GgufOpener
from edgeq.quantize.number_formats.kquants import TYPE_OF
from edgeq.quantize.presets import MIXES
from edgeq.quantize.storage.gguf import GgufStorage

if TYPE_CHECKING:
    from edgeq.formats.gguf.decide import GgufDecision
    from edgeq.models.model import DescribedModel
    from edgeq.quantize.spec import Intent

ALIGNMENT = 32
"""Alignment of tensors in a GGUF file in bytes, the format's default."""


_UNREAD = (
    "statistics come from llama.cpp, on the float model: no layer makes up for the rounding of "
    "those before it"
)


class Gguf(GgufOpener, GgufStorage, FileFormat):
    """See `FileFormat`."""

    packages = MappingProxyType({"gguf": ("gguf", "xllamacpp")})
    tools = ("gguf", "numpy", "tokenizers", "xllamacpp")
    from_graph = False
    stores_any_file = True
    tokenizer_is_added = False
    alignment = ALIGNMENT
    uses_metal = True
    memory_like = "llama.cpp"
    encoder_presets = ("float32", "int8-b32")
    decoder_presets = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K")

    def plan_tensors(
        self, model: DescribedModel, intent: Intent, compute: str
    ) -> Iterator[TensorPlan]:
        """See `FileFormat.plan_tensors`. Raises Missing without the package gguf."""
        for name, decision in gguf_decisions(model, intent).items():
            yield TensorPlan(
                name=name,
                shape=model.tensors[name],
                number_format=decision.number_format,
                method=decision.method,
                reason=decision.reason,
                bytes=decision.bytes,
            )

    def tensor_words(self, release: str | None) -> tuple[str, ...]:
        """llama.cpp's K-quants; if rows do not divide into them, legacy types are used.

        Code books (IQ…) are several times slower on CPUs and cannot store our codes.
        """
        return ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0")

    def weights_word(self, most: str) -> str:
        """The mix that a file is named after, from the type that holds most of it."""
        word = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}.get(most, most)
        return word if word in MIXES else "Q4_K_M"

    def stored_word(self, number_format: str, word: str) -> str:
        """See `FileFormat.stored_word`: rows may not divide into the blocks of the word's type."""
        return TYPE_OF.get(number_format, number_format)

    def input_rounding(self, number_format: str) -> str:
        """llama.cpp rounds inputs of K-quants in blocks of 256, those of other types in 32.

        (ggml-cpu.c, `type_traits_cpu`: `vec_dot_type`.)
        """
        return "inputs-256" if self.stored_word(number_format, "").endswith("_K") else "inputs-32"

    def file_bytes(
        self, model: DescribedModel, intent: Intent, context: int, weights: int, tensors: int
    ) -> int:
        """See `FileFormat.file_bytes`."""
        assert model.directory is not None
        if model.unread is not None:
            from edgeq.formats.gguf.unread import unread_bytes

            return unread_bytes(model.unread, gguf_decisions(model, intent))
        if model.directory.tensors:
            from edgeq.formats.gguf.write import planned_bytes

            recover = intent.variant.recover
            rank = recover.rank if recover else 0
            from edgeq.quantize.adapter import planned_factors

            factors = planned_factors(model.tensors, rank)
            adapter = self.adapter_bytes(model, factors, rank) if recover else 0
            decisions = gguf_decisions(model, intent)
            return adapter + planned_bytes(model.directory, decisions, mix=intent.variant.weights)
        # tokenizer.json spells every token and merge with quotes and indentation, GGUF without.
        return weights + model.directory.tokenizer.stat().st_size // 2

    def adapter_bytes(self, model: DescribedModel, factors: Mapping[str, int], rank: int) -> int:
        """The whole adapter file. Raises Missing if GGUF's types are not installed."""
        from edgeq.formats.gguf.adapter import planned_file_bytes

        assert model.decoder is not None
        shapes = {name: model.tensors[name] for name in factors}
        return planned_file_bytes(model.decoder, shapes, rank)

    def notes(self, model: DescribedModel) -> tuple[str, ...]:
        """See `FileFormat.notes`; nothing is compared if llama.cpp is not installed."""
        assert model.directory is not None
        if model.unread is not None:
            return (_UNREAD,)
        try:
            from edgeq.formats.gguf.write import planned_notes

            return planned_notes(model.directory, model.tensors)
        except (ImportError, Missing):  # the plan lists the packages that a build needs
            return ()


def gguf_decisions(model: DescribedModel, intent: Intent) -> dict[str, GgufDecision]:
    """The decision for every weight in a GGUF file. Raises Missing without the package gguf."""
    try:
        from edgeq.formats.gguf.decide import decide_gguf
    except ImportError:
        raise missing_extra("gguf", "gguf", "plan and write GGUF files") from None
    from edgeq.formats.gguf.names import gguf_names, mix_facts
    from edgeq.formats.gguf.unread import decide_unread

    if model.unread is not None:
        return decide_unread(model.unread, intent)
    assert model.directory is not None
    names = gguf_names(model.directory.config, model.tensors)
    return decide_gguf(model.tensors, names, mix_facts(model.directory.config), intent)


GGUF = Gguf()
