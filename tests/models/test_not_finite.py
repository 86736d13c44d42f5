"""Numbers that are not finite are refused by name, wherever rounding would meet them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

from onnx import helper

from edgeq.core.errors import InvalidInput
from edgeq.formats.onnx.write import write_quantized
from edgeq.models.graphs.imported import import_onnx
from edgeq.quantize.decide import decide
from edgeq.quantize.model import scalable
from edgeq.quantize.number_formats import number_format
from edgeq.quantize.spec import Intent
from edgeq.quantize.storage import preset
from tests.support import onnx_kinds

VARIANTS = ("int8-static", "int8-b32", "int4-b32")


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_activation_that_overflows_is_named_with_its_sample(
    tmp_path: Path, variant: str
) -> None:
    """The sample is finite, and its square is not."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node("MatMul", ["square", "w"], ["y"]),
    ]
    x, y = onnx_kinds.value("x", ["n", 64]), onnx_kinds.value("y", ["n", 96])
    onnx.save(onnx_kinds.model(nodes, [x], [y], {"w": onnx_kinds.floats(64, 96)}), tmp_path / "m")
    (tmp_path / "float").mkdir()
    (tmp_path / "out").mkdir()
    import_onnx(tmp_path / "m", tmp_path / "float")
    feeds = [onnx_kinds.rows(), {"x": np.full((1, 64), 1e25, np.float32)}, onnx_kinds.rows()]
    intent = Intent(preset(variant, "onnx", "tensor"), "onnx", "tensor", ())
    if variant == "int8-b32":  # nothing of it is calibrated
        write_quantized(
            tmp_path / "float", tmp_path / "out", lambda n, s: decide(n, s, intent), feeds, print
        )
        return
    with pytest.raises(
        InvalidInput, match="the input of the weight 'w': is NaN or infinite on sample 1"
    ):
        write_quantized(
            tmp_path / "float", tmp_path / "out", lambda n, s: decide(n, s, intent), feeds, print
        )


@pytest.mark.parametrize(
    ("name", "size", "refused"),
    [
        ("int4-b32", 1e3, False),
        ("int4-b32", 1e6, True),
        ("int4-b32", 1e-9, True),
        ("int8-b32", 1e8, True),
    ],
)
def test_a_scale_beyond_float16_names_the_tensor(name: str, size: float, refused: bool) -> None:
    matrix = np.full((4, 32), size, np.float32)
    if not refused:
        assert scalable("layer.weight", matrix, number_format(name)) is matrix
        return
    with pytest.raises(InvalidInput) as error:
        scalable("layer.weight", matrix, number_format(name))
    (problem,) = error.value.problems
    assert problem.where == "the weight 'layer.weight'" and f"{size:.3g}" in problem.what
    assert "{match: 'layer.weight', use: float32}" in problem.remedy
