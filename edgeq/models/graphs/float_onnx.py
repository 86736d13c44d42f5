"""The full-precision ONNX graph that every quantized artifact starts from.

optimum exports it, onnxruntime's transformer fusions shorten it, and the rest happens here: weights
get the names they have in the model's own files, pooling moves into the graph, and the result is
compared with the original export.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeq.core.errors import EdgeqError, InvalidInput, Problem
from edgeq.core.imports import without
from edgeq.core.tasks import SENTENCE_EMBEDDING, Task
from edgeq.core.threads import default_threads
from edgeq.models.graphs.folding import is_constant
from edgeq.models.graphs.opened import load_graph
from edgeq.models.graphs.pooling import add_head
from edgeq.models.graphs.rewriting import GraphWriter, save_model
from edgeq.models.graphs.source import first_line
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.image_directory import ImageDirectory
from edgeq.models.onnx_session import open_session
from edgeq.models.original.head import apply_head
from edgeq.models.original.network import open_network
from edgeq.models.weights import open_weights

# Architectures whose attention onnxruntime's optimizer can fuse, by its own name for them.
_FUSED_AS = {
    "bert": "bert",
    "roberta": "bert",
    "xlm-roberta": "bert",
    "distilbert": "bert",
    "mpnet": "bert",
    "electra": "bert",
}
# float32 rounding in another order of summation; a wrong fusion deviates by orders of magnitude.
_FUSION_TOLERANCE = 1e-4
_ANONYMOUS = "onnx::"  # torch's exporter begins names so


def export_encoder(
    model: ModelDirectory, destination: Path, task: Task = SENTENCE_EMBEDDING
) -> None:
    """Write `model.onnx` and its external data: token ids in, the task's answer out.

    Inputs are the export's own (`input_ids`, `attention_mask`, … int64 `(batch, tokens)`). The one
    output is float32: `sentence_embedding` `(batch, hidden size)`, pooled and normalised as the
    model's head says, or the exporter's output for the task. Raises InvalidInput if optimum
    cannot export the architecture.
    """
    with tempfile.TemporaryDirectory(dir=destination, prefix="export-") as folder:
        exported = Path(folder) / "model.onnx"
        _export(model, exported, task)
        graph = _fuse(model, exported)
        _share_copies(graph)
        _name_weights(graph, model)
        _plain_residuals(graph)
        if task.has_sentence_head:
            add_head(graph, model.head, model.hidden_size)
        save_model(graph, destination / "model.onnx")
        _compare(model, exported, destination / "model.onnx", task)


def export_images(model: ImageDirectory, destination: Path, task: Task) -> None:
    """Write `model.onnx` and its external data: `pixel_values` of the image's size in, scores out.

    A detector gives the boxes, too.

    Raises InvalidInput if optimum cannot export the architecture.
    """
    with tempfile.TemporaryDirectory(dir=destination, prefix="export-") as folder:
        exported = Path(folder) / "model.onnx"
        _export(model, exported, task)
        graph = load_graph(exported.parent)
        _name_weights(graph, model)
        _name_folded(graph)
        pixels = graph.graph.inputs[0]
        rows = pixels.shape[0] if pixels.shape is not None else "batch_size"
        pixels.shape = ir.Shape([rows, *model.image.shape[1:]])
        save_model(graph, destination / "model.onnx")


def _export(model: ModelDirectory | ImageDirectory, exported: Path, task: Task) -> None:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with _quiet():
        with without("sklearn", "scipy"):
            from optimum.exporters.onnx import onnx_export_from_model

        try:
            network = open_network(model, task)
            onnx_export_from_model(
                network,
                exported.parent,
                task=task.optimum_task,
                do_validation=False,
                **_of_images(model, network, task),
            )
        except EdgeqError:
            raise
        except Exception as error:  # tracing raises whatever the model's own code does
            family = model.config.get("model_type")
            raise InvalidInput(
                Problem(
                    str(model.path),
                    f"optimum cannot export this {family} model: {first_line(error)}",
                    "export it yourself and name the .onnx file as the source, task: tensor",
                )
            ) from None


def _of_images(model: ModelDirectory | ImageDirectory, network: Any, task: Task) -> dict[str, Any]:
    """Arguments for a model of images: its size, and an interface for a family without one.

    Python's own numbers stay in a traced graph as they are for the size that it is traced with.
    """
    if isinstance(model, ModelDirectory):
        return {}
    from optimum.exporters.onnx import model_configs
    from optimum.exporters.tasks import TasksManager

    height, width = model.image.size
    given: dict[str, Any] = {"input_shapes": {"height": height, "width": width}}
    name = task.optimum_task
    known = TasksManager.get_supported_model_type_for_task(name, "onnx")
    if network.config.model_type not in known:
        similar = model_configs.RTDetrOnnxConfig if task.detects else model_configs.ViTOnnxConfig
        given["custom_onnx_configs"] = {"model": similar(network.config, task=name)}
    return given


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporters' warnings: they concern tracing, and the result is compared anyway."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from optimum.utils import logging as optimum_logging

        optimum_logging.set_verbosity_error()
        yield


def _fuse(model: ModelDirectory, exported: Path) -> ir.Model:
    family = _FUSED_AS.get(model.config.get("model_type", ""))
    if family is None:
        return load_graph(exported.parent)
    with _quiet():
        from onnxruntime.transformers.fusion_options import AttentionMaskFormat, FusionOptions
        from onnxruntime.transformers.optimizer import optimize_model

        options = FusionOptions(family)
        options.use_multi_head_attention = True
        # A fused embedding keeps its tables in float; an explicit mask allows padding anywhere.
        options.enable_embed_layer_norm = False
        options.attention_mask_format = AttentionMaskFormat.AttentionMask
        optimized = optimize_model(
            str(exported),
            model_type=family,
            num_heads=model.attention_heads,
            hidden_size=model.hidden_size,
            optimization_options=options,
            opt_level=0,
        )
    fused: ir.Model = ir.from_proto(optimized.model)
    return fused


def _share_copies(graph: ir.Model) -> None:
    """Let layers that share a weight read it itself: for each but one, the exporter copies it."""
    writer = GraphWriter(graph)
    for node in list(graph.graph):
        is_copy = node.op_type == "Identity" and is_constant(node.inputs[0])
        if is_copy and not node.outputs[0].is_graph_output():
            writer.bypass(node, node.inputs[0])


def _name_weights(graph: ir.Model, model: ModelDirectory | ImageDirectory) -> None:
    """Give weights their names in the model's files, which rules and plans use.

    The exporter leaves transposed weights anonymous but names nodes after modules
    (`/encoder/layer.0/output/dense/MatMul`); other weights lack the prefix of a model with a task
    head (`bert.`). The values are compared before a name is accepted.
    """
    weights = open_weights(model)

    def rename(weight: ir.Value, stem: str, *, transposed: bool) -> None:
        assert weight.const_value is not None
        for name in (n for n in weights if n == stem or n.endswith(f".{stem}")):
            if not model.tensors[name].is_float:
                continue
            values = weights.read(name)
            if np.array_equal(values.T if transposed else values, weight.const_value.numpy()):
                graph.graph.initializers.pop(weight.name or "")
                weight.name = name
                graph.graph.initializers[name] = weight
                break

    for node in graph.graph:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is not None and weight.is_initializer() and weight.const_value is not None:
            stem = re.sub(r"/MatMul(_\d+)?$", "", node.name or "").strip("/").replace("/", ".")
            rename(weight, f"{stem}.weight", transposed=True)
    for name, weight in list(graph.graph.initializers.items()):
        if name not in weights and weight.const_value is not None:
            rename(weight, name, transposed=False)


def _name_folded(graph: ir.Model) -> None:
    """Name weights that a norm was folded into, which no file has, after their modules."""
    initializers = graph.graph.initializers
    for node in graph.graph:
        weight = node.inputs[1] if node.op_type == "Conv" else None
        name = f"{re.sub(r'/Conv$', '', node.name or '').strip('/').replace('/', '.')}.weight"
        own = (weight.name or "") if weight is not None else ""
        is_free = own in initializers and name not in initializers
        if weight is not None and is_free and own.startswith(_ANONYMOUS):
            initializers.pop(own)
            weight.name = name
            initializers[name] = weight


def _plain_residuals(graph: ir.Model) -> None:
    """Turn fused residual-and-norm nodes into Sum and LayerNormalization.

    onnxruntime's fused kernel takes several times as long as the two it replaces (see
    benchmarks/residual_norm.py), and it would fuse an Add again when it loads the file; it does not
    fuse a Sum of two.
    """
    writer = GraphWriter(graph)
    for node in list(graph.graph):
        if node.op_type != "SkipLayerNormalization" or len(node.outputs) > 1:
            continue
        value, residual, gain, shift = node.inputs[:4]
        epsilon = node.attributes["epsilon"].as_float()
        if len(node.inputs) > 4 and node.inputs[4] is not None:
            value = writer.emit(node, "Add", [value, node.inputs[4]])
        total = writer.emit(node, "Sum", [value, residual])
        attributes = {"epsilon": epsilon, "axis": -1}
        writer.replace(node, "LayerNormalization", [total, gain, shift], attributes)


def _compare(model: ModelDirectory, exported: Path, built: Path, task: Task) -> None:
    """Refuse a rewritten graph whose answers differ from the plain export's."""
    before = open_session(exported, threads=default_threads())
    after = open_session(built, threads=default_threads())
    generator = np.random.default_rng(0)
    skipped = model.head.skipped if task.has_sentence_head else 0
    shape = (2, min(24 + skipped, model.max_tokens))
    # Away from both ends of the vocabulary: special tokens shift positions in some models.
    vocabulary = int(model.config["vocab_size"])
    end = min(1000, vocabulary // 4)
    ids = generator.integers(end, vocabulary - end, shape, np.int64)
    mask = np.ones(shape, np.int64)
    mask[1, (shape[1] + skipped) // 2 :] = 0
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}
    feed = {value.name: feed[value.name] for value in before.get_inputs()}
    expected = before.run(None, feed)[0]
    if task.has_sentence_head:
        expected = apply_head(expected, mask, model.head)
    found = after.run(None, feed)[0]
    worst = float(np.abs(expected - found).max() / np.abs(expected).max())
    if not worst <= _FUSION_TOLERANCE:
        raise InvalidInput(
            Problem(
                str(model.path),
                f"the optimized graph differs from the plain export by {worst:.1e}",
                "this architecture is not supported; export it yourself and name the .onnx file",
            )
        )
