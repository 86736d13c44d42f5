"""Small real models and artifacts for the tests: made with onnx, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgeq.core.artifact import (
    DATA_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    Artifact,
    ModelRecord,
    TensorRecord,
    TextSettings,
    ValueInfo,
    record_files,
    write_artifact,
)

WORDS = [
    *("a", "b", "c", "cat", "dog", "sat", "on", "the", "mat", "bird", "flew", "over", "house"),
    *("small", "red", "green", "##s", "##ed", "un"),
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
MAX_TOKENS = 16
DIMENSION = 12


def wordpiece() -> Tokenizer:
    """A WordPiece tokenizer of a few words, padding to 8 as published tokenizers often do."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(max_length=8)
    tokenizer.enable_padding(length=8)
    return tokenizer


def sentence_artifact(directory: Path, *, width: int = 32, seed: int = 0) -> Path:
    """A sentence-embedding artifact: embedding, one gated MatMul, masked mean, unit length.

    With `width` of 320 or more its external data is large enough to be prepared.
    """
    rng = np.random.default_rng(seed)
    weights = {
        "words": rng.standard_normal((len(SPECIAL) + len(WORDS), width)),
        "types": rng.standard_normal((2, width)),
        "up.weight": rng.standard_normal((width, width)) / width**0.5,
        "down.weight": rng.standard_normal((width, DIMENSION)) / width**0.5,
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["words", "input_ids"], ["word"]),
        node("Gather", ["types", "token_type_ids"], ["type"]),
        node("Add", ["word", "type"], ["x"]),
        node("MatMul", ["x", "up.weight"], ["up"]),
        node("Tanh", ["up"], ["gated"]),
        node("MatMul", ["gated", "down.weight"], ["down"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "middle"], ["row"]),
        node("MatMul", ["row", "down"], ["sum"]),
        node("Squeeze", ["sum", "middle"], ["pooled"]),
        node("LpNormalization", ["pooled"], ["sentence_embedding"], axis=-1, p=2),
    ]
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = tuple(ValueInfo(name=n, dtype="int64", shape=("batch", "tokens")) for n in names)
    shape = ("batch", DIMENSION)
    outputs = (ValueInfo(name="sentence_embedding", dtype="float32", shape=shape),)
    tables = {name: table.astype(np.float32) for name, table in weights.items()}
    directory.mkdir(parents=True, exist_ok=True)
    _save_model(directory, nodes, inputs, outputs, {**tables, "middle": np.array([1])})
    wordpiece().save(str(directory / TOKENIZER_FILE))
    facts: dict[str, Any] = {
        "task": "sentence-embedding",
        "text": TextSettings(max_tokens=MAX_TOKENS),
        "dimension": DIMENSION,
    }
    return _save_artifact(directory, "onnx-float32", inputs, outputs, tables, facts)


def tensor_artifact(directory: Path, *, width: int = 512, seed: int = 0, deeper: int = 0) -> Path:
    """A tensor artifact, (batch, width) float32 and (batch,) int64 to (batch, 10) logits.

    Its external data is 1 MiB at the default width, and as much again for each layer `deeper`.
    """
    rng = np.random.default_rng(seed)
    tables = {
        "hidden.weight": (rng.standard_normal((width, width)) / width**0.5).astype(np.float32),
        "head.weight": (rng.standard_normal((width, 10)) / width**0.5).astype(np.float32),
        "classes": rng.standard_normal((4, 10)).astype(np.float32),
    }
    node = helper.make_node
    first, stack = "features", []
    for index in range(deeper):
        name = f"deep{index}"
        tables[f"{name}.weight"] = np.roll(tables["hidden.weight"], index + 1)
        stack.append(node("MatMul", [first, f"{name}.weight"], [name]))
        first = name
    nodes = [
        *stack,
        node("MatMul", [first, "hidden.weight"], ["hidden"]),
        node("Relu", ["hidden"], ["active"]),
        node("MatMul", ["active", "head.weight"], ["head"]),
        node("Gather", ["classes", "kind"], ["bias"]),
        node("Add", ["head", "bias"], ["logits"]),
    ]
    inputs = (
        ValueInfo(name="features", dtype="float32", shape=("batch", width)),
        ValueInfo(name="kind", dtype="int64", shape=("batch",)),
    )
    outputs = (ValueInfo(name="logits", dtype="float32", shape=("batch", 10)),)
    directory.mkdir(parents=True, exist_ok=True)
    _save_model(directory, nodes, inputs, outputs, tables)
    facts = {"task": "tensor"}
    return _save_artifact(directory, "onnx-float32", inputs, outputs, tables, facts)


