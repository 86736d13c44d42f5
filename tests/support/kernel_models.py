"""Small models of one operator each, and a program that runs them all and prints their answers.

`python -m tests.support.kernel_models FOLDER` runs what `write_models(FOLDER)` wrote, in any
process: on this CPU, on one with instruction sets hidden, or in an emulator. Nothing but numpy and
onnxruntime is imported there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ROWS, INNER, COLUMNS = 5, 96, 72


def write_models(folder: Path) -> list[str]:
    """Write `<name>.onnx` and `<name>.npz`, its inputs, for every model; the names."""
    import onnx

    rng = np.random.default_rng(7)
    models = {**_integer_products(rng), **_four_bits(rng), **_floats(rng)}
    for name, (nodes, constants, inputs) in models.items():
        made = _model(nodes, constants, inputs)
        onnx.save(made, folder / f"{name}.onnx")
        feeds: dict[str, Any] = dict(inputs)
        np.savez(folder / f"{name}.npz", **feeds)
    return sorted(models)


Model = tuple[list[Any], Mapping[str, Array], Mapping[str, Array]]


def _integer_products(rng: np.random.Generator) -> dict[str, Model]:
    from onnx import helper

    def codes(dtype: type, *shape: int) -> Array:
        # All of the range: large values are what saturates.
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)

    models: dict[str, Model] = {}
    kinds = {"u8": np.uint8, "s8": np.int8}
    for left, right in (("u8", "s8"), ("u8", "u8"), ("s8", "s8")):
        a, b = codes(kinds[left], ROWS, INNER), codes(kinds[right], INNER, COLUMNS)
        node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
        models[f"integer_{left}{right}"] = ([node], {"b": b}, {"a": a})
    node = helper.make_node(
        "QGemm",
        ["a", "as", "az", "b", "bs", "bz", "", "ys", "yz"],
        ["y"],
        domain="com.microsoft",
    )
    scalars = {
        "as": np.float32(0.02),
        "az": np.uint8(3),
        "b": codes(np.int8, INNER, COLUMNS),
        "bs": np.float32(0.01),
        "bz": np.int8(0),
        "ys": np.float32(0.5),
        "yz": np.uint8(128),
    }
    constants = {name: np.asarray(value) for name, value in scalars.items()}
    models["qgemm"] = ([node], constants, {"a": codes(np.uint8, ROWS, INNER)})
    node = helper.make_node(
        "DynamicQuantizeMatMul", ["x", "b", "bs"], ["y"], domain="com.microsoft"
    )
    weights = {"b": codes(np.int8, INNER, COLUMNS), "bs": np.asarray(np.float32(0.01))}
    x = rng.standard_normal((ROWS, INNER)).astype(np.float32)
    models["dynamic"] = ([node], weights, {"x": x})
    return models


def _four_bits(rng: np.random.Generator) -> dict[str, Model]:
    from onnx import helper

    models: dict[str, Model] = {}
    for level in (0, 4):
        for block in (16, 32):
            node = helper.make_node(
                "MatMulNBits",
                ["x", "codes", "scales"],
                ["y"],
                domain="com.microsoft",
                K=INNER,
                N=COLUMNS,
                bits=4,
                block_size=block,
                accuracy_level=level,
            )
            shape = (COLUMNS, INNER // block, block // 2)
            scales = rng.uniform(0.01, 0.1, COLUMNS * INNER // block).astype(np.float32)
            constants = {"codes": rng.integers(0, 256, shape, np.uint8), "scales": scales}
            x = rng.standard_normal((ROWS, INNER)).astype(np.float32)
            models[f"int4_level{level}_block{block}"] = ([node], constants, {"x": x})
    return models


def _floats(rng: np.random.Generator) -> dict[str, Model]:
    from onnx import helper

    x = rng.standard_normal((ROWS, INNER)).astype(np.float32)
    b = rng.standard_normal((INNER, COLUMNS)).astype(np.float32)
    one = np.ones(INNER, np.float32)
    nodes = {
        "product": (helper.make_node("MatMul", ["x", "b"], ["y"]), {"b": b}),
        "softmax": (helper.make_node("Softmax", ["x"], ["y"]), {}),
        "gelu": (helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"), {}),
        "layer_norm": (
            helper.make_node("LayerNormalization", ["x", "one", "zero"], ["y"]),
            {"one": one, "zero": 0 * one},
        ),
    }
    return {name: ([node], constants, {"x": x}) for name, (node, constants) in nodes.items()}


def _model(nodes: list[Any], constants: Mapping[str, Array], inputs: Mapping[str, Array]) -> Any:
    from onnx import helper, numpy_helper

    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in inputs.items()
    ]
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    # Its type is left to onnxruntime to infer: 0 is "undefined".
    output = helper.make_empty_tensor_value_info("y")
    graph = helper.make_graph(nodes, "kernel", values, [output], held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run_models(folder: Path) -> None:
    """Print a line for every model in `folder`: its name and the SHA-256 of its answer."""
    import hashlib

    import onnxruntime

    for path in sorted(folder.glob("*.onnx")):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options)
        with np.load(path.with_suffix(".npz")) as feeds:
            (answer,) = session.run(None, dict(feeds))
        print(path.stem, hashlib.sha256(answer.tobytes()).hexdigest())


if __name__ == "__main__":
    run_models(Path(sys.argv[1]))
