"""What ONNX files can store."""

from __future__ import annotations

from edgeq.quantize.number_formats.floats import FLOAT32
from edgeq.quantize.number_formats.integers import IntegerFormat
from edgeq.quantize.presets import Variant
from edgeq.quantize.storage.base import Storage


class OnnxStorage(Storage):
    """Integers in groups; with one scale per row, to multiply codes or to be expanded."""

    name = "onnx"
    title = "ONNX"

    def holds(self, variant: Variant) -> bool:
        """See `Storage.holds`."""
        stored = self.weights_of(variant)
        if isinstance(stored, IntegerFormat):
            is_grouped = stored.group_size is not None
            return is_grouped or stored.is_expanded or variant.activations != "float32"
        return stored == FLOAT32
