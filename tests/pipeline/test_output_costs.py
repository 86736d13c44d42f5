"""What errors in a block's output are said to cost is what transformers finds them to cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="recovery is not installed")
pytest.importorskip("transformers", reason="recovery is not installed")

import torch

from edgeq.core.tasks import SENTENCE_EMBEDDING, TEXT_GENERATION, Task
from edgeq.models.huggingface import read_directory
from edgeq.models.original.blocks import Blocks
from edgeq.models.original.network import open_network
from edgeq.pipeline.learn import costs
from tests.support import tiny_bert, tiny_decoders


def samples(task: Task, count: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(1)
    ids = [generator.integers(5, 60, (1, 24)) for _ in range(count)]
    return [
        {"input_ids": each, **({} if task.generates else {"attention_mask": np.ones_like(each)})}
        for each in ids
    ]


def loss(task: Task, answers: tuple[torch.Tensor, torch.Tensor]) -> float:
    plain, changed = (each[0] for each in answers)
    if task.generates:
        plain, changed = plain.log_softmax(-1), changed.log_softmax(-1)
        return float((plain.exp() * (plain - changed)).sum(-1).mean())
    return 1 - float(torch.cosine_similarity(plain.mean(0), changed.mean(0), dim=0))


@pytest.mark.parametrize("task", (TEXT_GENERATION, SENTENCE_EMBEDDING), ids=lambda t: t.name)
def test_costs_order_directions_as_the_model_does(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors along the dearest direction and along the cheapest, at the first block's output."""
    monkeypatch.setattr(costs, "_DRAWN", 16)  # for the cheapest, which few draws know least
    is_decoder = task.generates
    folder = tmp_path / "model"
    tiny_decoders.make(folder, "smollm2") if is_decoder else tiny_bert.save_bert(folder)
    directory, inputs = read_directory(folder, "test"), samples(task, 12)
    found = costs.output_costs(Blocks(directory, task), task, "mean", inputs, tmp_path / "c", 0)
    values, vectors = np.linalg.eigh(found[0])
    assert np.isclose(values.mean(), 1 + costs._DAMPING, rtol=1e-3)
    network = open_network(directory, task)
    layer = network.model.layers[0] if is_decoder else network.encoder.layer[0]
    lost = [perturbed(network, layer, torch.from_numpy(vectors[:, at]), inputs, task)
            for at in (0, -1)]  # fmt: skip
    assert lost[1] / lost[0] > 0.3 * values[-1] / values[0]
    assert lost[1] > 3 * lost[0]


def perturbed(
    network: Any, layer: Any, way: torch.Tensor, inputs: list[dict[str, Any]], task: Task
) -> float:
    """The mean loss if the layer's output has an error along `way`, up or down at each place."""
    signs = torch.Generator().manual_seed(0)

    def change(module: Any, args: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        drawn = torch.randint(0, 2, (*states.shape[:-1], 1), generator=signs) * 2 - 1
        moved = states + 0.1 * states.std() * drawn * way
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    total = 0.0
    with torch.no_grad():
        for feed in inputs:
            tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
            plain = network(**tensors)[0]
            hook = layer.register_forward_hook(change)
            total += loss(task, (plain, network(**tensors)[0]))
            hook.remove()
    return total / len(inputs)
