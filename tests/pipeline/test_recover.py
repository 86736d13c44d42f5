"""Training an adapter: it gives something back, survives a kill, and is dropped if useless."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="recovery is not installed")
pytest.importorskip("transformers", reason="recovery is not installed")

import torch

from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.models.architectures import Decoder, decoder_of
from edgeq.models.huggingface import ModelDirectory, read_directory
from edgeq.models.weights import Weights
from edgeq.pipeline.distil.network import Predictions
from edgeq.pipeline.recover.record import Recovery
from edgeq.pipeline.recover.train import train
from edgeq.quantize.adapter import Adapter, planned_factors, save_adapter
from edgeq.quantize.number_formats import Floats
from edgeq.quantize.recover_spec import RecoverSpec
from tests.support import tiny_decoders

ROOT = Path(__file__).parents[2]
SPEC = RecoverSpec(rank=4, steps=6, learning_rate=0.002, seed=3)


def opened(folder: Path) -> tuple[ModelDirectory, Decoder]:
    directory = read_directory(folder, "test")
    return directory, decoder_of(directory.config, "test")


def rounded(
    directory: ModelDirectory, decoder: Decoder, step: float
) -> Iterator[tuple[str, Floats]]:
    """Every matrix in steps of `step` times its spread; with 0 as it is."""
    weights = Weights(directory.weight_files)
    for name, shape in decoder.tensors().items():
        if len(shape) == 2:
            rows = weights.read(name)
            unit = np.float32(step * rows.std()) or np.float32(2.0**-40)
            yield name, rows if step == 0 else np.rint(rows / unit) * unit


def recovered(
    folder: Path, steps: Path, step: float, spec: RecoverSpec, progress: Progress
) -> tuple[Adapter, Recovery]:
    """An adapter for the rounded model in `folder`, from sixteen short windows of random tokens."""
    directory, decoder = opened(folder)
    windows = np.random.default_rng(0).integers(3, 600, (16, 1, 20))
    samples = [{"input_ids": window} for window in windows]
    names = list(planned_factors(decoder.tensors(), spec.rank))
    values = rounded(directory, decoder, step)
    return train(directory, decoder, values, names, samples, spec, Steps(steps), progress, 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoders.make(tmp_path_factory.mktemp("model"), "smollm2")


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, Recovery, bytes]:
    """What an undisturbed training comes to, and its bytes."""
    folder = tmp_path_factory.mktemp("whole")
    adapter, record = recovered(model, folder / "steps", 1.0, SPEC, str)
    save_adapter(folder / "adapter.npz", adapter)
    return adapter, record, (folder / "adapter.npz").read_bytes()


def test_an_adapter_gives_something_back(
    model: Path, whole: tuple[Adapter, Recovery, bytes]
) -> None:
    """Seen by a plain forward pass of weights with the factors multiplied in."""
    adapter, record, _ = whole
    assert record.is_kept and record.kl_after < 0.99 * record.kl_before
    assert record.best_step > 3, "a resumed training has something left to do"
    assert (record.rank, record.seed, record.held_back_tokens) == (4, 3, 40)
    directory, decoder = opened(model)
    windows = np.random.default_rng(0).integers(3, 600, (16, 20))
    judges = torch.from_numpy(windows[7::8])

    def scores(change: Callable[[str, Floats], Floats], step: float) -> torch.Tensor:
        network = Predictions(directory, decoder)
        values = rounded(directory, decoder, step)
        network.freeze((name, change(name, rows)) for name, rows in values)
        with torch.no_grad():
            logits: torch.Tensor = network.model(input_ids=judges).logits
        return logits.log_softmax(-1)

    def multiplied(name: str, rows: Floats) -> Floats:
        if name not in adapter:
            return rows
        up, down = (part.astype(np.float32) for part in (adapter[name].up, adapter[name].down))
        return rows + up @ down

    full = scores(lambda _, rows: rows, 0.0)
    for change, recorded in ((lambda _, r: r, record.kl_before), (multiplied, record.kl_after)):
        found = (full.exp() * (full - scores(change, 1.0))).sum(-1).mean()
        assert float(found) == pytest.approx(recorded, rel=1e-3)


def test_a_killed_training_goes_on_to_the_same_bytes(
    model: Path, whole: tuple[Adapter, Recovery, bytes], tmp_path: Path
) -> None:
    program = f"""
import os, signal
from pathlib import Path
from tests.pipeline.test_recover import SPEC, recovered
def progress(step):
    if "step 4 of 6" in step:
        os.kill(os.getpid(), signal.SIGKILL)
recovered(Path({str(model)!r}), Path({str(tmp_path / "steps")!r}), 1.0, SPEC, progress)
"""

    def stop(step: str) -> None:
        if "window 9 of 16" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recovered(model, tmp_path / "steps", 1.0, SPEC, stop)
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert ran.returncode == -signal.SIGKILL
    cut_off = Steps(tmp_path / "steps").find("taught-2.npy")
    assert cut_off is not None
    cut_off.write_bytes(cut_off.read_bytes()[:200])  # what a power cut can leave
    steps: list[str] = []
    adapter, record = recovered(model, tmp_path / "steps", 1.0, SPEC, steps.append)
    assert any("resume after step 3" in step for step in steps)
    again = [step for step in steps if "window" in step]
    assert again == ["recover: run the full model, window 1 of 1"], "what is done is not done again"
    save_adapter(tmp_path / "adapter.npz", adapter)
    assert (tmp_path / "adapter.npz").read_bytes() == whole[2]
    assert record == whole[1]


def test_what_cannot_be_bettered_gets_no_adapter(model: Path, tmp_path: Path) -> None:
    """Nothing was lost: whatever an adapter adds is worse than none."""
    spec = RecoverSpec(rank=2, steps=2, learning_rate=1.0)
    adapter, record = recovered(model, tmp_path / "steps", 0.0, spec, str)
    assert adapter == {} and not record.is_kept
    assert record.kl_before == pytest.approx(0, abs=1e-9)
    assert "none of rank 2 was better" in record.why_none


def test_torch_is_left_as_it_was(whole: tuple[Adapter, Recovery, bytes]) -> None:
    assert not torch.are_deterministic_algorithms_enabled()
