"""Small transformers with random weights and outlier channels, as .onnx files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Block = Callable[[str, str], str]
WIDTH, HEADS, LAYERS, TOKENS, LABELS = 96, 4, 3, 12, 6
OUTLIERS = (3, 40, 77)


class Transformer:
    """A classifier of sequences of vectors.

    is_pre_norm: as in ViT, whose outliers are in what norms give to the layers; otherwise as in
    BERT, where they stay in the sum that all layers add to. outlier: how many times as large.
    """

    def __init__(self, is_pre_norm: bool, outlier: float, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self._is_pre_norm, self._outlier = is_pre_norm, outlier
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, np.ndarray] = {}

    def save(self, path: Path) -> Path:
        """Write it; the input is x (1, TOKENS, WIDTH), the output y (1, LABELS)."""
        value = "x" if self._is_pre_norm else self._norm("x", "embeddings")
        for layer in range(LAYERS):
            value = self._block(value, f"attention{layer}", self._attention)
            value = self._block(value, f"mlp{layer}", self._mlp)
        if self._is_pre_norm:
            value = self._norm(value, "last")
        first = self._add("Gather", [value, self._constant("first", np.array(0))], axis=1)
        self._linear(first, "head", WIDTH, LABELS, self._outlier, output="y")
        stored = [numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        shapes = {"x": [1, TOKENS, WIDTH], "y": [1, LABELS]}
        inputs, outputs = (
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])] for name in "xy"
        )
        graph = helper.make_graph(self._nodes, "transformer", inputs, outputs, stored)
        opset = [helper.make_opsetid("", 20)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
        return path

    def _block(self, value: str, name: str, inside: Block) -> str:
        if self._is_pre_norm:
            return self._add("Add", [value, inside(self._norm(value, name), name)])
        return self._norm(self._add("Add", [value, inside(value, name)]), name)

    def _norm(self, value: str, name: str) -> str:
        gain = self._rng.uniform(0.5, 1.5, WIDTH)
        gain[list(OUTLIERS)] *= self._outlier
        shift = self._rng.normal(0, 0.1, WIDTH)
        shift[list(OUTLIERS)] *= self._outlier
        names = [
            value,
            self._constant(f"{name}.gain", gain),
            self._constant(f"{name}.shift", shift),
        ]
        return self._add("LayerNormalization", names, axis=-1)

    def _attention(self, value: str, name: str) -> str:
        size = WIDTH // HEADS
        heads = self._constant("heads", np.array([1, TOKENS, HEADS, size]))
        parts = []
        for part, order in (
            ("query", [0, 2, 1, 3]),
            ("key", [0, 2, 3, 1]),
            ("value", [0, 2, 1, 3]),
        ):
            own = self._linear(value, f"{name}.{part}", WIDTH, WIDTH, self._outlier)
            parts.append(self._add("Transpose", [self._add("Reshape", [own, heads])], perm=order))
        scores = self._add("MatMul", parts[:2])
        scale = self._constant("scale", np.array(size**-0.5))
        chances = self._add("Softmax", [self._add("Mul", [scores, scale])], axis=-1)
        mixed = self._add(
            "Transpose", [self._add("MatMul", [chances, parts[2]])], perm=[0, 2, 1, 3]
        )
        whole = self._constant("whole", np.array([1, TOKENS, WIDTH]))
        return self._linear(self._add("Reshape", [mixed, whole]), f"{name}.out", WIDTH, WIDTH, 1.0)

    def _mlp(self, value: str, name: str) -> str:
        inner = self._linear(value, f"{name}.in", WIDTH, 4 * WIDTH, self._outlier)
        return self._linear(self._add("Gelu", [inner]), f"{name}.out", 4 * WIDTH, WIDTH, 1.0)

    def _linear(
        self, value: str, name: str, rows: int, columns: int, outlier: float, output: str = ""
    ) -> str:
        """A product and its bias; outliers of the input count no more than other channels."""
        weight = self._rng.normal(0, rows**-0.5, (rows, columns))
        if rows == WIDTH:
            weight[list(OUTLIERS)] /= outlier
        product = self._add("MatMul", [value, self._constant(f"{name}.weight", weight)])
        bias = self._constant(f"{name}.bias", self._rng.normal(0, 0.1, columns))
        return self._add("Add", [product, bias], output)

    def _constant(self, name: str, array: np.ndarray) -> str:
        self._constants[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return name

    def _add(self, operator: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        output = output or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output
