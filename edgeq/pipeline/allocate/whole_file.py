"""Fit a GGUF file of any architecture into a size, by statistics that llama.cpp gives itself.

No converter and no graph of ours: inputs of weights come from llama.cpp's evaluation callback, and
so does what a weight's error costs, as the divergence that noise in its results causes. Weights are
rounded by llama.cpp's own quantizer with importance, one after the other as they are in the float
model: unlike a build's GPTQ, no layer makes up for the rounding of those before it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.sampling import spread
from edgeq.core.steps import Steps
from edgeq.core.terms import Progress
from edgeq.core.units import format_bytes
from edgeq.formats.gguf.file_format import GGUF
from edgeq.formats.gguf.header import Header
from edgeq.formats.gguf.imatrix import Importance
from edgeq.formats.gguf.inside import Scored, Windows
from edgeq.formats.gguf.requantize import is_readable, quantized_metadata, rows_of
from edgeq.formats.gguf.writer import header_bytes
from edgeq.measure.clusters import Estimate, mean
from edgeq.measure.scoring import score
from edgeq.pipeline.allocate.solve import Priced, best_within, total
from edgeq.quantize.ggml.library import Floats, quantize_rows
from edgeq.quantize.ggml.mixes import is_quantized
from edgeq.quantize.ggml.types import TYPES, GgmlType, fallback, nbytes

SCORED_ROWS = 32
"""Tokens of a window whose predictions are compared, its last ones."""
_NOISE = 0.02  # mean square of the noise, relative: about what 3 bits cost
_LAYERS = 6  # layers measured of each kind of weight; the rest lie between them
_ERROR_ROWS, _ERROR_EXPERTS = 96, 8  # that are rounded to learn the error of a type
_LAYER = re.compile(r"^blk\.(\d+)\.(.+)$")


@dataclass(frozen=True)
class Fitted:
    """The type of every tensor of a file, and the mean KL that is predicted for it."""

    types: Mapping[str, GgmlType]
    predicted: float


def candidates(header: Header) -> list[str]:
    """The tensors whose type can be chosen."""
    return [
        name
        for name, entry in header.tensors.items()
        if is_quantized(name, entry.shape) and is_readable(entry.type)
    ]


def require_possible(header: Header, size: int, importance: Importance | None = None) -> None:
    """Raise InvalidInput for a size that not even the smallest types keep."""
    least = _rest(header, importance) + sum(
        min(
            GGUF.stored(nbytes(type, header.tensors[name].shape)) for type in _options(header, name)
        )
        for name in candidates(header)
    )
    if least > size:
        what = f"cannot be that small: {format_bytes(least)} at least"
        raise InvalidInput(Problem(str(header.path), what, "raise --size, or use a smaller model"))


def _rest(header: Header, importance: Importance | None) -> int:
    """The bytes of the new file that are not those of candidates."""
    metadata = quantized_metadata(header.metadata, "Q4_K_M", importance)
    specs = [(name, entry.shape, entry.type) for name, entry in header.tensors.items()]
    kept = header.tensors.keys() - candidates(header)
    fixed = _padded(header, len(header_bytes(metadata, specs)))
    return fixed + sum(_bytes(header, name, header.tensors[name].type) for name in kept)


def _bytes(header: Header, name: str, type: GgmlType) -> int:
    return _padded(header, nbytes(type, header.tensors[name].shape))


def _padded(header: Header, size: int) -> int:
    return -(-size // header.alignment) * header.alignment


def fit_file(
    header: Header,
    size: int,
    importance: Importance,
    costs: Mapping[str, float],
    progress: Progress,
) -> Fitted:
    """Choose types so that the file takes at most `size` bytes and loses least.

    costs: as from `costs_of_errors`. Raises what `require_possible` does.
    """
    require_possible(header, size, importance)
    names = candidates(header)
    options = {name: _options(header, name) for name in names}
    choices: dict[str, list[Priced]] = {}
    for index, name in enumerate(names):
        progress(f"errors of types: {index + 1} of {len(names)} tensors")
        own, *others = options[name]
        errors = [0.0, *errors_of_types(header, name, others, importance)]
        choices[name] = [
            Priced(type.name, costs[name] * error, _bytes(header, name, type))
            for type, error in zip((own, *others), errors, strict=True)
        ]
    chosen = best_within(choices, size - _rest(header, importance))
    types = {name: entry.type for name, entry in header.tensors.items()}
    types |= {name: TYPES[option.use] for name, option in chosen.items()}
    return Fitted(types, total(chosen)[0])


def nearest_mix(types: Mapping[str, GgmlType]) -> str:
    """The mix that names a file with these types: of the one that most of its tensors have."""
    counts = Counter(type.name for type in types.values() if type.name != "F32")
    most = next((name for name, _ in counts.most_common()), "F32")
    return GGUF.weights_word(most) if most != "F32" else most


def divergence(path: Path, other: Path, windows: Windows, threads: int) -> Estimate:
    """The mean KL of the predictions of `other` from those of `path`, on held-out windows."""
    both = [Scored(each, (), windows, SCORED_ROWS, threads).logits() for each in (path, other)]
    return _kl(*both)


def _kl(reference: Sequence[Floats], found: Sequence[Floats]) -> Estimate:
    pairs = zip(reference, found, strict=True)
    return mean([score(a, b, [0] * len(a)).kl for a, b in pairs])


def errors_of_types(
    header: Header, name: str, types: Sequence[GgmlType], importance: Importance
) -> list[float]:
    """The mean square of the error of each type in a weight's results, relative to theirs."""
    sample = _sample(header, name, importance)
    return [_error(sample, type) for type in types]


