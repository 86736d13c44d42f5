"""An encoder together with what a decoder computes of its output once for a recording.

Optimum exports Whisper's decoder twice: `decoder_model.onnx` for the first step, which projects the
encoder's output to keys and values, and `decoder_with_past_model.onnx`, which takes them. With the
projections in the encoder, the second serves for every step, from an empty cache on, and no weight
is stored twice.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import compose, numpy_helper, utils

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.graphs.source import read_whole
from edgeq.models.onnx_session import open_session

_TAKEN, _GIVEN, _IDS = "encoder_hidden_states", "last_hidden_state", "input_ids"
_CLOSE = 1e-4
_PREFIX = "cross/"


def write_joined(encoder: Path, decoder: Path, to: Path) -> None:
    """Write the encoder with the outputs `present.N.encoder.…` of the decoder's first step.

    Raises InvalidInput if the files are not such a pair, or the written one answers otherwise.
    """
    first, second = read_whole(encoder), read_whole(decoder)
    outputs = [value.name for value in second.graph.output if ".encoder." in value.name]
    given, taken = (
        {value.name for value in values} for values in (first.graph.output, second.graph.input)
    )
    if not outputs or _GIVEN not in given or not {_TAKEN, _IDS} <= taken:
        what = f"gives no keys and values of {_TAKEN}"
        remedy = "export with optimum-cli and --task automatic-speech-recognition-with-past"
        raise InvalidInput(Problem(str(decoder), what, remedy))
    cut = utils.Extractor(second).extract_model([_IDS, _TAKEN], outputs)
    for value in [each for each in cut.graph.input if each.name == _IDS]:
        cut.graph.input.remove(value)  # of which only the batch, 1, matters
        cut.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1), np.int64), _IDS))
    cut = compose.add_prefix(cut, _PREFIX)
    links, names = [(_GIVEN, f"{_PREFIX}{_TAKEN}")], {f"{_PREFIX}{name}": name for name in outputs}
    joined = compose.merge_models(first, cut, io_map=links, outputs=[*names])
    for value in joined.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1  # recording at a time, like the ids
    for value in joined.graph.output:
        value.name = names[value.name]
    for node in joined.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    data = f"{to.name}.data"
    to.with_name(data).unlink(missing_ok=True)  # which onnx would append to
    onnx.save(joined, to, save_as_external_data=True, location=data)
    _require_equal(encoder, decoder, to, outputs)


def _require_equal(encoder: Path, decoder: Path, joined: Path, outputs: list[str]) -> None:
    (value,) = (session := open_session(encoder, threads=1)).get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in value.shape]
    feed = {value.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    (hidden,) = session.run([_GIVEN], feed)
    ids = np.zeros((1, 1), np.int64)
    wanted = open_session(decoder, threads=1).run(outputs, {_IDS: ids, _TAKEN: hidden})
    found = open_session(joined, threads=1).run(outputs, feed)
    for name, a, b in zip(outputs, found, wanted, strict=True):
        if a.shape != b.shape or np.linalg.norm(a - b) > _CLOSE * np.linalg.norm(b):
            what = f"its output {name} differs from the decoder's"
            raise InvalidInput(Problem(str(joined), what, f"export {encoder.parent} again"))
