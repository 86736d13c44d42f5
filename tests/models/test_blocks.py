"""A model run block by block in torch computes what transformers computes with the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="recovery is not installed")
pytest.importorskip("transformers", reason="recovery is not installed")

import torch

from edgeq.core.errors import InvalidInput
from edgeq.core.tasks import SENTENCE_EMBEDDING, TEXT_GENERATION, Task
from edgeq.models.huggingface import read_directory
from edgeq.models.original.blocks import Blocks
from edgeq.models.original.network import open_network
from tests.support import tiny_bert, tiny_decoders


def feeds(with_mask: bool) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    for length in (14, 9, 14):
        ids = generator.integers(5, 60, (1, length))
        mask = {"attention_mask": np.ones_like(ids)} if with_mask else {}
        found.append({"input_ids": ids, **mask})
    return found


def last_states(folder: Path, task: Task, inputs: list[dict[str, Any]]) -> list[torch.Tensor]:
    blocks = Blocks(read_directory(folder, "test"), task)
    states = [torch.from_numpy(s)[None] for s in blocks.embed(inputs, lambda name: None)]
    for index in range(len(blocks)):
        with blocks.opened(index) as block, torch.no_grad():
            states = [block.run(state, {}) for state in states]
        assert all(p.is_meta for p in blocks.layers[index].parameters())
    return states


STACKED = "granitemoehybrid"  # its files have two matrices in one


@pytest.mark.parametrize("family", [each for each in tiny_decoders.FAMILIES if each != STACKED])
def test_a_language_models_blocks(family: str, tmp_path: Path) -> None:
    tiny_decoders.make(tmp_path, family)
    inputs = feeds(with_mask=False)
    found = last_states(tmp_path, TEXT_GENERATION, inputs)
    whole = open_network(read_directory(tmp_path, "test"), TEXT_GENERATION).model
    for feed, state in zip(inputs, found, strict=True):
        with torch.no_grad():
            wanted = whole(torch.from_numpy(feed["input_ids"])).last_hidden_state
            assert torch.allclose(whole.norm(state), wanted, atol=1e-5)


def test_stacked_matrices_are_refused(tmp_path: Path) -> None:
    tiny_decoders.make(tmp_path, STACKED)
    with pytest.raises(InvalidInput, match="its files lack"):
        last_states(tmp_path, TEXT_GENERATION, feeds(with_mask=False))


def test_an_encoders_blocks(tmp_path: Path) -> None:
    tiny_bert.save_bert(tmp_path)
    inputs = feeds(with_mask=True)
    found = last_states(tmp_path, SENTENCE_EMBEDDING, inputs)
    whole = open_network(read_directory(tmp_path, "test"), SENTENCE_EMBEDDING)
    for feed, state in zip(inputs, found, strict=True):
        tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
        with torch.no_grad():
            assert torch.allclose(whole(**tensors).last_hidden_state, state, atol=1e-5)


def test_a_given_matrix_takes_the_place_of_the_models_own(tmp_path: Path) -> None:
    tiny_decoders.make(tmp_path, "smollm2")
    directory = read_directory(tmp_path, "test")
    blocks = Blocks(directory, TEXT_GENERATION)
    (state,) = blocks.embed(feeds(with_mask=False)[:1], lambda name: None)
    whole = open_network(directory, TEXT_GENERATION).base_model
    name = "model.layers.0.mlp.down_proj.weight"
    with torch.no_grad():
        whole.layers[0].mlp.down_proj.weight *= 2
        ids = torch.from_numpy(feeds(with_mask=False)[0]["input_ids"])
        wanted = whole(ids, output_hidden_states=True).hidden_states[1]
    with blocks.opened(0) as block, torch.no_grad():
        changed = {name: whole.layers[0].mlp.down_proj.weight}
        found = block.run(torch.from_numpy(state)[None], changed)
        assert torch.allclose(found, wanted, atol=1e-6)
        plain = block.run(torch.from_numpy(state)[None], {})
    assert not torch.allclose(plain, wanted, atol=1e-3)


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tiny_decoders.make(tmp_path, "smollm2")
    file = tmp_path / "model.safetensors"
    lost = "model.layers.1.mlp.up_proj.weight"
    save_file({n: v for n, v in load_file(file).items() if n != lost}, file, {"format": "pt"})
    blocks = Blocks(read_directory(tmp_path, "test"), TEXT_GENERATION)
    with pytest.raises(InvalidInput, match=r"layers\.1\.mlp\.up_proj\.weight"), blocks.opened(1):
        pass
