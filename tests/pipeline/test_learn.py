"""Learned rounding: it gains where there is something to gain, and is resumed to the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="recovery is not installed")
pytest.importorskip("transformers", reason="recovery is not installed")

import torch

from edgeq.core.steps import Steps
from edgeq.core.tasks import SENTENCE_EMBEDDING, TEXT_GENERATION, Task
from edgeq.core.terms import Progress
from edgeq.models.huggingface import read_directory
from edgeq.models.original.blocks import Blocks
from edgeq.models.original.network import open_network
from edgeq.models.original.reproducible import reproducible
from edgeq.models.weights import open_weights
from edgeq.pipeline.learn import train, walk
from edgeq.pipeline.learn.costs import output_costs
from edgeq.pipeline.learn.walk import Walk
from edgeq.quantize.codes import save_codes
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.number_formats import QuantizedTensor, number_format
from edgeq.quantize.statistics import Feed
from tests.support import tiny_bert, tiny_decoders

LENGTHS = (20, 20, 20, 12, 20, 20, 20, 20, 12)


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_STEPS", (16, 16))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.make(tmp_path_factory.mktemp("model"), "smollm2")


def feeds(with_mask: bool = False, count: int = 9) -> list[Feed]:
    generator = np.random.default_rng(0)
    ids = [generator.integers(5, 60, (1, length)) for length in LENGTHS * (count // 9)]
    masks = [{"attention_mask": np.ones_like(each)} if with_mask else {} for each in ids]
    return [{"input_ids": each, **mask} for each, mask in zip(ids, masks, strict=True)]


def rounded(folder: Path, task: Task, grid: str = "int4-b32") -> dict[str, QuantizedTensor]:
    """Codes of every linear layer's weight, by rounding to nearest."""
    directory = read_directory(folder, "test")
    weights, names = open_weights(directory), Blocks(directory, task).names
    return {
        name: NEAREST.round(weights.read(name), None, number_format(grid))
        for block in names
        for name in block
    }


def learned(
    folder: Path,
    start: Mapping[str, QuantizedTensor],
    place: Path,
    task: Task = TEXT_GENERATION,
    progress: Progress = str,
    inputs: list[Feed] | None = None,
    trained: frozenset[str] = frozenset(),
) -> dict[str, QuantizedTensor]:
    place.mkdir(exist_ok=True)
    spill = place / str(len(list(place.iterdir())))
    spill.mkdir()
    blocks = Blocks(read_directory(folder, "test"), task)
    samples = inputs or feeds(with_mask=not task.generates)
    with reproducible(1):
        costs = output_costs(blocks, task, "mean", samples, spill / "costs", seed=3)
        both = Walk(blocks, start, trained or frozenset(start), spill, costs, seed=3)
        both.begin(samples)
        return both.run(Steps(place / "steps"), progress)


def lost(
    folder: Path, task: Task, codes: Mapping[str, QuantizedTensor], new: Sequence[Feed]
) -> float:
    """The distance by transformers: a KL divergence, or one minus the cosine of mean states."""
    directory = read_directory(folder, "test")
    whole, approximate = (open_network(directory, task) for _ in range(2))
    own = dict(approximate.named_parameters())
    with torch.no_grad():
        for name, tensor in codes.items():
            own[name].copy_(torch.from_numpy(tensor.dequantize()))
        total = 0.0
        for feed in new:
            tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in feed.items()}
            one, other = (network(**tensors)[0][0] for network in (whole, approximate))
            if task.generates:
                one, other = one.log_softmax(-1), other.log_softmax(-1)
                total += float((one.exp() * (one - other)).sum(-1).mean())
            else:
                total += 1 - float(torch.cosine_similarity(one.mean(0), other.mean(0), dim=0))
    return total / len(new)


def test_learned_codes_are_better_on_new_inputs(model: Path, tmp_path: Path) -> None:
    start = rounded(model, TEXT_GENERATION)
    found = learned(model, start, tmp_path / "run", inputs=feeds(count=27))
    assert list(found) == list(start)
    assert {tensor.method for tensor in found.values()} == {"learned"}
    new = [{"input_ids": np.random.default_rng(7).integers(5, 60, (1, 30))}]
    before, after = (lost(model, TEXT_GENERATION, codes, new) for codes in (start, found))
    assert after < 0.97 * before, (before, after)


def test_encoders_are_trained_on_samples_of_any_length(tmp_path: Path) -> None:
    folder = tiny_bert.save_bert(tmp_path / "model")
    start = rounded(folder, SENTENCE_EMBEDDING)
    found = learned(folder, start, tmp_path / "run", SENTENCE_EMBEDDING)
    new = feeds(with_mask=True)
    before, after = (lost(folder, SENTENCE_EMBEDDING, codes, new) for codes in (start, found))
    assert after < before


def test_codes_that_training_cannot_improve_stay(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps so large that they ruin every block."""
    monkeypatch.setattr(train, "_CODES_RATE", 5.0)
    start = rounded(model, TEXT_GENERATION)
    said: list[str] = []
    found = learned(model, start, tmp_path / "run", progress=said.append)
    assert {tensor.method for tensor in found.values()} == {NEAREST.name}
    for name, tensor in start.items():
        assert np.array_equal(found[name].dequantize(), tensor.dequantize())
    assert sum("training made nothing better" in line for line in said) == 2


def test_blocks_that_are_better_alone_and_worse_together_stay(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last block is judged with all before it, against the model that training began with."""
    monkeypatch.setattr(walk, "cost", lambda errors, costs: -train.cost(errors, costs))
    start = rounded(model, TEXT_GENERATION)
    said: list[str] = []
    found = learned(model, start, tmp_path / "run", progress=said.append)
    assert sum("error goes from" in line for line in said) == 2
    assert "no better than before training" in said[-1]
    assert {tensor.method for tensor in found.values()} == {NEAREST.name}


def test_an_interrupted_training_comes_to_the_same_bytes(model: Path, tmp_path: Path) -> None:
    start = rounded(model, TEXT_GENERATION)
    undisturbed = learned(model, start, tmp_path / "whole")

    def die(step: str) -> None:
        if step.startswith("learn block 2"):
            raise Killed

    with pytest.raises(Killed):
        learned(model, start, tmp_path / "run", progress=die)
    said: list[str] = []
    resumed = learned(model, start, tmp_path / "run", progress=said.append)
    assert sum("error goes from" in line for line in said) == 1  # the second block's only
    for name, codes in (("whole", undisturbed), ("resumed", resumed)):
        save_codes(tmp_path / f"{name}.npz", codes)
    assert (tmp_path / "whole.npz").read_bytes() == (tmp_path / "resumed.npz").read_bytes()


def test_only_the_weights_that_are_asked_for_are_trained(model: Path, tmp_path: Path) -> None:
    start = rounded(model, TEXT_GENERATION)
    wanted = frozenset(name for name in start if "down_proj" in name)
    found = learned(model, start, tmp_path / "run", trained=wanted)
    assert {n for n, tensor in found.items() if tensor.method == "learned"} == wanted