def detector_artifact(directory: Path, *, boxes: int = 64) -> Path:
    """Boxes (1, n, 4) and scores (1, 1, n) to the boxes found, as many as there are.

    Every score is so near to the threshold that any rounding decides.
    """
    tables: dict[str, Any] = {
        "small": np.array([1e-6], np.float32),
        "threshold": np.array([0.5], np.float32),
        "most": np.array([boxes], np.int64),
        "overlap": np.array([1.0], np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Mul", ["scores", "small"], ["tiny"]),
        node("Add", ["tiny", "threshold"], ["near"]),
        node("NonMaxSuppression", ["boxes", "near", "most", "overlap", "threshold"], ["selected"]),
        node("Cast", ["selected"], ["found"], to=1),
    ]
    inputs = (
        ValueInfo(name="boxes", dtype="float32", shape=(1, boxes, 4)),
        ValueInfo(name="scores", dtype="float32", shape=(1, 1, boxes)),
    )
    outputs = (ValueInfo(name="found", dtype="float32", shape=("found", 3)),)
    directory.mkdir(parents=True, exist_ok=True)
    _save_model(directory, nodes, inputs, outputs, tables)
    facts = {"task": "tensor"}
    return _save_artifact(directory, "onnx-float32", inputs, outputs, tables, facts)


def block_artifact(directory: Path, bits: int, accuracy_level: int, *, aligned: bool) -> Path:
    """A tensor artifact of one product, (batch, 1024) to (batch, 1032), quantized in blocks of 32.

    Unless `aligned`, a table of 64 n + 32 bytes lies before the codes in the file.
    """
    rng = np.random.default_rng(0)
    width, outputs_width = 1024, 1032
    rows = 4 if aligned else 5
    tables = {
        "classes": rng.standard_normal((rows, outputs_width)).astype(np.float32),
        "codes": rng.integers(0, 256, (outputs_width, width // 32, 4 * bits), np.uint8),
        "scales": rng.uniform(0.001, 0.01, outputs_width * width // 32).astype(np.float32),
    }
    product = helper.make_node(
        "MatMulNBits",
        ["features", "codes", "scales"],
        ["product"],
        domain="com.microsoft",
        K=width,
        N=outputs_width,
        bits=bits,
        block_size=32,
        accuracy_level=accuracy_level,
    )
    bias = helper.make_node("Gather", ["classes", "kind"], ["bias"])
    add = helper.make_node("Add", ["product", "bias"], ["logits"])
    inputs = (
        ValueInfo(name="features", dtype="float32", shape=("batch", width)),
        ValueInfo(name="kind", dtype="int64", shape=("batch",)),
    )
    outputs = (ValueInfo(name="logits", dtype="float32", shape=("batch", outputs_width)),)
    directory.mkdir(parents=True, exist_ok=True)
    _save_model(directory, [product, bias, add], inputs, outputs, tables)
    return _save_artifact(directory, "onnx-block", inputs, outputs, tables, {"task": "tensor"})


def tensor_feeds(*, batch: int = 3, width: int = 512, seed: int = 1) -> dict[str, Any]:
    """Inputs that `tensor_artifact` takes."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((batch, width)).astype(np.float32)
    return {"features": features, "kind": rng.integers(0, 4, batch)}


def _save_model(
    directory: Path,
    nodes: list[onnx.NodeProto],
    inputs: tuple[ValueInfo, ...],
    outputs: tuple[ValueInfo, ...],
    constants: dict[str, Any],
) -> None:
    def declare(value: ValueInfo) -> onnx.ValueInfoProto:
        code = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
        return helper.make_tensor_value_info(value.name, code, list(value.shape))

    graph = helper.make_graph(
        nodes,
        "sample",
        [declare(value) for value in inputs],
        [declare(value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    operators = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=operators, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(
        model,
        directory / MODEL_FILE,
        save_as_external_data=True,
        location=DATA_FILE,
        size_threshold=1024,
    )


def _save_artifact(
    directory: Path,
    name: str,
    inputs: tuple[ValueInfo, ...],
    outputs: tuple[ValueInfo, ...],
    tables: dict[str, Any],
    facts: dict[str, Any],
) -> Path:
    tensors = {
        key: TensorRecord(
            shape=table.shape, number_format="float32", method="none", bytes=table.nbytes
        )
        for key, table in tables.items()
    }
    present = [f for f in (MODEL_FILE, DATA_FILE, TOKENIZER_FILE) if (directory / f).exists()]
    artifact = Artifact(
        name=name,
        format="onnx",
        variant="float32",
        model=ModelRecord(source="sample", licence="Apache-2.0", sha256="0" * 64),
        inputs=inputs,
        outputs=outputs,
        weight_bytes=sum(table.nbytes for table in tables.values()),
        tensors=tensors,
        files=record_files(directory, present),
        tools={"onnx": onnx.__version__},
        **facts,
    )
    write_artifact(directory, artifact)
    return directory