def _options(header: Header, name: str) -> list[GgmlType]:
    """Types for a tensor, its own first: narrower ones, if it is quantized already."""
    entry = header.tensors[name]
    found = {entry.type.name: entry.type}
    for word in GGUF.tensor_words(None):
        type = fallback(TYPES[word], entry.shape[-1])
        if type.bits < entry.type.bits:
            found[type.name] = type
    return list(found.values())


def _sample(header: Header, name: str, importance: Importance) -> list[tuple[Floats, Floats]]:
    """Some rows of a weight, and the importance of their columns; for each expert if it has any."""
    entry, columns = header.tensors[name], header.tensors[name].shape[-1]
    weights = importance.weights(name)
    each = np.ones((1, columns), np.float32) if weights is None else weights.reshape(-1, columns)
    experts, rows = len(each), math.prod(entry.shape[:-1])
    read, found = rows_of(entry), []
    for expert in spread(range(experts), _ERROR_EXPERTS):
        own = range(expert * rows // experts, (expert + 1) * rows // experts)
        taken = spread(own, _ERROR_ROWS // min(experts, _ERROR_EXPERTS))
        found.append((each[expert], np.concatenate([read(row, row + 1) for row in taken])))
    return found


def _error(sample: Sequence[tuple[Floats, Floats]], type: GgmlType) -> float:
    """The mean square of the error that a type makes in a weight's results, relative to theirs.

    Inputs count as independent of each other.
    """
    kind, lost, meant = gguf.GGMLQuantizationType(type.id), 0.0, 0.0
    for weights, rows in sample:
        stored = gguf.quants.dequantize(quantize_rows(type, rows, weights), kind)
        lost += float((np.square(stored - rows) @ weights).sum())
        meant += float((np.square(rows) @ weights).sum())
    return lost / meant if meant else 0.0


def costs_of_errors(
    header: Header, windows: Windows, threads: int, progress: Progress, kept: Steps
) -> dict[str, float]:
    """The mean KL for an error of 1 in each candidate's results, relative to them.

    windows: held-out token ids. kept: for this call; what an interrupted one measured is not
    measured again.
    """
    names = candidates(header)
    scored = Scored(header.path, names, windows, SCORED_ROWS, threads)
    clean = scored.logits()
    kinds: dict[str, dict[int, str]] = {}
    for name in names:
        found = _LAYER.match(name)
        kind, layer = (found[2], int(found[1])) if found else (name, 0)
        kinds.setdefault(kind, {})[layer] = name
    measured = {kind: _with_ends(sorted(own)) for kind, own in kinds.items()}
    count, done = sum(map(len, measured.values())), 0
    costs: dict[str, float] = {}
    for kind, layers in measured.items():
        seen = []
        for layer in layers:
            done += 1
            progress(f"cost of errors: {done} of {count} weights")
            name = f"{kind}-{layer}.json"
            if stored := kept.find(name):
                kl = float(stored.read_text(encoding="utf-8"))
            else:
                kl = _kl(clean, scored.logits(kinds[kind][layer], _NOISE)).value
                with kept.writing(name) as partial:
                    partial.write_text(repr(kl), encoding="utf-8")
            seen.append(math.log(max(kl, 1e-12) / _NOISE))
        for layer, name in kinds[kind].items():
            costs[name] = math.exp(float(np.interp(layer, layers, seen)))
    return costs


def _with_ends(layers: Sequence[int]) -> list[int]:
    """Some of `layers`, the first and the last among them."""
    last, count = len(layers) - 1, min(_LAYERS, len(layers))
    return sorted({layers[round(step * last / max(1, count - 1))] for step in range(count)})
