"""Weights of any shape in a float graph that runs in pieces, and what they can be stored as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.core.artifact import MODEL_FILE
from edgeq.models.graphs.imported import import_onnx
from edgeq.models.onnx_session import open_session
from edgeq.pipeline.allocate.chain import Chain
from edgeq.pipeline.allocate.options import find_options
from edgeq.pipeline.plan.plan import make_plan
from tests.support import onnx_models

RECIPE = """\
edgeq: 1
name: net
model: {source: net.onnx, task: tensor}
data: {calibration: {path: calibration.npz}}
quantize: {fit: {size: 100 kB}}
targets: [{format: onnx, devices: [here]}]
"""


def test_what_no_kernel_reads_in_codes_can_be_stored_in_them(tmp_path: Path) -> None:
    onnx_models.convolutional(tmp_path / "net.onnx")
    np.savez(tmp_path / "calibration.npz", image=np.zeros((16, 3, 32, 32), np.float32))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    planned = make_plan(tmp_path / "recipe.yaml", weights=True)
    found = find_options(planned.model, planned.recipe, "onnx")
    words = {name: tuple(option.use for option in own) for name, own in found.items()}
    expanded = ("int4-stored", "int8-stored", "float32")
    kernels = ("int4-b32", "int8-b32", "float32")
    assert words == {"c1.w": expanded, "c2.w": expanded, "fc.w": kernels}
    rounded = {option.use: option.kernel for option in (*found["c1.w"], *found["fc.w"])}
    assert {use for use, kernel in rounded.items() if kernel} == {"int4-b32", "int8-b32"}


@pytest.mark.parametrize(
    ("make", "feed", "name"),
    [
        (onnx_models.convolutional, ("image", (1, 3, 32, 32)), "c2.w"),
        (onnx_models.convolutional, ("image", (1, 3, 32, 32)), "fc.w"),
        (onnx_models.lstm, ("x", (12, 1, 32)), "r"),
        (onnx_models.lstm, ("x", (12, 1, 32)), "out.w"),
        (onnx_models.loop, ("x", (1, 96)), "step.w"),
    ],
)
def test_a_changed_weight_changes_what_onnxruntime_computes(
    make: Callable[[Path], Path], feed: tuple[str, tuple[int, ...]], name: str, tmp_path: Path
) -> None:
    import_onnx(make(tmp_path / "source.onnx"), tmp_path)
    array = np.random.default_rng(0).standard_normal(feed[1]).astype(np.float32)
    chain = Chain(tmp_path, [{feed[0]: array}], {name})
    weight = chain.weights[name]
    matrix = np.sign(weight.matrix()) * np.float32(0.01)
    ((plain,), (changed,)) = (
        [outputs[chain.outputs[0]].astype(np.float32) for outputs in chain.run(given)]
        for given in (None, {name: matrix})
    )
    np.testing.assert_allclose(plain, answer(tmp_path / MODEL_FILE, feed[0], array), 1e-4, 1e-5)
    model = onnx.load(tmp_path / MODEL_FILE)
    (stored,) = (each for each in model.graph.initializer if each.name == name)
    stored.CopyFrom(onnx.numpy_helper.from_array(onnx_sign(stored), name))
    onnx.save(model, tmp_path / "changed.onnx")
    np.testing.assert_allclose(
        changed, answer(tmp_path / "changed.onnx", feed[0], array), 1e-4, 1e-5
    )
    assert not np.allclose(plain, changed, 1e-3)


def onnx_sign(stored: onnx.TensorProto) -> np.ndarray:
    return np.asarray(np.sign(onnx.numpy_helper.to_array(stored)) * 0.01, np.float32)


def answer(model: Path, name: str, array: np.ndarray) -> np.ndarray:
    return np.asarray(open_session(model, threads=1).run(None, {name: array})[0])
