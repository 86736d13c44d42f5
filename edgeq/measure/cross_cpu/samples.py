"""Inputs for comparing places: a few samples, the same everywhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import MODEL_FILE, TOKENIZER_FILE, Artifact
from edgeq.core.known_settings import STATE_KEY
from edgeq.core.tasks import task_of
from edgeq.formats.samples import fit, made_up
from edgeq.measure.inputs import Evaluation
from edgeq.recipe import array_sets
from edgeq.recipe.sequences import carried, sequences

Feed = dict[str, npt.NDArray[Any]]

TEXTS = (
    "The bird sang in the old tree by the river.",
    "A man is playing a guitar on the street.",
    "Shares fell sharply after the report was published.",
    "How do I reset the password of my account?",
    "The recipe needs two eggs, flour and a little salt.",
    "She closed the door quietly and walked home in the rain.",
    "Water boils at a lower temperature high in the mountains.",
    "Please send the invoice to the address below.",
)
CONTEXT = 128
"""Context length that a language model is opened with."""
_TOKENS = 16  # tokens per sample: enough rows for an interval, few enough for an emulator
_SAMPLES = 4
_STEPS = 16  # of a sequence, after which a state is no longer near its zeros


def graph_feeds(
    directory: Path, artifact: Artifact, evaluation: Evaluation | None = None
) -> list[Feed]:
    """Inputs for the graph of an ONNX artifact, several samples of equal shapes.

    Built-in texts or, if a model takes arrays, samples of the user's: only those are certain to be
    what it takes. Without any, numbers in the shapes of a sample that it ran on. Raises
    InvalidInput for data that do not fit the model.
    """
    if task_of(artifact.task).generates:
        return _decoder_feeds(directory, artifact)
    if artifact.text is not None:
        from edgeq.formats.text import TextEncoder

        tokenizer = (directory / TOKENIZER_FILE).read_bytes()
        encoder = TextEncoder(tokenizer, artifact.text.max_tokens)
        names = [value.name for value in artifact.inputs]
        length = min(_TOKENS, artifact.text.max_tokens)
        return [
            {name: np.resize(a, (1, length)) for name, a in encoder.feeds(text, names).items()}
            for text in TEXTS[:_SAMPLES]
        ]
    if evaluation is not None:
        return list(itertools.islice(_users(directory, artifact, evaluation), _SAMPLES))
    rng = np.random.default_rng(0)
    return [made_up(artifact.inputs, artifact.settings, rng) for _ in range(_SAMPLES)]


def _users(directory: Path, artifact: Artifact, evaluation: Evaluation) -> Iterator[Feed]:
    """Samples of the user's data; of a model with a state, steps with the state at each."""
    path, inputs = evaluation.arrays, artifact.inputs
    held = array_sets.read_arrays(path, evaluation.samples)
    state = artifact.settings.get(STATE_KEY) or {}
    feeds: Iterator[Mapping[str, npt.NDArray[Any]]]
    if state and not set(state) <= set(held):
        from edgeq.formats.loaded import load

        model = load(directory, threads=1)
        steps = next(sequences(path, held, inputs, state))[:_STEPS]
        feeds = iter([feed for feed, _ in carried(steps, model.run, state)][-_SAMPLES:])
    else:
        feeds = array_sets.feeds(path, held, {value.name: len(value.shape) for value in inputs})
    for feed in feeds:
        yield {value.name: fit(feed[value.name], value) for value in inputs}


def _decoder_feeds(directory: Path, artifact: Artifact) -> list[Feed]:
    """Prompts after an empty cache of exactly their length, so that all of it is filled."""
    import onnx

    from edgeq.formats.tokenizer_pieces import DecoderTokenizer

    tokenizer = DecoderTokenizer((directory / TOKENIZER_FILE).read_bytes())
    graph = onnx.load(directory / MODEL_FILE, load_external_data=False).graph
    state = {constant.name for constant in graph.initializer}
    counts = {"past_length": 0, "logits_to_keep": _TOKENS, "text_length": _TOKENS}
    feeds = []
    for text in TEXTS[:_SAMPLES]:
        ids = np.resize(np.array(tokenizer.ids(text, True), np.int64), (1, _TOKENS))
        feed: Feed = {"input_ids": ids}
        for value in graph.input:
            if value.name in counts:
                feed[value.name] = np.array([counts[value.name]], np.int64)
            elif value.name not in feed and value.name not in state:
                sizes = [size.dim_value or _TOKENS for size in value.type.tensor_type.shape.dim]
                feed[value.name] = np.zeros(sizes, np.float32)
        feeds.append(feed)
    return feeds
