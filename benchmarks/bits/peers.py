"""Files that onnxruntime's and coremltools' own quantizers make of our float graph and package."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgeq.core.artifact import MODEL_FILE

_GROUP = 32
Maker = Callable[[Path, Path], None]
"""Makes a file in a folder, the second path, of a float artifact, the first."""


def make(peer: str, float_artifact: Path, folder: Path) -> None:
    """Let a peer round a float artifact into `folder`."""
    logging.disable(logging.WARNING)  # onnxruntime's tools tell of every node
    folder.mkdir()
    {**ONNXRUNTIME, **COREMLTOOLS}[peer](float_artifact, folder)


def _plain(symmetric: bool, tables: bool) -> Maker:
    def maker(source: Path, folder: Path) -> None:
        import onnxruntime.quantization.matmul_nbits_quantizer as tools

        config = tools.DefaultWeightOnlyQuantConfig(
            block_size=_GROUP,
            is_symmetric=symmetric,
            accuracy_level=4,
            op_types_to_quantize=("MatMul", "Gather") if tables else ("MatMul",),
            quant_axes=(("MatMul", 0), ("Gather", 1)),
        )
        _quantize(config, source, folder)

    return maker


def _hqq(source: Path, folder: Path) -> None:
    import onnxruntime.quantization.matmul_nbits_quantizer as tools

    _quantize(tools.HQQWeightOnlyQuantConfig(block_size=_GROUP), source, folder)


def _k_quant(source: Path, folder: Path) -> None:
    import onnxruntime.quantization.matmul_nbits_quantizer as tools

    _quantize(tools.KQuantWeightOnlyQuantConfig(), source, folder)


def _quantize(config: object, source: Path, folder: Path) -> None:
    import onnxruntime.quantization.matmul_nbits_quantizer as tools

    quantizer = tools.MatMulNBitsQuantizer(
        with_matmuls(source / MODEL_FILE),
        block_size=_GROUP,
        accuracy_level=4,
        algo_config=config,
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(folder / MODEL_FILE), use_external_data_format=True)


ONNXRUNTIME: Mapping[str, Maker] = {
    "onnxruntime symmetric": _plain(symmetric=True, tables=False),
    "onnxruntime asymmetric": _plain(symmetric=False, tables=False),
    "onnxruntime symmetric, table": _plain(symmetric=True, tables=True),
    "onnxruntime asymmetric, table": _plain(symmetric=False, tables=True),
    "onnxruntime HQQ": _hqq,
    "onnxruntime k-quant": _k_quant,
}


def with_matmuls(graph: Path) -> object:
    """The float graph with plain products of its own weights, as onnxruntime's tools read them."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(graph)
    held = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "FusedMatMul":
            attributes = {
                each.name: onnx.helper.get_attribute_value(each) for each in node.attribute
            }
            assert attributes.get("transB") == 1 and attributes.get("alpha", 1.0) == 1.0
            turned = np.ascontiguousarray(numpy_helper.to_array(held[node.input[1]]).T)
            name = f"{node.input[1]}.turned"
            model.graph.initializer.append(numpy_helper.from_array(turned, name))
            node.op_type, node.domain, node.input[1] = "MatMul", "", name
            del node.attribute[:]
    used = {name for node in model.graph.node for name in node.input}
    for name in held:
        if name not in used:
            model.graph.initializer.remove(held[name])
    return model


def _linear(mode: str) -> Maker:
    def maker(source: Path, folder: Path) -> None:
        import coremltools
        import coremltools.optimize.coreml as tools

        how = tools.OpLinearQuantizerConfig(
            mode=mode,
            dtype="int4",
            granularity="per_block",
            block_size=_GROUP,
            weight_threshold=8192,
        )
        config = tools.OptimizationConfig(
            op_type_configs={"linear": how, "gather": how, "matmul": how}
        )
        (found,) = source.glob("*.mlpackage")
        copied = folder.with_name(f"{folder.name}-opened") / found.name
        shutil.copytree(found, copied)  # coremltools writes into what it opens
        model = coremltools.models.MLModel(str(copied), skip_model_load=True)
        tools.linear_quantize_weights(model, config).save(str(folder / found.name))

    return maker


COREMLTOOLS: Mapping[str, Maker] = {
    "coremltools symmetric": _linear("linear_symmetric"),
    "coremltools asymmetric": _linear("linear"),
}
