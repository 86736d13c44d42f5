"""What both writers do first with a language model."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.metadata_keys import CONTEXT_KEY, END_KEY
from edgeq.formats.apple import handlers  # noqa: F401  (they register)
from edgeq.models.architectures import Decoder, decoder_of
from edgeq.models.graphs.decoder_onnx import check_weights
from edgeq.models.graphs.decoder_rope import Rotations, depends_on_length, rotations
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.special_tokens import end_tokens


@dataclass(frozen=True)
class DecoderFacts:
    """A language model, the positions in its states, its rotary angles, and what its file says."""

    decoder: Decoder
    context: int
    rotations: Rotations
    metadata: dict[str, str]


def read_decoder(directory: ModelDirectory, context: int) -> DecoderFacts:
    """Read what a program with at most `context` positions needs.

    Raises InvalidInput for weights that are missing or differ in shape from config.json, and for
    contexts beyond the length at which rotary angles change.
    """
    decoder = decoder_of(directory.config, str(directory.path / "config.json"))
    check_weights(directory, decoder)
    ends = end_tokens(directory.path, directory.config, str(directory.path))
    context = min(context, decoder.context)
    turned = rotations(decoder)
    if depends_on_length(decoder) and context > turned.switch:
        what = f"its rotary angles change with texts of more than {turned.switch} positions"
        remedy = f"build it for a context of at most {turned.switch}"
        raise InvalidInput(Problem(str(directory.path), what, remedy))
    metadata = {CONTEXT_KEY: str(context), END_KEY: " ".join(map(str, ends))}
    return DecoderFacts(decoder, context, turned, metadata)
