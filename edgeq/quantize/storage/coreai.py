"""What Core AI models can store."""

from __future__ import annotations

from edgeq.core.tasks import Task
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.number_formats.floats import FLOAT16, FLOAT32
from edgeq.quantize.number_formats.integers import INT8, IntegerFormat
from edgeq.quantize.number_formats.palettes import Palette
from edgeq.quantize.presets import Variant
from edgeq.quantize.storage.base import Storage


class CoreaiStorage(Storage):
    """Palettes, and integers with constant scales; inputs of operators stay float.

    Apple's runtime exists on Linux, too, but apps have it on Apple's systems alone: elsewhere its
    answers count, and its times do not.
    """

    name = "coreai"
    title = "Core AI"
    runs_anywhere = False
    takes_adapter = False
    activations = "float32"
    kv_types = ("f16",)

    def holds(self, variant: Variant) -> bool:
        """See `Storage.holds`."""
        stored = self.weights_of(variant)
        if variant.activations != "float32" or variant.recover or (stored and stored.is_expanded):
            return False
        if rounding_method(variant.method).folds_graph:
            return False
        return isinstance(stored, IntegerFormat | Palette) or stored in (FLOAT16, FLOAT32)

    def int8(self, task: Task) -> str:
        """See `Storage.int8`: one scale per channel, which every unit supports."""
        return INT8.name
