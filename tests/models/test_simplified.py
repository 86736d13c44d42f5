"""Graphs as exporters write them: shorter after the import, and with the same answers."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx
import onnxruntime

from edgeq.core.artifact import MODEL_FILE
from edgeq.models.graphs.imported import import_onnx

HEAD = '<ir_version: 9, opset_import: ["" : 17]>'
RNG = np.random.default_rng(0)
CONV = """
  w = Constant <value = float[4,4,3,3] {W}> ()
  v = Constant <value = float[4,1,3,3] {V}> ()
""".replace("{W}", "{" + ", ".join(f"{x:.4f}" for x in RNG.standard_normal(144)) + "}").replace(
    "{V}", "{" + ", ".join(f"{x:.4f}" for x in RNG.standard_normal(36)) + "}"
)
KINDS = {
    "channels last": (
        """
  a = Conv <pads = [1,1,1,1]> (x, w)
  b = Transpose <perm = [0,2,3,1]> (a)
  c = Constant <value = float[1,1,1,4] {1, 2, 3, 4}> ()
  d = Add (b, c)
  e = Cast <to = 1> (d)
  f = Sub (c, e)
  g = Div (f, c)
  h = Mul (g, c)
  i = Relu (h)
  j = Transpose <perm = [0,3,1,2]> (i)
  y = Conv <group = 4> (j, v)
""",
        ["Conv", "Relu", "Conv"],
    ),
    "hard swish": (
        """
  three = Constant <value = float {3}> ()
  zero = Constant <value = float {0}> ()
  six = Constant <value = float {6}> ()
  a = Conv (x, w)
  b = Add (a, three)
  c = Clip (b, zero, six)
  d = Mul (a, c)
  e = Div (d, six)
  y = Conv <pads = [1,1,1,1], group = 4> (e, v)
""",
        ["Conv", "HardSigmoid", "Mul", "Conv"],
    ),
    "numbers before a padded convolution": (
        """
  s = Constant <value = float[1] {0.5}> ()
  t = Constant <value = float[1] {-0.3}> ()
  a = Relu (x)
  b = Mul (s, a)
  c = Add (b, t)
  y = Conv <pads = [1,1,1,1]> (c, w)
""",
        ["Relu", "Add", "Conv"],
    ),
    "numbers before a convolution": (
        """
  s = Constant <value = float[1] {0.5}> ()
  t = Constant <value = float[1] {-0.3}> ()
  a = Relu (x)
  b = Mul (s, a)
  c = Add (b, t)
  y = Conv <group = 4> (c, v)
""",
        ["Relu", "Conv"],
    ),
    "a limit, and a softmax over channels": (
        """
  t = Constant <value = float[1,1,1] {-0.3}> ()
  a = Conv (x, w)
  b = Max (a, t)
  y = Softmax <axis = 1> (b)
""",
        ["Conv", "Clip", "ReduceMax", "Sub", "Exp", "ReduceSum", "Div"],
    ),
    "what other nodes read as well": (
        """
  t = Constant <value = float[4,1,1] {1, 2, 3, 4}> ()
  a = Conv (x, w)
  b = Add (a, t)
  y = Mul (a, b)
""",
        ["Conv", "Add", "Mul"],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_shorter_graph_has_the_same_answers(kind: str, tmp_path: Path) -> None:
    body, operators = KINDS[kind]
    text = f"{HEAD} g (float[1,4,9,9] x) => (float[1,4,n,m] y) {{ {CONV} {body} }}"
    source = tmp_path / "source.onnx"
    onnx.save(onnx.parser.parse_model(text), source)
    import_onnx(source, tmp_path)
    found = onnx.load(tmp_path / MODEL_FILE)
    assert [node.op_type for node in found.graph.node] == operators
    image = {"x": RNG.standard_normal((1, 4, 9, 9)).astype(np.float32)}
    np.testing.assert_allclose(
        run(tmp_path / MODEL_FILE, image), run(source, image), rtol=1e-4, atol=1e-5
    )


def run(path: Path, feed: dict[str, np.ndarray]) -> np.ndarray:
    """The answer of a file as it is written: without onnxruntime's own rewritings."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])
