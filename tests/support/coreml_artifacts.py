"""Artifacts of language models as Core ML packages, as a build makes them but without plan."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from edgeq.core.artifact import (
    COREML_PACKAGE,
    TOKENIZER_FILE,
    Artifact,
    ModelRecord,
    TextSettings,
    ValueInfo,
    record_files,
    write_artifact,
)
from edgeq.formats.apple.writer import Compute
from edgeq.formats.coreml.write import export_decoder_coreml
from edgeq.models.architectures import decoder_of
from edgeq.models.huggingface import read_directory
from edgeq.quantize.number_formats import QuantizedTensor


def coreml_decoder_artifact(
    source: Path,
    folder: Path,
    codes: Mapping[str, QuantizedTensor],
    *,
    compute: Compute = "float16",
    context: int = 128,
    name: str = "coreml-test",
) -> Path:
    """The language model in `source` with `codes` as the artifact `folder`."""
    folder.mkdir(parents=True)
    directory = read_directory(source, str(source))
    package = folder / COREML_PACKAGE
    export_decoder_coreml(directory, package, codes, context=context, compute=compute)
    shutil.copyfile(source / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    held = [path for path in package.rglob("*") if path.is_file()]
    vocabulary = decoder_of(directory.config, str(source)).vocabulary
    write_artifact(
        folder,
        Artifact(
            name=name,
            format="coreml",
            variant="test",
            task="text-generation",
            model=ModelRecord(source=source.name, sha256="0" * 64),
            inputs=(
                ValueInfo(name="input_ids", dtype="int32", shape=(1, "tokens")),
                ValueInfo(name="position", dtype="int32", shape=(1,)),
                ValueInfo(name="rows", dtype="int32", shape=("rows",)),
            ),
            outputs=(ValueInfo(name="logits", dtype="float32", shape=(1, "rows", vocabulary)),),
            text=TextSettings(max_tokens=context),
            weight_bytes=sum(tensor.nbytes for tensor in codes.values()),
            tensors={},
            files=record_files(
                folder, [*(p.relative_to(folder).as_posix() for p in held), TOKENIZER_FILE]
            ),
            tools={},
        ),
    )
    return folder
