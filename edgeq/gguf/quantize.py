"""A tensor quantized while it is read: blocks of rows on all cores, in order, in little memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from edgeq.gguf.library import Bytes, Floats, quantize_rows
from edgeq.gguf.types import GgmlType

# A piece of this many float32 values is 4 MiB: large enough that its overhead does not show, small
# enough that two for each core are far below what a phone's build server has to spare.
_VALUES_AT_ONCE = 1 << 20
_PIECES_AHEAD = 2  # for each thread: one in work, one read

ReadRows = Callable[[int, int], Floats]
"""Rows `start` to `stop` of a tensor, float32 `(stop - start, columns)`."""


def quantize_tensor(
    read: ReadRows,
    shape: tuple[int, ...],
    type: GgmlType,
    importance: Floats | None = None,
    threads: int | None = None,
) -> Iterator[Bytes]:
    """The bytes of a tensor in the file, piece by piece in order.

    read: called from the threads. shape: rows first; of more than two axes all but the last count
    as rows. importance: float32 `(columns,)`. threads: all this process may use by default.
    Memory is bounded by the number of threads, not by the tensor. Raises what `quantize_rows` does.
    """
    columns = shape[-1]
    rows = 1
    for length in shape[:-1]:
        rows *= length
    at_once = max(1, _VALUES_AT_ONCE // columns)
    threads = threads or usable_cores()

    def work(start: int) -> Bytes:
        piece = read(start, min(start + at_once, rows))
        return quantize_rows(type, piece.reshape(-1, columns), importance)

    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Bytes]] = deque()
        try:
            for start in range(0, rows, at_once):
                ahead.append(pool.submit(work, start))
                if len(ahead) >= threads * _PIECES_AHEAD:
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
