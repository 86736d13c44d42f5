"""One float graph and one variant in, one quantized `model.onnx` out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from edgeq.core.artifact import DATA_FILE, MODEL_FILE, TensorRecord, ValueInfo
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import Progress
from edgeq.formats.onnx.adapter import add_adapter
from edgeq.formats.onnx.quantized import QuantizedWriter
from edgeq.models.graphs.decoder_joined import join_products
from edgeq.models.graphs.rewriting import save_model
from edgeq.models.graphs.statistics import watch
from edgeq.models.graphs.weights import Decide, Weight, convolution_output, find_weights, settle
from edgeq.pipeline.build.sequential import goes_in_sequence, round_in_sequence
from edgeq.quantize.activations import static_range
from edgeq.quantize.adapter import Adapter
from edgeq.quantize.decide import Decision
from edgeq.quantize.methods.judged import with_fall_back
from edgeq.quantize.model import Choice, Quantized, SourceWeight, quantize_weights
from edgeq.quantize.number_formats import QuantizedTensor
from edgeq.quantize.statistics import Feed, InputStatistics


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
    progress: Progress,
) -> Written:
    """Quantize `model.onnx` of `float_directory` into `destination`.

    decide: by name and shape `(rows, …)`, as in `edgeq.quantize.decide`. feeds: calibration
    samples, needed where a choice asks for statistics. Raises InvalidInput, naming operators and
    reasons, where quantization was asked for and no weight allows it.
    """
    chosen = _Chosen(float_directory, decide)
    statistics, found = chosen.quantize(feeds, progress)
    return chosen.write(destination, found, statistics)


def find_codes(
    float_directory: Path,
    decide: Decide,
    feeds: Sequence[Feed],
    progress: Progress,
    settle: Callable[[Weight, Decide], Decision] = settle,
    kept: Path | None = None,
) -> dict[str, QuantizedTensor]:
    """The codes of every weight that `decide` wants on a grid, by name, as for `write_quantized`.

    For choices whose activations stay float32: codes are then all there is to a weight. settle: a
    decision that the format at hand can carry out; ONNX's own without it. kept: a folder of this
    very work where finished layers are stored, and found again after an end.
    """
    chosen = _Chosen(float_directory, decide, settle)
    _, found = chosen.quantize(feeds, progress, kept)
    return {name: quantized.tensor for name, quantized in found.items()}


@dataclass(frozen=True)
class Found:
    """Codes of weights and of what they multiply, by the weight's name.

    ranges: of tensors around convolutions, which have a range of their own, by the tensor's name.
    """

    weights: dict[str, Quantized]
    ranges: dict[str, tuple[float, float]]


def find_quantized(
    float_directory: Path,
    decide: Decide,
    feeds: Sequence[Feed],
    progress: Progress,
    settle: Callable[[Weight, Decide], Decision] = settle,
) -> Found:
    """As `find_codes`, with the codes of activations where a choice wants them."""
    chosen = _Chosen(float_directory, decide, settle)
    statistics, found = chosen.quantize(feeds, progress)
    return Found(found, chosen.ranges(statistics))


def write_codes(
    float_directory: Path,
    destination: Path,
    decide: Decide,
    codes: Mapping[str, QuantizedTensor],
    adapter: Adapter | None = None,
) -> Written:
    """Write `model.onnx` of `float_directory` with `codes` in place of the weights they name.

    decide: as it was for `find_codes`. Nothing is rounded again. adapter: what is added to the
    products of some weights.
    """
    chosen = _Chosen(float_directory, decide)
    found = {
        weight.name: Quantized(codes[weight.name], None, None, "float32")
        for weight in chosen.weights
    }
    return chosen.write(destination, found, {}, adapter)


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


class _Chosen:
    """A float graph and what was decided for each of its weights; `weights` get a grid."""

    def __init__(
        self,
        float_directory: Path,
        decide: Decide,
        settle: Callable[[Weight, Decide], Decision] = settle,
    ) -> None:
        self._directory = float_directory
        self._model = ir.load(float_directory / MODEL_FILE)
        self._all = find_weights(self._model)
        self._decisions = {weight.name: settle(weight, decide) for weight in self._all}
        self.weights = [weight for weight in self._all if self._decisions[weight.name].choice]
        if not self.weights:
            raise self._nothing(decide)

    def quantize(
        self, feeds: Sequence[Feed], progress: Progress, kept: Path | None = None
    ) -> tuple[dict[str, InputStatistics], dict[str, Quantized]]:
        """What calibration saw, by tensor, and codes, by weight."""
        choices = {weight.name: self._choice(weight) for weight in self.weights}
        later = [w for w in self.weights if feeds and goes_in_sequence(w, choices[w.name])]
        waiting = {weight.name for weight in later}
        first = [weight for weight in self.weights if weight.name not in waiting]
        seen = watch(self._directory, first, self._decisions, feeds, progress)
        sources = [_source(weight, choices[weight.name]) for weight in first]
        found = {}
        for name, quantized in quantize_weights(sources, seen):
            progress(f"quantize {name}")
            found[name] = quantized
        if later:
            fixed = {w.name: (w, found[w.name].tensor) for w in first if _is_exact(w, found)}
            pairs = [(weight, choices[weight.name]) for weight in later]
            codes = round_in_sequence(self._directory, pairs, fixed, feeds, progress, kept)
            found |= {name: Quantized(codes[name], None, None, "float32") for name in codes}
        return seen, {weight.name: found[weight.name] for weight in self.weights}

    def _choice(self, weight: Weight) -> Choice:
        choice = self._decisions[weight.name].choice
        assert choice is not None
        return choice

    def write(
        self,
        destination: Path,
        found: Mapping[str, Quantized],
        statistics: Mapping[str, InputStatistics],
        adapter: Adapter | None = None,
    ) -> Written:
        """Write the graph with codes; once only, since the model in memory changes."""
        _write(self._model, self.weights, found, self.ranges(statistics))
        add_adapter(self._model, adapter or {})
        save_model(self._model, destination / MODEL_FILE)
        return Written(
            tensors={weight.name: _record(weight, self._decisions, found) for weight in self._all},
            inputs=tuple(map(value_info, self._model.graph.inputs)),
            outputs=tuple(map(value_info, self._model.graph.outputs)),
            input_codes={name: codes_summary(quantized) for name, quantized in found.items()},
        )

    def ranges(self, statistics: Mapping[str, InputStatistics]) -> dict[str, tuple[float, float]]:
        """Static ranges of the tensors around convolutions that calibration has seen."""
        ranges = {}
        for weight in self.weights:
            choice = self._decisions[weight.name].choice
            if weight.role != "convolution" or choice is None or choice.ranges is None:
                continue
            for use in weight.uses:
                for value in (use.activation, convolution_output(use.node)):
                    name = value.name or ""
                    if name in statistics:
                        ranges[name] = static_range(statistics[name], choice.ranges)
        return ranges

    def _nothing(self, decide: Decide) -> InvalidInput:
        wanted = [w for w in self._all if decide(w.name, w.shape_by_rows).choice is not None]
        if not wanted:
            return InvalidInput(
                Problem(
                    str(self._directory / MODEL_FILE),
                    "no weight of this model is to be quantized: every one is small or kept "
                    "float32",
                    "use the variant float32, or a rule that quantizes something",
                )
            )
        return InvalidInput(
            Problem(w.name, self._decisions[w.name].reason, "choose another variant, or float32")
            for w in wanted
        )


def _source(weight: Weight, choice: Choice) -> SourceWeight:
    met = weight.product.activation.name if weight.product is not None else None
    return SourceWeight(weight.name, weight.matrix, met, choice)


def _is_exact(weight: Weight, found: Mapping[str, Quantized]) -> bool:
    """Whether a weight's codes alone stand for it, in the place where the graph has it."""
    is_matrix = weight.role in ("linear", "embedding", "tied")
    return is_matrix and found[weight.name].activations == "float32"


def _write(
    model: ir.Model,
    chosen: Sequence[Weight],
    found: Mapping[str, Quantized],
    ranges: Mapping[str, tuple[float, float]],
) -> None:
    writer = QuantizedWriter(model, ranges)
    recurrent: dict[int, list[Weight]] = {}
    for weight in chosen:
        if weight.role == "recurrent":
            recurrent.setdefault(id(weight.uses[0].node), []).append(weight)
        else:
            writer.write(weight, found[weight.name])
    for inputs, states in recurrent.values():
        writer.write_recurrent(inputs, states, found)
    join_products(model)


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
        note=with_fall_back(
            decision.reason, decision.method, quantized.tensor if quantized else None
        ),
    )


def _stored_bytes(weight: Weight, quantized: Quantized) -> int:
    """Codes, scales and float columns in the file; only tables can have float16 scales there."""
    beside = quantized.outlier_columns
    wider = 0 if weight.role == "embedding" else quantized.tensor.scales.size * 2
    return quantized.tensor.nbytes + wider + (beside.nbytes if beside is not None else 0)


def codes_summary(quantized: Quantized) -> dict[str, object]:
    """How the input of one weight is coded, for the record of an artifact."""
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
