"""What GGUF files can store."""

from __future__ import annotations

from edgeq.core.kv_cache import KV_TYPES, KvType
from edgeq.core.tasks import Task
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.number_formats.floats import FLOAT32
from edgeq.quantize.number_formats.integers import INT8_B32, IntegerFormat
from edgeq.quantize.number_formats.kquants import TYPE_OF
from edgeq.quantize.presets import Variant
from edgeq.quantize.storage.base import Storage


class GgufStorage(Storage):
    """llama.cpp's mixes, and integers that one of its types stores unchanged."""

    name = "gguf"
    title = "GGUF"
    has_mixes = True
    takes_graph = False
    mixed_weights = "Q4_K_M"
    kv_types = KV_TYPES

    def holds(self, variant: Variant) -> bool:
        """See `Storage.holds`."""
        stored = self.weights_of(variant)
        if not isinstance(stored, IntegerFormat):
            return stored in (None, FLOAT32)
        return stored.name in TYPE_OF and not rounding_method(variant.method).folds_graph

    def serves(self, task: Task) -> bool:
        """See `Storage.serves`."""
        return task.in_llama_cpp

    def kv_type(self, weights: str) -> KvType:
        """See `Storage.kv_type`: as precise as float32 weights, whose answers are compared exactly;
        else llama.cpp's own default.
        """
        return "f32" if weights == FLOAT32.name else "f16"

    def int8(self, task: Task) -> str:
        """See `Storage.int8`: GGUF quantizes weights only."""
        return INT8_B32.name
