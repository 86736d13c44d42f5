"""Learned rounding: it gains where there is something to gain, and is resumed to the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="recovery is not installed")
pytest.importorskip("transformers", reason="recovery is not installed")

import torch

from edgeq.core.errors import InvalidInput
from edgeq.core.steps import Steps
from edgeq.core.tasks import SENTENCE_EMBEDDING, TEXT_GENERATION, Task
from edgeq.core.terms import Progress
from edgeq.models.architectures import decoder_of
from edgeq.models.huggingface import read_directory
from edgeq.models.original.network import open_network
from edgeq.models.original.reproducible import reproducible
from edgeq.models.weights import open_weights
from edgeq.pipeline.distil.network import Answers, Network, Predictions
from edgeq.pipeline.learn import train
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


def rounded(folder: Path, stored_as: str = "int4-b32") -> dict[str, QuantizedTensor]:
    """Codes of every linear layer's weight, by rounding to nearest."""
    directory = read_directory(folder, "test")
    weights = open_weights(directory)
    return {
        name: NEAREST.round(weights.read(name), None, number_format(stored_as))
        for name, facts in directory.tensors.items()
        if ".layer" in name and len(facts.shape) == 2
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
    directory = read_directory(folder, "test")
    samples = inputs or feeds(with_mask=not task.generates)
    names = sorted(trained or frozenset(start))
    with reproducible(1):
        network: Network = (
            Predictions(directory, decoder_of(directory.config, "test"))
            if task.generates
            else Answers(directory, task)
        )
        return train.train(network, start, names, samples, 3, Steps(place), progress)


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
    start = rounded(model)
    found = learned(model, start, tmp_path / "run", inputs=feeds(count=27))
    assert list(found) == list(start)
    assert {tensor.method for tensor in found.values()} == {"learned"}
    new = [{"input_ids": np.random.default_rng(7).integers(5, 60, (1, 30))}]
    before, after = (lost(model, TEXT_GENERATION, codes, new) for codes in (start, found))
    assert after < 0.97 * before, (before, after)


def test_encoders_are_trained_on_samples_of_any_length(tmp_path: Path) -> None:
    folder = tiny_bert.save_bert(tmp_path / "model")
    start = rounded(folder)
    found = learned(folder, start, tmp_path / "run", SENTENCE_EMBEDDING)
    new = feeds(with_mask=True)
    before, after = (lost(folder, SENTENCE_EMBEDDING, codes, new) for codes in (start, found))
    assert after < before


def test_a_weight_that_no_sample_needs_keeps_its_codes(tmp_path: Path) -> None:
    """As an expert that no token is sent to in a step: no gradient reaches it."""
    folder = tiny_bert.save_bert(tmp_path / "model")
    weights = open_weights(read_directory(folder, "test"))
    (name,) = (name for name in weights if name.endswith("pooler.dense.weight"))
    unused = NEAREST.round(weights.read(name), None, number_format("int4-b32"))
    found = learned(folder, rounded(folder) | {name: unused}, tmp_path / "run", SENTENCE_EMBEDDING)
    assert np.array_equal(found[name].dequantize(), unused.dequantize())


def test_codes_that_training_cannot_improve_stay(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps so large that they ruin every layer."""
    monkeypatch.setattr(train, "_CODES_RATE", 5.0)
    start = rounded(model)
    said: list[str] = []
    found = learned(model, start, tmp_path / "run", progress=said.append)
    assert {tensor.method for tensor in found.values()} == {NEAREST.name}
    for name, tensor in start.items():
        assert np.array_equal(found[name].dequantize(), tensor.dequantize())
    assert "nothing better on held-out samples" in said[-1]


def test_what_is_kept_is_what_was_best_on_held_out_samples(model: Path, tmp_path: Path) -> None:
    """The distance that is said is that of the codes that are stored."""
    start, said = rounded(model), list[str]()
    found = learned(model, start, tmp_path / "run", progress=said.append)
    distance = float(said[-1].split(" to ")[1].split()[0])
    assert lost(model, TEXT_GENERATION, found, [feeds()[7]]) == pytest.approx(distance, rel=1e-3)
    assert min(float(line.split("KL ")[1].split()[0]) for line in said if ": step" in line) == (
        distance
    )


def test_an_interrupted_training_comes_to_the_same_bytes(model: Path, tmp_path: Path) -> None:
    start = rounded(model)
    undisturbed = learned(model, start, tmp_path / "whole")

    def die(step: str) -> None:
        if step.startswith("learn: step 5"):
            raise Killed

    with pytest.raises(Killed):
        learned(model, start, tmp_path / "run", progress=die)
    said: list[str] = []
    resumed = learned(model, start, tmp_path / "run", progress=said.append)
    assert "resume after step 4 of 16" in said[0]
    for name, codes in (("whole", undisturbed), ("resumed", resumed)):
        save_codes(tmp_path / f"{name}.npz", codes)
    assert (tmp_path / "whole.npz").read_bytes() == (tmp_path / "resumed.npz").read_bytes()


def test_only_the_weights_that_are_asked_for_are_trained(model: Path, tmp_path: Path) -> None:
    start = rounded(model)
    wanted = frozenset(name for name in start if "down_proj" in name)
    found = learned(model, start, tmp_path / "run", trained=wanted, inputs=feeds(count=27))
    assert {n for n, tensor in found.items() if tensor.method == "learned"} == wanted


def test_a_weight_under_another_name_is_refused(model: Path) -> None:
    directory = read_directory(model, "test")
    network = Predictions(directory, decoder_of(directory.config, "test"))
    with pytest.raises(InvalidInput, match=r"has no weight model\.layers\.0\.mlp\.fused"):
        network.places("model.layers.0.mlp.fused.weight")


def test_a_table_that_is_the_output_layer_too_is_trained_as_both(
    model: Path, tmp_path: Path
) -> None:
    """With all other weights in floats, what its codes lose is less on new inputs."""
    name = "model.embed_tokens.weight"
    weights = open_weights(read_directory(model, "test"))
    start = {name: NEAREST.round(weights.read(name), None, number_format("int4-b32"))}
    found = learned(model, start, tmp_path / "run", inputs=feeds(count=27))
    assert found[name].method == "learned"
    new = [{"input_ids": np.random.default_rng(7).integers(5, 60, (1, 30))}]
    before, after = (lost(model, TEXT_GENERATION, codes, new) for codes in (start, found))
    assert after < 0.97 * before, (before, after)


def test_a_table_of_an_encoder_is_trained(tmp_path: Path) -> None:
    folder = tiny_bert.save_bert(tmp_path / "model")
    weights = open_weights(read_directory(folder, "test"))
    (name,) = (name for name in weights if name.endswith("word_embeddings.weight"))
    start = {name: NEAREST.round(weights.read(name), None, number_format("int4-b32"))}
    found = learned(folder, start, tmp_path / "run", SENTENCE_EMBEDDING)
    before, after = (
        lost(folder, SENTENCE_EMBEDDING, codes, feeds(with_mask=True)) for codes in (start, found)
    )
    assert after < before
