"""Why a row of edgeq's is not the best of its table, from what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.zoo.rows import Row

_ALIKE = {"bytes": 1.01, "ratio": 1.03, "error": 1.1, "peak_bytes": 1.05}  # times the best
_EXPANDED = ("int8-stored", "int4-stored", "float16")


def reasons(rows: Sequence[Row], formats: Mapping[str, int]) -> Iterator[str]:
    """A sentence for each column in which a file of edgeq's is not the best.

    rows: of one model. formats: bytes of edgeq's file by number format.
    """
    measured = [row for row in rows if row.bytes is not None]
    others = [row for row in measured if not row.file.startswith("edgeq")]
    original = next((row.bytes or 0 for row in others if row.file == "float"), 0)
    for own in measured:
        if own.file.startswith("edgeq") and others:
            yield from _size(own, _best(others, "bytes"), formats)
            yield from _time(own, _best(others, "ratio"), formats, original)
            yield from _error(own, [row for row in others if row.file != "float"], original)
            yield from _peak(own, _best(others, "peak_bytes"), formats)


def _best(rows: Sequence[Row], column: str) -> Row:
    return min(rows, key=lambda row: _value(row, column))


def _value(row: Row, column: str) -> float:
    return float(getattr(row, column))


def _is_behind(own: Row, best: Row, column: str) -> bool:
    return _value(own, column) > _ALIKE[column] * _value(best, column)


def _size(own: Row, best: Row, formats: Mapping[str, int]) -> Iterator[str]:
    if not _is_behind(own, best, "bytes"):
        return
    more = _value(own, "bytes") / _value(best, "bytes") - 1
    floats = sum(formats.get(name, 0) for name in ("float32", "float16"))
    if floats > 0.05 * _value(own, "bytes"):
        why = f"{floats / 1e6:.2g} MB stay floats, since in codes they change the answers too much"
    else:
        why = "it holds ranges of activations and sums for zero points, which that file has none of"
    yield f"Size: {more:.0%} more than {best.file}, whose error is {_times(best, own)}: {why}."


def _time(own: Row, best: Row, formats: Mapping[str, int], original: int) -> Iterator[str]:
    if not _is_behind(own, best, "ratio"):
        return
    if best.file == "float" or _quantizes_nothing(best, original):
        why = "its layers compute in floats, since onnxruntime's integer kernels are slower here"
        if set(formats) - {*_EXPANDED, "float32"}:
            why = "the runs differ by as much from one to the next"
        other = (
            "" if best.file == "float" else f" ({best.file} quantized nothing: {best.ratio:.2f})"
        )
        yield f"Time: {own.ratio:.2f} of float's{other}: {why}."
    elif _value(best, "error") < _value(own, "error"):
        variant = "int8-dynamic" if "dynamic" in best.file else "int8-static"
        yield f"Time: {best.file} is faster and closer: a net for the variant `{variant}`."
    else:
        yield f"Time: {best.file} is faster, and its error is {_times(best, own)}."


def _error(own: Row, peers: Sequence[Row], original: int) -> Iterator[str]:
    if not peers or not _is_behind(own, best := _best(peers, "error"), "error"):
        return
    if _quantizes_nothing(best, original):
        yield f"Error: {best.file} quantized nothing: its file is no smaller than float's."
    elif "dynamic" in best.file:
        yield (
            f"Error: {best.file} takes the range of each input anew, in {best.ratio:.2f} of "
            "float's time."
        )
    else:
        yield f"Error: {best.file} is closer, in {best.ratio:.2f} of float's time."


def _peak(own: Row, best: Row, formats: Mapping[str, int]) -> Iterator[str]:
    if not _is_behind(own, best, "peak_bytes"):
        return
    more = (_value(own, "peak_bytes") - _value(best, "peak_bytes")) / 2**20
    expanded = sum(size for name, size in formats.items() if name in _EXPANDED)
    why = "where it comes from was not looked into"
    if expanded * 5 > 0.5 * more * 2**20:  # codes of a byte, and floats of four
        why = f"{expanded / 1e6:.2g} MB of its weights are expanded to floats when it opens"
    yield f"Peak: {more:.1f} MiB more than {best.file}: {why}."


def _quantizes_nothing(row: Row, original: int) -> bool:
    """Whether a file is neither smaller than the `original` bytes nor answers otherwise."""
    return _value(row, "error") < 1e-6 and _value(row, "bytes") > 0.9 * original


def _times(row: Row, own: Row) -> str:
    times = _value(row, "error") / max(_value(own, "error"), 1e-9)
    return f"{times:.{0 if times >= 10 else 1}f} times this one's"
