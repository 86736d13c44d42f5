"""One float graph and one variant in, one quantized `model.onnx` out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgeq.artifact import DATA_FILE, MODEL_FILE, TensorRecord, ValueInfo
from edgeq.calibration.statistics import Feed, InputStatistics, collect
from edgeq.errors import InvalidInput, Problem
from edgeq.export.onnx_build import save_model
from edgeq.export.onnx_convolution import convolution_output
from edgeq.export.onnx_quantized import QuantizedWriter
from edgeq.export.onnx_weights import Decide, Weight, find_weights, settle
from edgeq.quantize.activations import static_range
from edgeq.quantize.decide import Decision
from edgeq.quantize.model import Quantized, SourceWeight, quantize_weights


@dataclass(frozen=True)
class Written:
    """What is in the file that was written, weight by weight, and its interface.

    input_codes: for every coded input, how (smoothing or not, range, error), by the weight's name.
    """

    tensors: dict[str, TensorRecord]
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    input_codes: dict[str, dict[str, object]]


def write_quantized(
    float_directory: Path,
    destination: Path,
    decide: Decide,
    feeds: Sequence[Feed],
    progress: Callable[[str], None],
) -> Written:
    """Quantize `model.onnx` of `float_directory` into `destination`.

    decide: by name and shape `(rows, …)`, as in `edgeq.quantize.decide`. feeds: calibration
    samples, needed where a choice asks for statistics. Raises InvalidInput, naming operators and
    reasons, where quantization was asked for and no weight allows it.
    """
    model = ir.load(float_directory / MODEL_FILE)
    weights = find_weights(model)
    decisions = {weight.name: settle(weight, decide) for weight in weights}
    _refuse_if_nothing(weights, decisions, decide, float_directory)
    chosen = [weight for weight in weights if decisions[weight.name].choice]
    # Inside the destination, which is cleaned up after a build that was killed.
    with tempfile.TemporaryDirectory(dir=destination, prefix="calibrate-") as scratch:
        directories = float_directory, Path(scratch)
        statistics = _watch(model, directories, chosen, decisions, feeds, progress)
    sources = [_source(weight, decisions[weight.name]) for weight in chosen]
    found: dict[str, Quantized] = {}
    for name, quantized in quantize_weights(sources, statistics):
        progress(f"quantize {name}")
        found[name] = quantized
    _write(model, chosen, found, decisions, statistics)
    save_model(model, destination / MODEL_FILE)
    return Written(
        tensors={weight.name: _record(weight, decisions, found) for weight in weights},
        inputs=tuple(map(value_info, model.graph.inputs)),
        outputs=tuple(map(value_info, model.graph.outputs)),
        input_codes={name: _codes_summary(quantized) for name, quantized in found.items()},
    )


def copy_float(float_directory: Path, destination: Path) -> Written:
    """The float32 variant: the same bytes, with a record of every weight."""
    for name in (MODEL_FILE, DATA_FILE):
        if (float_directory / name).exists():
            shutil.copyfile(float_directory / name, destination / name)
    model = ir.load(float_directory / MODEL_FILE)
    keep = Decision(None, "float32 variant")
    weights = find_weights(model)
    return Written(
        tensors={w.name: _record(w, {w.name: keep}, {}) for w in weights},
        inputs=tuple(map(value_info, model.graph.inputs)),
        outputs=tuple(map(value_info, model.graph.outputs)),
        input_codes={},
    )


def _refuse_if_nothing(
    weights: Sequence[Weight],
    decisions: Mapping[str, Decision],
    decide: Decide,
    float_directory: Path,
) -> None:
    wanted = [w for w in weights if decide(w.name, w.shape_by_rows).choice is not None]
    if any(decisions[weight.name].choice for weight in weights):
        return
    if not wanted:
        raise InvalidInput(
            Problem(
                str(float_directory / MODEL_FILE),
                "no weight of this model is to be quantized: every one is small or kept float32",
                "use the variant float32, or a rule that quantizes something",
            )
        )
    raise InvalidInput(
        Problem(weight.name, decisions[weight.name].reason, "choose another variant, or float32")
        for weight in wanted
    )


def _watch(
    model: ir.Model,
    directories: tuple[Path, Path],
    chosen: Sequence[Weight],
    decisions: Mapping[str, Decision],
    feeds: Sequence[Feed],
    progress: Callable[[str], None],
) -> dict[str, InputStatistics]:
    """Statistics of every tensor that a choice depends on; directories: of the graph, scratch."""
    tensors: dict[str, int] = {}
    hessians: set[str] = set()
    for weight in chosen:
        choice = decisions[weight.name].choice
        assert choice is not None
        for use in (use for use in weight.uses if use.in_main_graph):
            name = use.activation.name or ""
            if weight.role == "convolution":
                tensors[name] = 0
                tensors[convolution_output(use.node).name or ""] = 0
            elif weight.role == "linear" and (
                choice.activations != "float32" or choice.method == "gptq"
            ):
                tensors[name] = weight.shape[0 if use.inputs_first else 1]
                if choice.method == "gptq":
                    hessians.add(name)
    if not tensors or not feeds:
        return {}
    progress(f"calibrate on {len(feeds)} samples")
    watched = _with_outputs(*directories, list(tensors))
    return collect(watched, tensors, feeds, frozenset(hessians))


def _with_outputs(float_directory: Path, folder: Path, names: list[str]) -> Path:
    """The graph with the named tensors as outputs, beside a copy of its weights.

    No link: onnxruntime refuses symbolic ones, onnx_ir the original of a hard one, which a killed
    build would leave behind for good.
    """
    if (float_directory / DATA_FILE).exists():
        shutil.copyfile(float_directory / DATA_FILE, folder / DATA_FILE)
    model = ir.load(float_directory / MODEL_FILE)
    values = {value.name: value for node in model.graph for value in node.outputs}
    values.update({value.name: value for value in model.graph.inputs})
    present = {value.name for value in model.graph.outputs}
    for name in names:
        if name not in present and values[name].producer() is not None:
            value = values[name]
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
            model.graph.outputs.append(value)
    ir.save(model, folder / MODEL_FILE)
    return folder / MODEL_FILE


def _source(weight: Weight, decision: Decision) -> SourceWeight:
    assert decision.choice is not None
    use = weight.uses[0]
    multiplied = weight.role == "linear" and use.in_main_graph
    return SourceWeight(
        weight.name,
        weight.matrix(),
        use.activation.name if multiplied else None,
        decision.choice,
    )


def _write(
    model: ir.Model,
    chosen: Sequence[Weight],
    found: Mapping[str, Quantized],
    decisions: Mapping[str, Decision],
    statistics: Mapping[str, InputStatistics],
) -> None:
    ranges = {}
    for weight in chosen:
        choice = decisions[weight.name].choice
        if weight.role != "convolution" or choice is None:
            continue
        for use in weight.uses:
            for value in (use.activation, convolution_output(use.node)):
                name = value.name or ""
                if name in statistics:
                    ranges[name] = static_range(statistics[name], choice.ranges or "error")
    writer = QuantizedWriter(model, ranges)
    recurrent: dict[int, list[Weight]] = {}
    for weight in chosen:
        if weight.role == "recurrent":
            recurrent.setdefault(id(weight.uses[0].node), []).append(weight)
        else:
            writer.write(weight, found[weight.name])
    for inputs, states in recurrent.values():
        writer.write_recurrent(inputs, states, found)


def _record(
    weight: Weight, decisions: Mapping[str, Decision], found: Mapping[str, Quantized]
) -> TensorRecord:
    decision = decisions[weight.name]
    size = 1
    for length in weight.shape:
        size *= length
    quantized = found.get(weight.name)
    return TensorRecord(
        shape=weight.shape,
        grid=decision.grid,
        method=quantized.tensor.method if quantized else "none",
        bytes=_stored_bytes(weight, quantized) if quantized else size * 4,
        note=decision.reason,
    )


def _stored_bytes(weight: Weight, quantized: Quantized) -> int:
    """Codes, scales and float columns in the file; only tables can have float16 scales there."""
    beside = quantized.outlier_columns
    wider = 0 if weight.role == "embedding" else quantized.tensor.scales.size * 2
    return quantized.tensor.nbytes + wider + (beside.nbytes if beside is not None else 0)


def _codes_summary(quantized: Quantized) -> dict[str, object]:
    codes = quantized.input_codes
    if codes is None:
        return {"activations": quantized.activations}
    return {
        "activations": quantized.activations,
        "smoothed": codes.smoothing is not None,
        "outlier_channels": list(codes.outliers),
        "range": None if codes.low is None else [codes.low, codes.high],
        "relative_error": codes.error,
        "relative_error_plain": codes.plain_error,
    }


def value_info(value: ir.Value) -> ValueInfo:
    """Name, dtype and shape of a graph's input or output."""
    shape = tuple(
        size if isinstance(size, int) else str(size.value) for size in (value.shape or ())
    )
    dtype = value.dtype.numpy().name if value.dtype is not None else "float32"
    return ValueInfo(name=value.name or "", dtype=dtype, shape=shape)
