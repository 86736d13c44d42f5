"""The tensor map: layers × kinds, bits as colour, sensitivity or bytes as area."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

from edgeq.core.artifact import TensorRecord
from edgeq.core.units import format_bytes
from edgeq.quantize.adapter import METHOD as ADAPTER
from edgeq.report.page.figures import DATA, Figure, Spec, Table, Values
from edgeq.report.page.record import Report, ReportedArtifact, TensorLoss

_LAYER = re.compile(r"^(?:.*\.)?(?:layers?|blk|blocks?|h)\.(\d+)\.(.+)$")
_USUAL = re.compile(r"^(?:self_attn|mlp|attention\.self|model|embeddings)\.|\.dense$")
OUTSIDE = "–"
"""Stands for tensors outside all layers."""
_BITS = {  # fewer bits per weight than this; the colour
    "2": (3.0, "var(--b2)"),
    "3": (4.0, "var(--b3)"),
    "4": (5.0, "var(--b4)"),
    "5": (6.0, "var(--b5)"),
    "6": (7.5, "var(--b6)"),
    "8": (10.0, "var(--b8)"),
    "16": (20.0, "var(--b16)"),
    "32": (math.inf, "var(--b32)"),
}
_INTERPOLATED = "interpolated between formats that were measured"
_MOST_KINDS = 40
_PHONE = 215.0  # pixels available to columns on a phone


def place_of(name: str) -> tuple[str, str]:
    """Layer and kind of a tensor, from its name.

    >>> place_of("model.layers.3.self_attn.q_proj.weight"), place_of("model.embed_tokens.weight")
    (('3', 'q_proj'), ('–', 'embed_tokens'))
    """
    plain = name.removesuffix(".weight")
    found = _LAYER.match(plain)
    layer, kind = found.groups() if found else (OUTSIDE, plain)
    return layer, _USUAL.sub("", kind)


def bits_of(record: TensorRecord) -> float:
    """Bits per weight in the file, including scales and zero points."""
    return 8 * record.bytes / math.prod(record.shape)


def tensor_figure(report: Report, names: Collection[str] | None = None) -> Figure | None:
    """Return the map, one artifact at a time; None for tensors with unusual names.

    names: of the artifacts; by default, all.
    """
    shown = [a for a in report.artifacts if names is None or a.record.name in names]
    shown.sort(key=lambda a: a.fitted is None)  # the artifact with the most to show comes first
    values = [value for artifact in shown for value in _values(artifact)]
    kinds = {value["kind"]: None for value in values}
    layers = {value["layer"]: None for value in values}
    if not values or len(kinds) > _MOST_KINDS or len(layers) < 2:
        return None
    return Figure(
        id="tensors",
        title="How many bits each weight got",
        text=f"Columns are the model's layers, “{OUTSIDE}” stands for the rest; rows are "
        f"kinds of weights. {_size_words(report, shown)} Hover for the exact figures, or open the "
        "tables."
        + ("" if len(shown) == len(report.artifacts) else " Other artifacts: see --json."),
        spec=_map(values, list(kinds), sorted(layers, key=_order)),
        tables=[_table(artifact) for artifact in shown],
    )


def _size_words(report: Report, shown: Sequence[ReportedArtifact]) -> str:
    """Explain the area of a square, and how to measure sensitivity if that is missing."""
    found = {a.record.format: next(iter(a.losses.values())) for a in shown if a.losses}
    measures = [
        f"to {each.least}" + (f" in {format}" if len(found) > 1 else "")
        for format, each in found.items()
    ]
    size = (
        f"The larger a square, the more the model loses when this tensor alone is rounded "
        f"{' and '.join(measures)}."
        if found
        else "The larger a square, the larger its share of the file."
    )
    absent = dict.fromkeys(a.record.format for a in shown if not a.losses)
    if not absent:
        return size
    commands = " and ".join(
        f"edgeq sensitivity {report.recipe_path} --target {format}" for format in absent
    )
    where = (
        f" in {', '.join(absent)}, where a square's size is its share of the file" if found else ""
    )
    return f"{size} Sensitivity was not measured{where}; run: {commands}."


def fitted_table(report: Report) -> Table | None:
    """Budgets met by choosing number formats, with predicted and measured loss."""
    rows = []
    for artifact in report.artifacts:
        found = artifact.fitted
        if found is not None:
            rows.append(
                [
                    artifact.record.name,
                    ", ".join(f"{name} {value}" for name, value in found.asked.items()),
                    format_bytes(artifact.record.bytes),
                    f"{found.predicted:.2e}",
                    f"{found.measured:.2e} ± {found.error:.1e}",
                    MEASURES[found.measure],
                    f"{found.samples} samples, {found.trials} trial{'s' * (found.trials > 1)}",
                ]
            )
    columns = ("artifact", "asked for", "file", "predicted loss", "measured loss", "in", "seen on")
    caption = "Number formats chosen for a budget; losses on held-out calibration data"
    return Table(caption, columns, rows, frozenset({2, 3, 4})) if rows else None


MEASURES = {"kl": "mean KL, nats", "cosine": "1 − cosine"}
"""Unit of the losses."""


def tensor_tables(report: Report, names: Collection[str] | None = None) -> list[Table]:
    """The same as tables, for models without a map."""
    return [_table(a) for a in report.artifacts if names is None or a.record.name in names]


def _values(artifact: ReportedArtifact) -> Values:
    matrices = {name: r for name, r in artifact.record.tensors.items() if _is_matrix(r)}
    # Losses and sizes span many magnitudes; roots keep the small ones visible.
    weight: Mapping[str, float] = {
        name: math.sqrt(max(0.0, each.loss)) for name, each in artifact.losses.items()
    } or {name: math.sqrt(record.bytes) for name, record in matrices.items()}
    most = max((weight.get(name, 0.0) for name in matrices), default=1.0) or 1.0
    values = []
    for name, record in matrices.items():
        layer, kind = place_of(name)
        bits = bits_of(record)
        values.append(
            {
                "artifact": artifact.record.name,
                "tensor": name,
                "layer": layer,
                "kind": kind,
                "bits": next(word for word, (end, _) in _BITS.items() if bits < end),
                "exact": bits,
                "weight": max(0.0, weight.get(name, 0.0)) / most,
                "tip": f"{name}: {record.number_format}, {bits:.2f} bits a weight, "
                f"{record.method}, {format_bytes(record.bytes)}, {_shape(record)}"
                + _alone(artifact.losses.get(name), record)
                + (f"; {record.note}" if record.note not in ("", "default") else ""),
            }
        )
    return values


def _alone(sensed: TensorLoss | None, record: TensorRecord) -> str:
    """Describe the model's loss when only this tensor is rounded."""
    if sensed is None:
        return ""
    error = f" ± {sensed.error:.1e}" if sensed.error is not None else f", {_INTERPOLATED}"
    text = f"; rounded alone to {sensed.least}: {MEASURES[sensed.measure]} {sensed.loss:.2e}{error}"
    if sensed.here is not None and sensed.here != sensed.loss:
        text += f"; to {record.number_format}, as here: {sensed.here:.2e}"
        text += "" if sensed.is_here_measured else f", {_INTERPOLATED}"
    return text


