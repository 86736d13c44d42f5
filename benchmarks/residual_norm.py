"""Why exported graphs hold Sum and LayerNormalization instead of the fused operator.

    python benchmarks/residual_norm.py

onnxruntime has one kernel for "add the residual, then normalise"; the two it replaces are timed
against it, block by block in one run, at the shape of a small sentence encoder.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeq.core.threads import default_threads

TOKENS, WIDTH, LAYERS, BLOCKS = 128, 384, 12, 400


def model(fused: bool) -> bytes:
    """A chain of residual norms."""
    constants = [
        numpy_helper.from_array(np.ones(WIDTH, np.float32), "gain"),
        numpy_helper.from_array(np.zeros(WIDTH, np.float32), "shift"),
    ]
    nodes, last = [], "x"
    for index in range(LAYERS):
        out = f"y{index}"
        if fused:
            inputs = [last, "x", "gain", "shift"]
            node = helper.make_node("SkipLayerNormalization", inputs, [out], epsilon=1e-12)
            node.domain = "com.microsoft"
            nodes.append(node)
        else:
            nodes.append(helper.make_node("Sum", [last, "x"], [f"s{index}"]))
            inputs = [f"s{index}", "gain", "shift"]
            nodes.append(helper.make_node("LayerNormalization", inputs, [out], epsilon=1e-12))
        last = out
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, [1, TOKENS, WIDTH])],
        [value(last, TensorProto.FLOAT, None)],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return bytes(model.SerializeToString())


def main() -> None:
    """Print both medians and their ratio."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = default_threads()
    sessions = {
        name: onnxruntime.InferenceSession(model(name == "fused"), options)
        for name in ("fused", "apart")
    }
    feed = {"x": np.random.default_rng(0).standard_normal((1, TOKENS, WIDTH)).astype(np.float32)}
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(BLOCKS):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, feed)
            times[name].append(time.perf_counter() - start)
    fused, apart = (statistics.median(times[name]) for name in ("fused", "apart"))
    print(
        f"{LAYERS} residual norms of {TOKENS} × {WIDTH}: fused {fused * 1e3:.3f} ms, "
        f"Sum and LayerNormalization {apart * 1e3:.3f} ms, ratio {apart / fused:.2f}"
    )


if __name__ == "__main__":
    main()
