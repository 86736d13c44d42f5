"""Every file format by name: built in and from other packages."""

from __future__ import annotations

from edgeq.core.registry import Registry
from edgeq.formats.coreai.file_format import COREAI
from edgeq.formats.coreml.file_format import COREML
from edgeq.formats.file_format import FileFormat
from edgeq.formats.gguf.file_format import GGUF
from edgeq.formats.onnx.file_format import ONNX
from edgeq.formats.openers import OPENERS
from edgeq.quantize.storage import STORAGES

FILE_FORMATS: Registry[FileFormat] = Registry(
    "file format",
    "edgeq.file_formats",
    FileFormat,  # type: ignore[type-abstract]
    (ONNX, GGUF, COREML, COREAI),
)


def register_file_format(format: FileFormat) -> FileFormat:
    """Add a file format; returns it. Raises InvalidInput if its name is taken."""
    STORAGES.register(format)
    OPENERS.register(format)
    return FILE_FORMATS.register(format)


def unregister_file_format(name: str) -> None:
    """Remove a file format."""
    FILE_FORMATS.unregister(name)
    OPENERS.unregister(name)
    STORAGES.unregister(name)


def file_format(name: str) -> FileFormat:
    """The file format of that name. Raises InvalidInput for an unknown one."""
    return FILE_FORMATS.named(name)
