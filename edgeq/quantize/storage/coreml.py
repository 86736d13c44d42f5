"""What Core ML packages can store."""

from __future__ import annotations

from edgeq.core.tasks import Task
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.number_formats.floats import FLOAT16, FLOAT32
from edgeq.quantize.number_formats.integers import INT8, IntegerFormat
from edgeq.quantize.number_formats.palettes import Palette
from edgeq.quantize.presets import Variant
from edgeq.quantize.storage.base import Storage


class CoremlStorage(Storage):
    """Palettes, and integers with constant scales: no adapter, no dynamic ranges."""

    name = "coreml"
    title = "Core ML"
    runs_anywhere = False
    has_compute_units = True
    takes_adapter = False
    activations = "float32"
    kv_types = ("f16",)

    def holds(self, variant: Variant) -> bool:
        """See `Storage.holds`."""
        stored = self.weights_of(variant)
        if not isinstance(stored, IntegerFormat) or stored.is_expanded:
            return isinstance(stored, Palette) or stored in (FLOAT16, FLOAT32)
        if stored.group_size is None:
            return variant.activations in ("float32", "static-uint8")
        return not (rounding_method(variant.method).folds_graph or variant.recover)

    def int8(self, task: Task) -> str:
        """See `Storage.int8`: one scale per channel, which every unit supports."""
        return INT8.name
