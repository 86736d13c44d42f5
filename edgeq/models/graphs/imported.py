"""A plain .onnx file of the user's own, brought into the form that quantization starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from onnx_ir.passes import common as passes

from edgeq.core.artifact import MODEL_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.graphs.rewriting import save_model
from edgeq.models.onnx_session import open_session

Array = npt.NDArray[Any]

# What onnx and protobuf raise for files that are cut short, damaged or something else.
_READ_ERRORS = (OSError, ValueError, TypeError, RuntimeError, LookupError, DecodeError)
# QuantizeLinear takes a scale per channel from here on.
_OLDEST_OPSET = 13
_TARGET_OPSET = 17


def read_onnx(path: Path) -> ir.Model:
    """The graph of `path` with every constant as a named initializer of the main graph.

    Raises InvalidInput for a file that is not ONNX, misses its external data, or whose operator
    set cannot be brought up to one that has quantized types.
    """
    try:
        model = ir.load(path)
        if not len(model.graph):
            raise ValueError("it holds no operator")
        missing = _missing_data(model, path)
        if missing:
            what = f"its external data file is missing: {missing}"
            raise InvalidInput(Problem(str(path), what, "put it beside the .onnx file"))
        if (model.graph.opset_imports.get("") or _TARGET_OPSET) < _OLDEST_OPSET:
            model = _upgrade(path)
    except _READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInput(
            Problem(str(path), f"cannot be read as an ONNX model: {reason}", "export it again")
        ) from error
    passes.LiftConstantsToInitializersPass(lift_all_constants=False)(model)
    passes.LiftSubgraphInitializersToMainGraphPass()(model)
    passes.RemoveInitializersFromInputsPass()(model)
    passes.NameFixPass()(model)
    return model


def import_onnx(path: Path, destination: Path) -> None:
    """Write `model.onnx` and its external data to `destination`, batch norms folded.

    Raises InvalidInput, with onnxruntime's own words, for a model that it cannot run.
    """
    model = read_onnx(path)
    _fold_batch_norms(model)
    save_model(model, destination / MODEL_FILE)
    open_session(destination / MODEL_FILE, threads=1)


def _missing_data(model: ir.Model, path: Path) -> str:
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and not Path(tensor.path).is_file():
            return str(Path(tensor.path).relative_to(path.parent))
    return ""


def _upgrade(path: Path) -> ir.Model:
    converted = onnx.version_converter.convert_version(onnx.load(path), _TARGET_OPSET)
    model: ir.Model = ir.from_proto(converted)
    return model


def _fold_batch_norms(model: ir.Model) -> None:
    """Scale a convolution's filters and bias by the batch norm that alone reads its result.

    `γ (w x + b - μ) / √(σ² + ε) + β` is a convolution again (Ioffe & Szegedy, 2015,
    arXiv:1502.03167, section 3.1); in integers it then needs no float step in between.
    """
    for norm in list(model.graph):
        if norm.op_type != "BatchNormalization" or norm.inputs[0] is None:
            continue
        convolution = norm.inputs[0].producer()
        if convolution is None or convolution.op_type != "Conv":
            continue
        weight = convolution.inputs[1]
        used_once = (
            weight is not None
            and len(weight.uses()) == len(norm.inputs[0].uses()) == 1
            and not norm.inputs[0].is_graph_output()
        )
        constants = [_constant(value) for value in (weight, *norm.inputs[1:5])]
        bias = _constant(convolution.inputs[2]) if len(convolution.inputs) > 2 else None
        bias_is_fixed = len(convolution.inputs) < 3 or bias is not None
        if used_once and bias_is_fixed and all(value is not None for value in constants):
            filters, gain, shift, mean, variance = (np.asarray(value) for value in constants)
            factor = gain / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
            folded = filters * factor.reshape(-1, *[1] * (filters.ndim - 1))
            offset = ((0 if bias is None else bias) - mean) * factor + shift
            _replace_pair(model, convolution, norm, folded, offset)


def _replace_pair(
    model: ir.Model, convolution: ir.Node, norm: ir.Node, filters: Array, bias: Array
) -> None:
    """One convolution with these weights in the place of a convolution and its batch norm."""
    weight = convolution.inputs[1]
    assert weight is not None
    weight.const_value = ir.tensor(filters.astype(np.float32))
    bias_value = ir.Value(
        name=f"{weight.name}.bias",
        const_value=ir.tensor(bias.astype(np.float32)),
        type=ir.TensorType(ir.DataType.FLOAT),
        shape=ir.Shape([len(bias)]),
    )
    model.graph.register_initializer(bias_value)
    folded = ir.node(
        "Conv",
        [*convolution.inputs[:2], bias_value],
        dict(convolution.attributes),
        name=convolution.name,
    )
    result, old = folded.outputs[0], norm.outputs[0]
    result.name, result.shape, result.type = old.name, old.shape, old.type
    model.graph.insert_before(norm, folded)
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    model.graph.remove([norm, convolution], safe=True)


def _constant(value: ir.Value | None) -> Array | None:
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    return value.const_value.numpy()
