"""Artifacts of language models, as a build makes them but without plan and store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeq.core.artifact import (
    DATA_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    Artifact,
    ModelRecord,
    TextSettings,
    record_files,
    write_artifact,
)
from edgeq.formats.onnx.write import copy_float, write_codes
from edgeq.models.architectures import Decoder, decoder_of
from edgeq.models.graphs.decoder_onnx import decoder_feeds, export_decoder
from edgeq.models.graphs.rounding import find_codes
from edgeq.models.graphs.weights import Decide
from edgeq.models.huggingface import read_directory
from edgeq.models.onnx_session import open_session
from edgeq.quantize.decide import SMALLEST_WEIGHT, Decision
from edgeq.quantize.model import Choice
from edgeq.quantize.number_formats import QuantizedTensor

WREN = Path(__file__).parents[2] / "recipes" / "wren"


def decide_on(number_format: str, method: str | None = None) -> Decide:
    """A `decide` that puts every weight that is large enough on `number_format`."""
    method = method or ("kmeans" if number_format.startswith("palette") else "nearest")

    def decide(name: str, shape: tuple[int, ...]) -> Decision:
        size = 1
        for length in shape:
            size *= length
        if len(shape) < 2 or size < SMALLEST_WEIGHT:
            return Decision(None, "small")
        return Decision(Choice(number_format, method, "float32", None), "default")

    return decide


def float_graph(source: Path, folder: Path, **options: int) -> Path:
    """The float32 graph of the model in `source`, in the new directory `folder`."""
    folder.mkdir(parents=True)
    export_decoder(read_directory(source, str(source)), folder, **options)
    return folder


def decoder_in(path: Path) -> Decoder:
    """The architecture of the model in the directory `path`."""
    return decoder_of(json.loads((path / "config.json").read_text()), str(path))


def logits_of(
    graph: Path,
    decoder: Decoder,
    ids: np.ndarray,
    cuts: Sequence[int] = (),
    left: Mapping[str, np.ndarray] | None = None,
) -> np.ndarray:
    """Logits of every token by the file `graph`, float32 (tokens, vocabulary).

    The tokens up to each cut, or all, are of one run, through a cache that grows. left: of its
    inputs before the first run, as another text may have left them.
    """
    session = open_session(graph, threads=1)
    names = [value.name for value in session.get_outputs()]
    feed = {**decoder_feeds(decoder, [ids.tolist()])[0], **(left or {})}
    past, logits = 0, []
    for cut in cuts or [len(ids)]:
        feed |= {"input_ids": ids[None, past:cut], "past_length": np.array([past])}
        outputs = dict(zip(names, session.run(None, feed), strict=True))
        logits.append(outputs.pop("logits")[0])
        feed |= {n.replace("present", "past_key_values"): v for n, v in outputs.items()}
        past = cut
    return np.concatenate(logits)


def nearest_codes(graph: Path, number_format: str) -> dict[str, QuantizedTensor]:
    """Every weight of `graph` on `number_format`."""
    return find_codes(graph, decide_on(number_format), [], str)


def decoder_artifact(
    source: Path, graph: Path, folder: Path, codes: Mapping[str, QuantizedTensor] | None = None
) -> Path:
    """`graph` in float32 or with `codes`, in `folder`, with its tokenizer and its record."""
    folder.mkdir(parents=True)
    if codes is None:
        written = copy_float(graph, folder)
    else:
        number_format = next(iter(codes.values())).number_format.name
        written = write_codes(graph, folder, decide_on(number_format), codes)
    shutil.copyfile(source / "tokenizer.json", folder / TOKENIZER_FILE)
    write_artifact(
        folder,
        Artifact(
            name="onnx-test",
            format="onnx",
            variant="test",
            task="text-generation",
            model=ModelRecord(source=source.name, sha256="0" * 64),
            inputs=written.inputs,
            outputs=written.outputs,
            text=TextSettings(max_tokens=1),
            weight_bytes=sum(tensor.bytes for tensor in written.tensors.values()),
            tensors=written.tensors,
            files=record_files(folder, [MODEL_FILE, DATA_FILE, TOKENIZER_FILE]),
            tools={},
        ),
    )
    return folder
