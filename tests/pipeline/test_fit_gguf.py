"""GGUF files of any architecture fitted into a size, by statistics from llama.cpp itself."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import read_header
from edgeq.formats.gguf.imatrix import read_imatrix, write_imatrix
from edgeq.formats.gguf.inside import Scored, importance_inside
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.gguf.products import Product, Watch, open_watched
from edgeq.measure.scoring import score
from edgeq.pipeline import quantize_gguf
from edgeq.pipeline.allocate.whole_file import candidates
from edgeq.pipeline.quantize_gguf import fit_gguf
from edgeq.quantize.ggml.types import TYPES

TEXT = Path(__file__).parents[2] / "recipes" / "data" / "wren-calibration.txt"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQ_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT.read_text(encoding="utf-8")[:40000], encoding="utf-8")
    return path


def test_it_fits_and_what_it_loses_is_measured(
    foreign: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize_gguf, "default_threads", lambda: 1)
    monkeypatch.setattr(quantize_gguf, "_LEARNT", 6)
    out, limit = tmp_path / "out.gguf", foreign.stat().st_size // 5
    found = fit_gguf(foreign, out, f"{limit} B", text, str)
    assert 0.9 * limit < out.stat().st_size <= limit
    names, written = candidates(read_header(foreign)), read_header(out).tensors
    for type, count in found.types.items():
        assert count == sum(written[name].type is TYPES[type] for name in names)
    assert len(found.types) > 1
    assert 0 < found.predicted / 4 < found.kl < 4 * found.predicted


def test_what_is_measured_is_measured_once(
    foreign: Path, text: Path, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped command goes on where it was, and another size asks for no pass at all."""
    monkeypatch.setattr(quantize_gguf, "default_threads", lambda: 1)
    monkeypatch.setattr(quantize_gguf, "_LEARNT", 10)
    size = foreign.stat().st_size
    fit_gguf(foreign, tmp_path / "whole.gguf", f"{size // 5} B", text, str)
    store.rename(tmp_path / "elsewhere")

    def run(limit: int, stop: str) -> list[str]:
        steps: list[str] = []

        def progress(step: str) -> None:
            steps.append(step)
            if step.startswith(stop):
                raise KeyboardInterrupt

        if stop == "never":
            fit_gguf(foreign, tmp_path / "out.gguf", f"{limit} B", text, progress)
        else:
            with pytest.raises(KeyboardInterrupt):
                fit_gguf(foreign, tmp_path / "out.gguf", f"{limit} B", text, progress)
        return [step for step in steps if step.startswith(("importance", "cost"))]

    assert run(size // 5, "importance: window 10")[0] == "importance: window 1 of 10"
    assert run(size // 5, "cost of errors: 4")[0] == "importance: window 9 of 10"
    measured = run(size // 5, "never")
    assert measured[0].startswith("cost of errors: 1 of")
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert run(size // 4, "never") == []


def test_ctrl_c_ends_a_pass(foreign: Path) -> None:
    """Sent where Python would lose it: while llama.cpp calls back."""
    seen: list[str] = []

    def take(product: Product) -> None:
        seen.append(product.weight)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)

    names = candidates(read_header(foreign))
    watch, model = Watch(names, take), LlamaModel(foreign)
    open_watched(model, watch, 16, 1, 1)
    # As in a terminal: a process started in the background ignores the signal.
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), watch.passing():
            model.decode_last(np.arange(300, 316, dtype=np.int32), 1)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, outside)
    assert len(seen) == 3 < len(names)


def test_a_size_that_nothing_keeps_is_refused(foreign: Path, text: Path, tmp_path: Path) -> None:
    for size, what in (("1 KiB", "at least"), ("12", "has no unit"), ("2 parsec", "known unit")):
        with pytest.raises(InvalidInput, match=what):
            fit_gguf(foreign, tmp_path / "out.gguf", size, text, str)
    text.write_text("Too little.")
    with pytest.raises(InvalidInput, match="window"):
        fit_gguf(foreign, tmp_path / "out.gguf", "1 MiB", text, str)


def test_noise_in_one_weights_results_is_as_strong_as_asked(foreign: Path) -> None:
    """The divergence grows in proportion; other weights and a second run are as before."""
    scored = Scored(foreign, candidates(read_header(foreign)), [list(range(64))], 16, 1)
    (clean,), (again,) = scored.logits(), scored.logits()
    np.testing.assert_array_equal(clean, again)
    name = "blk.0.ffn_down.weight"
    seen = [
        score(clean, scored.logits(name, noise)[0], [0] * 16).kl.mean() for noise in (1e-3, 1e-2)
    ]
    assert 5 < seen[1] / seen[0] < 20


def test_each_expert_has_its_own_importance(mixture: Path, tmp_path: Path) -> None:
    header = read_header(mixture)
    windows = [list(range(64)), list(range(64, 128))]
    found = importance_inside(mixture, candidates(header), windows, "text", 1, str)
    assert found.sums.keys() == {*candidates(header)}
    for name in found.sums:
        counts, shape = np.asarray(found.counts[name]), header.tensors[name].shape
        if "_exps" in name:
            assert found.sums[name].shape == (4, shape[-1])
            assert counts.sum() == 2 * 128
            assert len(set(counts.tolist())) > 1
        else:
            assert counts == 128
    # Both products of the first layer's experts have the same inputs.
    gate, up = (found.sums[f"blk.0.ffn_{each}_exps.weight"] for each in ("gate", "up"))
    np.testing.assert_array_equal(gate, up)
    write_imatrix(tmp_path / "i.gguf", found)
    again = read_imatrix(tmp_path / "i.gguf")
    np.testing.assert_array_equal(
        again.counts["blk.0.ffn_up_exps.weight"], found.counts["blk.0.ffn_up_exps.weight"]
    )


def test_a_mixture_is_fitted_too(
    mixture: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize_gguf, "default_threads", lambda: 1)
    monkeypatch.setattr(quantize_gguf, "_LEARNT", 2)
    limit = mixture.stat().st_size // 4
    found = fit_gguf(mixture, tmp_path / "out.gguf", f"{limit} B", text, str)
    assert (tmp_path / "out.gguf").stat().st_size <= limit
    assert 0 < found.kl < 0.5
