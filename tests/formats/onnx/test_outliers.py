"""Transformers with channels far larger than the rest, whose labels 8 bits often change."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from edgeq.core.artifact import MODEL_FILE
from edgeq.formats.onnx.write import write_quantized
from edgeq.models.graphs.imported import import_onnx
from edgeq.models.graphs.opened import load_graph
from edgeq.models.onnx_session import open_session
from edgeq.quantize.decide import Decision, decide
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import preset
from tests.support.outlier_models import TOKENS, WIDTH, Transformer

KINDS = {"vit": Transformer(is_pre_norm=True, outlier=60), "bert": Transformer(False, outlier=25)}
Feeds = list[dict[str, np.ndarray]]


def sequences(count: int, seed: int) -> Feeds:
    rng = np.random.default_rng(seed)
    own = rng.standard_normal((count, 1, TOKENS, WIDTH)) + rng.standard_normal((count, 1, 1, WIDTH))
    return [{"x": each.astype(np.float32)} for each in own]


CALIBRATION, EVALUATION = sequences(128, seed=1), sequences(300, seed=2)


class Reader(CalibrationDataReader):
    """Calibration data as onnxruntime's tool takes it."""

    def __init__(self) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = iter(CALIBRATION)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


@pytest.fixture(scope="module", params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return KINDS[request.param].save(folder / "source.onnx")


def labels(model: Path) -> np.ndarray:
    session = open_session(model, threads=1)
    return np.array([session.run(None, feed)[0].argmax() for feed in EVALUATION])


def test_what_is_trained_are_the_weights_of_the_model(source: Path, tmp_path: Path) -> None:
    """Codes of smoothed weights, or without their outliers, are others."""
    plain, folder = tmp_path / "float", tmp_path / "trained"
    plain.mkdir()
    folder.mkdir()
    import_onnx(source, plain)
    intent = Intent(preset("int8-dynamic", "onnx", "tensor"), "onnx", "tensor")
    given: dict[str, QuantizedTensor] = {}

    def learned(name: str, shape: tuple[int, ...]) -> Decision:
        decision = decide(name, shape, intent)
        choice = decision.choice
        return (
            decision
            if choice is None
            else replace(decision, choice=replace(choice, method="learned"))
        )

    def train(
        codes: Mapping[str, QuantizedTensor], trained: frozenset[str]
    ) -> Mapping[str, QuantizedTensor]:
        assert trained <= set(codes)
        given.update(codes)
        return codes

    written = write_quantized(plain, folder, learned, CALIBRATION, str, train)
    assert 0 < len(given) < len(written.tensors), "some are smoothed here"
    weights = load_graph(plain).graph.initializers
    for name, tensor in given.items():
        held = weights[name].const_value
        assert held is not None
        rows = tensor.dequantize()
        held_rows = [own for own in (held.numpy(), held.numpy().T) if own.shape == rows.shape]
        far = [np.linalg.norm(rows - own) / np.linalg.norm(own) for own in held_rows]
        assert min(far) < 0.05, name


def test_labels_stay_as_they_are(source: Path, tmp_path: Path) -> None:
    wanted = labels(source)
    folders = {name: tmp_path / name for name in ("float", "int8-static", "int8-dynamic")}
    for folder in folders.values():
        folder.mkdir()
    plain = folders.pop("float")
    import_onnx(source, plain)
    for name, folder in folders.items():
        intent = Intent(preset(name, "onnx", "tensor"), "onnx", "tensor")
        written = write_quantized(
            plain,
            folder,
            functools.partial(decide, intent=intent),
            CALIBRATION,
            str,
            limit=0.08,
            around_mean=True,
        )
        assert {tensor.number_format for tensor in written.tensors.values()} == {"int8"}
        assert (labels(folder / MODEL_FILE) == wanted).mean() > 0.98, name
    ruined = tmp_path / "theirs.onnx"
    quantize_static(source, ruined, Reader(), per_channel=True, weight_type=QuantType.QInt8)
    assert (labels(ruined) == wanted).mean() < 0.9
