"""Quantize tensors while they are read: rows on all cores, in order, in little memory."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from edgeq.quantize.ggml.library import Bytes, Floats, quantize_rows
from edgeq.quantize.ggml.types import GgmlType

T = TypeVar("T")
ReadRows = Callable[[int, int], Floats]
"""Rows `start` to `stop` of a tensor, float32 `(stop - start, columns)`; for a tensor of one axis
the values `start` to `stop`. It is called from several threads."""

# A quarter of a million values: as float32 one MiB. Small enough that all cores are busy to the end
# of a tensor, large enough that the overhead per piece is negligible.
_VALUES_AT_ONCE = 1 << 18
_VALUES_IN_ALL = 1 << 23  # bytes in work, over all threads, unless single rows are longer
_AHEAD = 2  # pieces for each thread: one in work, one waiting


def quantize_tensor(
    read: ReadRows,
    shape: tuple[int, ...],
    type: GgmlType,
    importance: Floats | None = None,
    threads: int | None = None,
) -> Iterator[Bytes]:
    """The bytes of a tensor in the file, piece by piece in order.

    shape: rows first; for more than two axes all but the last count as rows. importance: float32
    `(columns,)`, or `(experts, columns)` for a tensor `(experts, rows, columns)`. threads: by
    default, all cores this process may use. Memory is bounded by the number of threads, not by the
    tensor. Raises what `quantize_rows` does.
    """
    threads = threads or usable_cores()
    return in_order(pieces(read, shape, type, importance, threads), threads)


def pieces(
    read: ReadRows,
    shape: tuple[int, ...],
    type: GgmlType,
    importance: Floats | None,
    threads: int,
) -> Iterator[Callable[[], Bytes]]:
    """The work of `quantize_tensor` in pieces: each call gives the next bytes of the tensor."""
    columns = shape[-1] if len(shape) > 1 else 1
    rows = math.prod(shape) // columns
    # Each expert has its own importance, so no piece spans two.
    together = rows // len(importance) if importance is not None and importance.ndim > 1 else rows
    values = min(_VALUES_AT_ONCE, _VALUES_IN_ALL // (threads * _AHEAD))
    at_once = max(1, values // columns)
    for first in range(0, rows, together):
        weights = importance
        if importance is not None and importance.ndim > 1:
            weights = importance[first // together]
        for start in range(first, first + together, at_once):
            stop = min(start + at_once, first + together)
            yield partial(_piece, read, start, stop, columns, type, weights)


def _piece(
    read: ReadRows, start: int, stop: int, columns: int, type: GgmlType, weights: Floats | None
) -> Bytes:
    return quantize_rows(type, read(start, stop).reshape(stop - start, columns), weights)


def in_order(work: Iterable[Callable[[], T]], threads: int) -> Iterator[T]:
    """The results of the calls, in order; calls are made on `threads` threads, a few ahead.

    When the iterator is closed or a call raises, no further calls are made.
    """
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Any]] = deque()
        try:
            for call in work:
                ahead.append(pool.submit(call))
                if len(ahead) >= threads * _AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
