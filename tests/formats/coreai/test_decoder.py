"""A language model with a cache answers, in Apple's runtime, as transformers does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("coreai", reason="coreai-core is not installed: pip install '.[coreai]'")
pytest.importorskip("transformers", reason="the build side is not installed")

import torch
import transformers

from edgeq.core.errors import InvalidInput
from edgeq.formats.coreai.runtime import Runtime
from edgeq.formats.coreai.write import export_decoder_coreai
from edgeq.models.huggingface import read_directory
from tests.support import tiny_decoders

CONTEXT = 64


def exported(source: Path, destination: Path, context: int = CONTEXT) -> Runtime:
    directory = read_directory(source, str(source))
    export_decoder_coreai(directory, destination, {}, context=context)
    return Runtime(destination)


@pytest.mark.parametrize("family", tiny_decoders.ON_APPLE)
def test_logits_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", family)
    network = transformers.AutoModelForCausalLM.from_pretrained(source, attn_implementation="eager")
    ids = np.random.default_rng(0).integers(3, 600, 40)  # more than twice a window
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(ids)[None]).logits[0].numpy()
    model = exported(source, tmp_path / "a.aimodel")
    states = {name: np.zeros(shape, np.float16) for name, shape in model.states().items()}
    found, past = [], 0
    for count in (17, 1, 1, 21):  # a prompt, tokens, a longer piece
        piece = ids[None, past : past + count].astype(np.int32)
        feeds = {
            "input_ids": piece,
            "position": np.array([past], np.int32),
            "rows": np.arange(count, dtype=np.int32),
        }
        found.append(model.run(feeds, states)["logits"][0])
        feeds["rows"] = feeds["rows"][-1:]
        last = model.run(feeds, states)["logits"]
        np.testing.assert_allclose(last[0], found[-1][-1:], rtol=1e-4, atol=1e-4)
        past += count
    # Keys and values are kept in float16.
    difference = np.abs(np.concatenate(found) - expected).max()
    assert difference < 2e-3 * np.abs(expected).max()


def test_states_have_the_context_that_was_asked_for(tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", next(iter(tiny_decoders.FAMILIES)))
    shapes = exported(source, tmp_path / "a.aimodel", context=24).states().values()
    assert {shape[2] for shape in shapes} == {24}


def test_missing_weights_are_named(tmp_path: Path) -> None:
    source = tiny_decoders.make(tmp_path / "model", next(iter(tiny_decoders.FAMILIES)))
    weights = {
        path: path.read_bytes().replace(b"layers.1.mlp.down_proj", b"layers.1.mlp.down_pros")
        for path in source.glob("*.safetensors")
    }
    for path, content in weights.items():
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match="down_proj"):
        exported(source, tmp_path / "a.aimodel")
