"""The writers of artifact files, by file format."""

from __future__ import annotations

from pathlib import Path

from edgeq.formats.coreai.file_format import COREAI
from edgeq.formats.coreml.file_format import COREML
from edgeq.formats.gguf.file_format import GGUF
from edgeq.formats.onnx.file_format import ONNX
from edgeq.formats.registry import file_format
from edgeq.formats.written import Made
from edgeq.pipeline.build.stages import Stages
from edgeq.quantize.spec import Intent


def write(stages: Stages, name: str, intent: Intent, destination: Path) -> Made:
    """Write the files of the artifact `name` into the directory `destination`.

    Raises InvalidInput for what the format cannot hold. What writes one is imported with the
    packages that it needs, when it is needed.
    """
    format = file_format(intent.format)
    if format is ONNX:
        from edgeq.pipeline.build.onnx import write_onnx as writer
    elif format is GGUF:
        from edgeq.pipeline.build.gguf import write_gguf as writer
    elif format is COREML:
        from edgeq.pipeline.build.coreml import write_coreml as writer
    elif format is COREAI:
        from edgeq.pipeline.build.coreai import write_coreai as writer
    else:
        return format.write(stages, name, intent, destination)
    return writer(stages, name, intent, destination)