def _loss(sensed: TensorLoss | None) -> str:
    """Format the loss at the fewest bits, marked if it was interpolated."""
    if sensed is None:
        return ""
    return f"{_mark(sensed.is_measured)}{sensed.loss:.2e} ({sensed.least})"


def _loss_here(sensed: TensorLoss | None) -> str:
    if sensed is None or sensed.here is None:
        return ""
    return f"{_mark(sensed.is_here_measured)}{sensed.here:.2e}"


def _mark(is_measured: bool) -> str:
    return "" if is_measured else "~"


def _is_matrix(record: TensorRecord) -> bool:
    """Whether it is a weight of more than one axis, not an adapter."""
    return len(record.shape) > 1 and math.prod(record.shape) > 0 and record.method != ADAPTER


def _shape(record: TensorRecord) -> str:
    return " × ".join(map(str, record.shape))


def _order(layer: str) -> int:
    return -1 if layer == OUTSIDE else int(layer)


def _map(values: Values, kinds: list[str], layers: list[str]) -> Spec:
    used = {value["bits"] for value in values}
    colours = {bits: colour for bits, (_, colour) in _BITS.items() if bits in used}
    side = min(20.0, max(5.0, 0.92 * _PHONE / len(layers)))
    names = list(dict.fromkeys(value["artifact"] for value in values))
    return {
        "data": {"name": DATA, "values": values},
        "params": [
            {
                "name": "artifact",
                "value": names[0],
                "bind": {"input": "select", "options": names, "name": "Artifact "},
            }
        ],
        "transform": [{"filter": "datum.artifact === artifact"}],
        "width": "container",
        "height": 25 * len(kinds),
        "mark": {"type": "square", "opacity": 1},
        "encoding": {
            "x": {
                "field": "layer",
                "type": "ordinal",
                "scale": {"domain": layers},
                "axis": {"title": "layer", "labelAngle": 0, "labelOverlap": True, "ticks": False},
            },
            "y": {
                "field": "kind",
                "type": "ordinal",
                "scale": {"domain": kinds},
                "axis": {"title": None, "ticks": False, "labelLimit": 132, "grid": True},
            },
            "color": {
                "field": "bits",
                "type": "ordinal",
                "scale": {"domain": list(colours), "range": list(colours.values())},
                "legend": {"title": "bits a weight", "orient": "top", "symbolType": "square"},
            },
            "size": {
                "field": "weight",
                "type": "quantitative",
                "scale": {"domain": [0, 1], "range": [side**2 / 8, side**2]},
                "legend": None,
            },
            "tooltip": {"field": "tip"},
        },
    }


def _table(artifact: ReportedArtifact) -> Table:
    rows = []
    small: dict[str, int] = {}
    for name, record in artifact.record.tensors.items():
        if not _is_matrix(record):
            small[record.number_format] = small.get(record.number_format, 0) + record.bytes
            continue
        sensed = artifact.losses.get(name)
        rows.append(
            [
                name,
                _shape(record),
                record.number_format,
                record.method,
                f"{bits_of(record):.2f}",
                format_bytes(record.bytes),
                _loss(sensed),
                _loss_here(sensed),
                "" if record.note == "default" else record.note,
            ]
        )
    rows += [
        [
            "biases, norms and other small ones",
            "",
            number_format,
            "none",
            "",
            format_bytes(size),
            "",
            "",
            "",
        ]
        for number_format, size in small.items()
    ]
    columns = (
        "tensor", "shape", "number format", "method", "bits", "size", "loss alone, fewest bits",
        "loss alone, as here", "why",
    )  # fmt: skip
    caption = f"Tensors of {artifact.record.name}"
    if any(cell.startswith("~") for row in rows for cell in row[6:8]):
        caption += f"; ~: {_INTERPOLATED}"
    return Table(caption, columns, rows, frozenset({4, 5, 6, 7}))
