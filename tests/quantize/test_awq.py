"""Factors that AWQ folds into a graph change no float, and what is rounded comes out better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.formats.onnx.folded import fold_graph
from edgeq.models.architectures import decoder_of
from edgeq.models.graphs.decoder_onnx import decoder_feeds, export_decoder
from edgeq.models.graphs.weights import Weight
from edgeq.models.huggingface import read_directory
from edgeq.models.onnx_session import open_session
from edgeq.quantize.methods import RoundingMethod
from edgeq.quantize.methods.awq import AWQ
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.methods.objective import Moments
from edgeq.quantize.number_formats import NumberFormat
from edgeq.quantize.number_formats.integers import INT4_B32

WREN = Path(__file__).parents[2] / "recipes" / "wren"


def test_a_folded_graph_computes_the_same_floats(tmp_path: Path) -> None:
    plain, folded = tmp_path / "plain", tmp_path / "folded"
    for folder in (plain, folded):
        folder.mkdir()
    directory = read_directory(WREN, "test")
    export_decoder(directory, plain)
    windows = np.random.default_rng(0).integers(2, 4000, (3, 48)).tolist()
    feeds = decoder_feeds(decoder_of(directory.config, "test"), windows)

    def foldable(weight: Weight) -> tuple[RoundingMethod, NumberFormat] | None:
        return (AWQ, INT4_B32) if "layers" in weight.name else None

    folds = fold_graph(plain, folded, foldable, feeds)
    assert any("layernorm" in fold.taker for fold in folds)
    assert any("up_proj" in fold.taker for fold in folds)
    assert all("layers" in name for fold in folds for name in fold.weights)
    sessions = [open_session(folder / "model.onnx", threads=1) for folder in (plain, folded)]
    for feed in feeds:
        logits = [session.run(["logits"], dict(feed))[0] for session in sessions]
        assert np.array_equal(*logits)


@pytest.mark.parametrize("strongest", [1, 100])
def test_factors_follow_inputs_that_matter(strongest: float) -> None:
    generator = np.random.default_rng(1)
    inputs = generator.standard_normal((4096, 64)).astype(np.float32)
    inputs[:, 7] *= strongest
    weight = generator.standard_normal((48, 64)).astype(np.float32)
    moments = Moments((inputs.T @ inputs / len(inputs)).astype(np.float64))
    factors = AWQ.column_factors([weight], moments, INT4_B32)
    if strongest == 1:
        assert factors is None or np.abs(np.log2(factors)).max() <= 1
        return
    assert factors is not None
    assert factors[7] == factors.max() > np.median(factors)
    mantissas, _ = np.frexp(factors)
    assert (mantissas == 0.5).all(), "only powers of two are exact"

    def error(scaled: np.ndarray) -> float:
        rounded = NEAREST.round(weight * scaled, None, INT4_B32).dequantize() / scaled
        return float(np.square(inputs @ (rounded - weight).T).mean())

    assert error(factors) < 0.5 * error(np.ones(64, np.float32))
