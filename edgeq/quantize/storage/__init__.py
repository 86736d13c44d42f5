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

__all__ = ["STORAGES", "Format", "Storage", "number_format_of", "preset", "storage"]

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


def number_format_of(word: str, format: str, task: str) -> str | None:
    """The number format or GGUF type that a rule's word means; None if the file format lacks it.

    >>> number_format_of("int8-static", "onnx", "tensor")
    'int8'
    >>> number_format_of("int4", "gguf", "text-generation")
    'int4-b32'
    >>> number_format_of("Q6_K", "onnx", "text-generation") is None
    True
    """
    return storage(format).number_format(word, task_of(task))
