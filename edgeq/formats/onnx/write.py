"""One float graph and one variant in, one quantized `model.onnx` out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import onnx_ir as ir

from edgeq.core.artifact import DATA_FILE, MODEL_FILE, TensorRecord, ValueInfo
from edgeq.core.terms import Progress
from edgeq.formats.onnx.adapter import add_adapter
from edgeq.formats.onnx.halves import fits_half, small_weights, store_as_half
from edgeq.formats.onnx.quantized import QuantizedWriter
from edgeq.models.graphs.decoder_joined import join_products
from edgeq.models.graphs.harm import harms, too_loud
from edgeq.models.graphs.opened import load_graph
from edgeq.models.graphs.rewriting import forget_shapes, save_model
from edgeq.models.graphs.rounding import ChosenWeights, codes_from_end_to_end
from edgeq.models.graphs.statistics import input_of
from edgeq.models.graphs.weights import STORED, Decide, Weight, find_weights, settle
from edgeq.quantize.adapter import Adapter
from edgeq.quantize.decide import Decision, kept_bytes
from edgeq.quantize.methods.judged import with_fall_back
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.model import Choice, Quantized
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.number_formats.floats import FLOAT16
from edgeq.quantize.number_formats.integers import INT8, INT8_STORED
from edgeq.quantize.statistics import Feed, InputStatistics, Observed

Codes = Mapping[str, QuantizedTensor]
_TABLES = ("embedding", "tied")  # whose rows are one by one as good as their codes


@dataclass(frozen=True)
class Written:
    """The contents of the written file, weight by weight, and its interface.

    input_codes: for every quantized input, how (smoothing or not, range, error), by the weight's
    name.
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
    progress: Progress,
    train: Callable[[Codes, frozenset[str]], Codes] | None = None,
    limit: float | None = None,
    around_mean: bool = False,
    observed: Observed | None = None,
) -> Written:
    """Quantize `model.onnx` of `float_directory` into `destination`.

    decide: by name and shape `(rows, …)`, as in `edgeq.quantize.decide`. feeds: calibration
    samples, required if a choice uses statistics. train: trains the codes of the weights that are
    named, and returns all. limit: of the answers' relative error by coded inputs and rounded
    weights; the most harmful are left out to keep it. around_mean: as for `harms`.
    observed: as for `watch`. Raises InvalidInput, naming operators and reasons, if quantization is
    requested and no weight allows it.
    """
    observed = {} if observed is None else observed
    chosen = ChosenWeights(float_directory, decide, settle, codes_from_end_to_end, observed)
    statistics, found = chosen.quantize(feeds, progress)
    loud = {}
    if limit is not None and feeds and any(q.activations != "float32" for q in found.values()):
        progress("measure what each rounding does to the answers")
        plain = [
            weight
            for weight in chosen.weights
            # weights alone are as coarse as they were asked for
            if found[weight.name].activations != "float32"
            and weight.role not in _TABLES
            and _in_main(weight)
        ]
        own = chosen.ranges(statistics)
        measured = harms(
            float_directory, chosen.region, own, plain, found, feeds, limit, around_mean
        )
        loud = _too_loud(*measured, found, limit)
    if loud:
        halves = {w.name for w in chosen.weights if w.name in loud and fits_half(w.matrix())}
        chosen = _without(loud, halves, float_directory, decide, observed)
        statistics, found = chosen.quantize(feeds, progress)
    # Codes of weights that are multiplied by factors of their inputs, or lack columns, are not the
    # model's own weights, and would be taught as such.
    whole = {name: each.tensor for name, each in found.items() if each.is_whole}
    trained = frozenset(name for name in whole if chosen.decisions[name].is_trained)
    if trained and train is not None:
        codes = train(whole, trained)
        found = {
            name: replace(each, tensor=codes.get(name, each.tensor)) for name, each in found.items()
        }
    return _write_graph(chosen, destination, found, statistics)


def _too_loud(
    each: Mapping[str, float], together: float, found: Mapping[str, Quantized], limit: float
) -> dict[str, float]:
    """What must not be rounded, and its share in the answers' error."""
    loud = too_loud(each, together, found, limit)
    if set(found) <= set(loud):
        # nothing would be left of the variant: its check says how bad it is
        return {name: share for name, share in loud.items() if name not in found}
    return loud


def _in_main(weight: Weight) -> bool:
    return all(use.in_main_graph for use in weight.uses)


