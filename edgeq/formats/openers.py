"""The opener of every file format by the format's name: built in and from other packages."""

from __future__ import annotations

from edgeq.core.registry import Registry
from edgeq.formats.coreai.opener import CoreaiOpener
from edgeq.formats.coreml.opener import CoremlOpener
from edgeq.formats.gguf.opener import GgufOpener
from edgeq.formats.onnx.opener import OnnxOpener
from edgeq.formats.opener import Opener

OPENERS: Registry[Opener] = Registry(
    "file format",
    "edgeq.file_formats",
    Opener,  # type: ignore[type-abstract]
    (OnnxOpener(), GgufOpener(), CoremlOpener(), CoreaiOpener()),
)


def opener(format: str) -> Opener:
    """What opens files of a format. Raises InvalidInput for an unknown one."""
    return OPENERS.named(format)
