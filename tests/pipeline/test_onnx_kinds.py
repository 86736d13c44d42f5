"""Every kind of .onnx file is built right or refused; the oracle is onnxruntime on the file."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput
from edgeq.formats.onnx.write import write_quantized
from edgeq.models.graphs.imported import import_onnx
from edgeq.models.onnx_session import open_session
from edgeq.pipeline.proof.onnx_original import open_original
from edgeq.pipeline.proof.onnx_prove import prove_onnx
from edgeq.quantize.decide import decide
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import preset
from edgeq.recipe import array_sets
from tests.support import onnx_kinds
from tests.support.onnx_kinds import Feed

CASES = Path(__file__).parents[3] / "shared" / "cases" / "onnx"
LIMITS = {"int8-dynamic": 0.05, "int8-static": 0.08, "int4-b32": 0.25}
ABSENT = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not here")


def difference(
    path: Path, folder: Path, variant: str, calibration: list[Feed], feed: Feed
) -> float:
    """Largest relative difference of an output from the untouched file's."""
    graph, target = folder / "float", folder / variant
    for each in (graph, target):
        each.mkdir(exist_ok=True)
    import_onnx(path, graph)
    prove_onnx(path, graph, [feed])
    intent = Intent(preset(variant, "onnx", "tensor"), "onnx", "tensor", ())
    write_quantized(graph, target, lambda n, s: decide(n, s, intent), calibration, lambda _: None)
    found = open_session(target / MODEL_FILE, threads=1).run(None, feed)
    worst = 0.0
    for a, b in zip(found, open_original(path).run(feed), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = (np.asarray(each, np.float64) for each in (a, b))
        worst = max(worst, float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-12))
    return worst


@pytest.mark.parametrize("variant", LIMITS)
@pytest.mark.parametrize("name", onnx_kinds.KINDS)
def test_a_kind_is_right_or_refused(name: str, variant: str, tmp_path: Path) -> None:
    path, feed = onnx_kinds.save(name, tmp_path)
    try:
        assert difference(path, tmp_path, variant, [feed], feed) < LIMITS[variant]
    except InvalidInput as error:
        assert "stays float32" in str(error)
        assert name in (
            "branch_of_an_open_length",
            "norm",
            "norm_in_training",
            "recurrent",
            "weight_read_in_two_orientations",
            "residual_with_silu",
            "hard_swish_and_numbers",
        ), error


# What is refused, and the reason: of a case in every variant, or in one.
REFUSED = {
    "conv_bias_input": "'w': stays float32: Conv has a bias that is computed",
    "conv_bn_training_mode:int8-dynamic": "'w': stays float32: .* only for static ranges",
    "conv_bn_training_mode:int4-b32": "'w': stays float32: .* only for static ranges",
    "lstm_layout0:int4-b32": "'W': stays float32: LSTM has quantized kernels only for int8",
    "lstm_small_w:int4-b32": "'R': stays float32: .* 'W' is small",
    "matmul_of_constant": "no weight of this model is to be quantized: every one is small",
    "nan_calibration": r"cal\.npz: the array 'x' contains NaN in sample 2",
    "sequence_output": r"model\.onnx: the output 'y' is a sequence",
}


@ABSENT
@pytest.mark.parametrize("variant", LIMITS)
@pytest.mark.parametrize("case", sorted(CASES.glob("*/eval.npz")), ids=lambda p: p.parent.name)
def test_a_case_is_right_or_refused(case: Path, variant: str, tmp_path: Path) -> None:
    path, name = case.parent / "model.onnx", case.parent.name
    reason = REFUSED.get(name) or REFUSED.get(f"{name}:{variant}")
    with pytest.raises(InvalidInput, match=reason) if reason else contextlib.nullcontext() as error:
        feeds = [_feeds(path, case.with_name(each))[0] for each in ("cal.npz", "eval.npz")]
        assert difference(path, tmp_path, variant, feeds[:1], feeds[1]) < LIMITS[variant]
    assert error is None or all(problem.remedy for problem in error.value.problems)


def _feeds(path: Path, arrays: Path) -> list[Feed]:
    ranks = {value.name: len(value.shape) for value in open_original(path).inputs}
    return list(array_sets.feeds(arrays, array_sets.read_arrays(arrays), ranks))
