"""The storage of every file format, by the format's name in recipes."""

from __future__ import annotations

from typing import Annotated

from edgeq.core.registry import Registry
from edgeq.core.tasks import task_of
from edgeq.core.vocabulary import Vocabulary
from edgeq.quantize.presets import Variant
from edgeq.quantize.storage.base import Storage
from edgeq.quantize.storage.coreai import CoreaiStorage
from edgeq.quantize.storage.coreml import CoremlStorage
from edgeq.quantize.storage.gguf import GgufStorage
from edgeq.quantize.storage.onnx import OnnxStorage

__all__ = ["STORAGES", "Format", "Storage", "grid_of", "preset", "storage"]

STORAGES: Registry[Storage] = Registry(
    "file format",
    "edgeq.file_formats",
    Storage,  # type: ignore[type-abstract]
    (OnnxStorage(), GgufStorage(), CoremlStorage(), CoreaiStorage()),
)

Format = Annotated[str, Vocabulary(lambda: list(STORAGES))]
"""A file format: a name in `STORAGES`."""


def storage(format: str) -> Storage:
    """What files of a format can store. Raises InvalidInput for an unknown format."""
    return STORAGES.named(format)


def preset(word: str, format: str, task: str) -> Variant:
    """The variant that a preset means for a format and a task.

    >>> preset("int4", "onnx", "tensor").name, preset("int8", "onnx", "text-generation").name
    ('int4-b32', 'int8-b32')
    """
    return storage(format).preset(word, task_of(task))


def grid_of(word: str, format: str, task: str) -> str | None:
    """The meaning of a rule's word: a grid, a preset or a GGUF type; None if the format lacks it.

    >>> grid_of("int8-static", "onnx", "tensor"), grid_of("int4", "gguf", "text-generation")
    ('int8', 'int4-b32')
    >>> grid_of("Q6_K", "onnx", "text-generation") is None
    True
    """
    return storage(format).number_format(word, task_of(task))
