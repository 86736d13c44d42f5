"""Whether the costs that decide what of a net runs in codes hold on this machine.

    python benchmarks/kernel_costs.py [SIDE ...]

Convolutions on images of these sides (without any, 40 and 10 pixels) run in onnxruntime with one
thread, in floats and in 8-bit codes, and their kernels' median times are printed next to those of
`edgeq.models.graphs.kernel_costs`. The last line counts where both name the same of the two as
faster. Differences that another operator would tip, under a tenth, are left out of it.
"""

from __future__ import annotations

import collections
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeq.models.graphs.kernel_costs import costs

_RUNS = 15
_CHANNELS = ((3, 16), (8, 16), (16, 32), (32, 64), (64, 64), (128, 128), (256, 256))
_DEPTHWISE = (16, 40, 64, 128)
_KERNELS = (1, 3, 5)
_CLOSE = 0.1  # relative
_MOST_PRODUCTS = 4e8


@dataclass(frozen=True)
class Convolution:
    """One that keeps the size of its image."""

    inputs: int
    filters: int
    kernel: int
    side: int
    groups: int = 1

    def __str__(self) -> str:
        """For a line of the table."""
        shape = f"{self.inputs:4} → {self.filters:4}, {self.kernel} × {self.kernel}"
        return f"{shape}, {self.side:3} px, {self.groups:3} groups"

    @property
    def products(self) -> float:
        """Multiplications of one run."""
        made = self.filters * self.side**2
        return made * self.inputs / self.groups * self.kernel**2


def grid(sides: list[int]) -> Iterator[Convolution]:
    """Dense convolutions, and depthwise ones."""
    for side, (inputs, filters), kernel in itertools.product(sides, _CHANNELS, _KERNELS):
        found = Convolution(inputs, filters, kernel, side)
        if found.products <= _MOST_PRODUCTS:
            yield found
    for side, channels, kernel in itertools.product(sides, _DEPTHWISE, (3, 5)):
        yield Convolution(channels, channels, kernel, side, channels)


def model(asked: Convolution, in_codes: bool) -> onnx.ModelProto:
    """A net of nothing but this convolution, between codes where asked."""
    rng = np.random.default_rng(0)
    shape = (asked.filters, asked.inputs // asked.groups, asked.kernel, asked.kernel)
    weights = rng.integers(-127, 128, shape).astype(np.int8)
    scales = np.full(asked.filters, 0.001, np.float32)
    settings = {
        "kernel_shape": [asked.kernel] * 2,
        "pads": [asked.kernel // 2] * 4,
        "group": asked.groups,
    }
    constants: dict[str, np.ndarray] = {"w": weights * np.float32(0.001)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], **settings)]
    if in_codes:
        constants = {
            "w.codes": weights,
            "w.scales": scales,
            "scale": np.array(0.02, np.float32),
            "zero": np.array(128, np.uint8),
        }
        nodes = [
            *_round_trip("x", "x.seen"),
            helper.make_node("DequantizeLinear", ["w.codes", "w.scales"], ["w"], axis=0),
            helper.make_node("Conv", ["x.seen", "w"], ["y.wide"], **settings),
            *_round_trip("y.wide", "y"),
        ]
    image = [1, asked.inputs, asked.side, asked.side]
    result = [1, asked.filters, asked.side, asked.side]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _round_trip(name: str, out: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}.codes"]),
        helper.make_node("DequantizeLinear", [f"{name}.codes", "scale", "zero"], [out]),
    ]


def measured(made: onnx.ModelProto, kinds: tuple[str, ...]) -> float:
    """Nanoseconds of the kernels of these kinds, the median of several runs."""
    shape = [each.dim_value for each in made.graph.input[0].type.tensor_type.shape.dim]
    image = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(made.SerializeToString(), options)
        for _ in range(_RUNS):
            session.run(None, {"x": image})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, list[float]] = collections.defaultdict(list)
    for event in events:
        kind = event.get("args", {}).get("op_name")
        if event["name"].endswith("_kernel_time") and kind in kinds:
            times[event["name"]].append(event["dur"] * 1e3)
    return sum(map(statistics.median, times.values()))


def expected(asked: Convolution) -> tuple[float, float]:
    """Nanoseconds in floats and in codes, by the constants."""
    graph = ir.from_proto(model(asked, in_codes=False)).graph
    return costs(graph.node(0), {"y": asked.filters * asked.side**2})


def main(sides: list[int]) -> None:
    print(f"{'convolution':46}  floats, µs: here, constants   codes, µs: here, constants")
    right = counted = 0
    for asked in grid(sides):
        here = (
            measured(model(asked, in_codes=False), ("Conv", "FusedConv")),
            measured(model(asked, in_codes=True), ("QLinearConv", "Conv", "FusedConv")),
        )
        known = expected(asked)
        (a, b), (c, d) = ((each / 1e3 for each in pair) for pair in (here, known))
        print(f"{asked!s:46} {a:16.1f} {c:10.1f} {b:17.1f} {d:10.1f}", flush=True)
        if min(abs(pair[0] / pair[1] - 1) for pair in (here, known)) > _CLOSE:
            counted += 1
            right += (here[0] < here[1]) == (known[0] < known[1])
    print(f"the same is faster in {right} of {counted}")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [40, 10])