def _without(
    loud: Mapping[str, float],
    halves: Container[str],
    float_directory: Path,
    decide: Decide,
    observed: Observed,
) -> ChosenWeights:
    """The weights with those that are too `loud` in floats. halves: of them, those that float16
    holds."""

    def decided(name: str, shape: tuple[int, ...]) -> Decision:
        decision = decide(name, shape)
        if name in loud:
            reason = f"stays float: in int8 it changes the answers by {loud[name]:.0%}"
            return Decision(None, reason, FLOAT16.name if name in halves else "float32")
        share = loud.get(input_of(name))
        if decision.choice is None or share is None:
            return decision
        reason = f"{STORED}: codes of its input change the answers by {share:.0%}"
        return Decision(Choice(INT8_STORED.name, NEAREST.name, "float32", None), reason)

    find_region = partial(codes_from_end_to_end, loud=loud)
    return ChosenWeights(float_directory, decided, settle, find_region, observed)


def write_codes(
    float_directory: Path,
    destination: Path,
    decide: Decide,
    codes: Mapping[str, QuantizedTensor],
    adapter: Adapter | None = None,
) -> Written:
    """Write `model.onnx` of `float_directory` with `codes` instead of the weights they name.

    decide: the same as for `find_codes`. Nothing is rounded again. adapter: added to the products
    of some weights.
    """
    chosen = ChosenWeights(float_directory, decide)
    found = {
        weight.name: Quantized(codes[weight.name], None, None, "float32")
        for weight in chosen.weights
    }
    return _write_graph(chosen, destination, found, {}, adapter)


def copy_float(float_directory: Path, destination: Path) -> Written:
    """The float32 variant: the same bytes, with a record of every weight."""
    for name in (MODEL_FILE, DATA_FILE):
        if (float_directory / name).exists():
            shutil.copyfile(float_directory / name, destination / name)
    model = load_graph(float_directory)
    kept = Decision(None, "float32 variant")
    weights = find_weights(model)
    decisions = {w.name: settle(w, lambda name, shape: kept) for w in weights}
    return Written(
        tensors={w.name: _record(w, decisions, {}) for w in weights},
        inputs=tuple(map(value_info, model.graph.inputs)),
        outputs=tuple(map(value_info, model.graph.outputs)),
        input_codes={},
    )


def _write_graph(
    chosen: ChosenWeights,
    destination: Path,
    found: Mapping[str, Quantized],
    statistics: Mapping[str, InputStatistics],
    adapter: Adapter | None = None,
) -> Written:
    """Write the graph with codes; once only, since the model in memory changes."""
    _write(chosen, found, chosen.ranges(statistics))
    add_adapter(chosen.model, adapter or {})
    forget_shapes(chosen.model)
    save_model(chosen.model, destination / MODEL_FILE)
    return Written(
        tensors={w.name: _record(w, chosen.decisions, found) for w in chosen.all_weights},
        inputs=tuple(map(value_info, chosen.model.graph.inputs)),
        outputs=tuple(map(value_info, chosen.model.graph.outputs)),
        input_codes={name: codes_summary(quantized) for name, quantized in found.items()},
    )


def _write(
    chosen: ChosenWeights,
    found: Mapping[str, Quantized],
    ranges: Mapping[str, tuple[float, float]],
) -> None:
    writer = QuantizedWriter(chosen.model, chosen.region, ranges)
    recurrent: dict[int, list[Weight]] = {}
    for weight in chosen.weights:
        if weight.role == "recurrent" and found[weight.name].tensor.number_format == INT8:
            recurrent.setdefault(id(weight.uses[0].node), []).append(weight)
        else:
            writer.write(weight, found[weight.name])
    for inputs, states in recurrent.values():
        writer.write_recurrent(inputs, states, found)
    kept = [w.value for w in chosen.all_weights if chosen.decisions[w.name].kept == FLOAT16.name]
    floats = [value for value in kept if value.dtype == ir.DataType.FLOAT]  # others came so
    for value in (*floats, *small_weights(chosen.model)):
        store_as_half(chosen.model, value)
    join_products(chosen.model)


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
        number_format=decision.number_format,
        method=quantized.tensor.method if quantized else "none",
        bytes=_stored_bytes(weight, quantized) if quantized else kept_bytes(size, decision),
        note=with_fall_back(
            decision.reason, decision.method, quantized.tensor if quantized else None
        ),
    )


def _stored_bytes(weight: Weight, quantized: Quantized) -> int:
    """Bytes of codes, scales and float columns in the file; only tables and what is expanded can
    have float16 scales there."""
    float_columns, stored = quantized.outlier_columns, quantized.tensor.number_format
    is_narrow = weight.role == "embedding" or stored.is_expanded
    wider = 0 if is_narrow else quantized.tensor.scales.size * 2
    return (
        quantized.tensor.nbytes + wider + (float_columns.nbytes if float_columns is not None else 0)
    )


def codes_summary(quantized: Quantized) -> dict[str, object]:
    """How the input of one weight is quantized, for the record of an artifact."""
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
    assert value.dtype is not None
    return ValueInfo(name=value.name or "", dtype=value.dtype.numpy().name, shape=shape)
