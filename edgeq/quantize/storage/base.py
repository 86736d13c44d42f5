"""What a file format can store: the facts about it that recipes are checked against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, get_args

from edgeq.core.kv_cache import KvType
from edgeq.core.tasks import Task
from edgeq.quantize.ggml.words import GgufType
from edgeq.quantize.number_formats import NumberFormat, number_format
from edgeq.quantize.number_formats.integers import INT4_B32, INT8, INT8_B32
from edgeq.quantize.presets import MIXES, PRESETS, Activations, Variant


class Storage(ABC):
    """The number formats and variants that files of a format store.

    name: in recipes. title: for people. runs_anywhere: whether its runtime exists on every system;
    otherwise its answers are emulated elsewhere. has_compute_units: whether a caller may choose the
    unit that executes it. takes_adapter: whether it can include a low-rank adapter. has_mixes:
    whether llama.cpp's types are stored. activations: the default of a variant; None for the
    default of its weights. takes_graph: whether an .onnx file can be its source. mixed_weights:
    placeholder for a variant whose number formats are not chosen yet. kv_types: types of the KV
    cache that its runtime has, most precise first.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    runs_anywhere: ClassVar[bool] = True
    has_compute_units: ClassVar[bool] = False
    takes_adapter: ClassVar[bool] = True
    has_mixes: ClassVar[bool] = False
    takes_graph: ClassVar[bool] = True
    activations: ClassVar[Activations | None] = None
    mixed_weights: ClassVar[str] = INT4_B32.name
    kv_types: ClassVar[tuple[KvType, ...]] = ("f32",)

    @abstractmethod
    def holds(self, variant: Variant) -> bool:
        """Whether its files can store a variant."""

    def weights_of(self, variant: Variant) -> NumberFormat | None:
        """The number format of a variant's weights; None for a mix of llama.cpp's types."""
        return None if variant.weights in MIXES else number_format(variant.weights)

    def serves(self, task: Task) -> bool:
        """Whether its runtime supports models of a task."""
        return True

    def kv_type(self, weights: str) -> KvType:
        """The usual type of the KV cache for a variant's `weights`."""
        return self.kv_types[0]

    def int8(self, task: Task) -> str:
        """The preset that `int8` means.

        Encoders and nets are fastest with int8 activations; language models read every weight for
        each token, so only weights matter.
        """
        return INT8_B32.name if task.generates else "int8-dynamic"

    def preset(self, word: str, task: Task) -> Variant:
        """The variant that a preset means; `int4` and `int8` leave the rest to the format."""
        if word == "int4":
            return PRESETS[INT4_B32.name]
        return PRESETS[self.int8(task) if word == INT8.name else word]

    def number_format(self, word: str, task: Task) -> str | None:
        """The meaning of a rule's word for a weight; None if its files lack it."""
        if word in get_args(GgufType):
            return word if self.has_mixes else None
        variant = self.preset(word, task)
        return variant.weights if self.holds(variant) else None
