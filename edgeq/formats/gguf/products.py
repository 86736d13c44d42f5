"""llama.cpp's products seen from inside, by its evaluation callback.

For every weight of a file, whatever the architecture: what it is multiplied with, and the result,
which may be changed before llama.cpp goes on.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.quantize.ggml.llama_abi import F32, EvalCallback
from edgeq.quantize.ggml.llama_api import library

LOOKUP, PRODUCT, BY_EXPERT = "GET_ROWS", "MUL_MAT", "MUL_MAT_ID"


class _Tensor(ctypes.Structure):
    """The fields of `struct ggml_tensor` up to its name (ggml.h)."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
    ]

    def values(self, dtype: type[np.generic] = np.float32) -> NDArray[Any]:
        """The tensor's memory as an array, the last axis first in memory."""
        sizes = list(zip(self.ne, self.nb, strict=True))
        span = sum((count - 1) * step for count, step in sizes) + np.dtype(dtype).itemsize
        buffer = (ctypes.c_char * span).from_address(self.data)
        return np.ndarray(tuple(self.ne[::-1]), dtype, buffer, strides=tuple(self.nb[::-1]))


@dataclass(frozen=True)
class Product:
    """One operation with a weight.

    weight: its name in the file. kind: `LOOKUP`, `PRODUCT` or `BY_EXPERT`. output: float32, in
    llama.cpp's own memory.
    """

    weight: str
    kind: str
    output: NDArray[np.float32]
    _sources: tuple[_Tensor, ...]

    def inputs(self) -> NDArray[np.float32]:
        """The rows that the weight is multiplied with, `(rows, columns)`; of experts `(tokens,
        1 or slots, columns)`.
        """
        values = self._sources[1].values()
        return values[0] if self.kind == BY_EXPERT else values.reshape(-1, values.shape[-1])

    @property
    def source(self) -> int:
        """Equal for products with the same input, within one pass."""
        return ctypes.addressof(self._sources[1])

    def by_expert(self) -> tuple[int, dict[int, NDArray[np.float32]]]:
        """How many experts there are, and the inputs of each that was chosen; one without any."""
        inputs = self.inputs()
        if self.kind != BY_EXPERT:
            return 1, {0: inputs}
        experts, chosen = self.experts()
        inputs = np.broadcast_to(inputs, (*chosen.shape, inputs.shape[-1]))
        return experts, {int(expert): inputs[chosen == expert] for expert in np.unique(chosen)}

    def experts(self) -> tuple[int, NDArray[np.int32]]:
        """How many experts there are, and the chosen ones, `(tokens, slots)`."""
        return self._sources[0].ne[2], self._sources[2].values(np.int32)[0, 0]


class Watch:
    """Calls `take` with every operation of a context that has one of `weights`.

    Pass `callback` as `cb_eval`, and run texts within `passing`: no exception can pass through
    llama.cpp.
    """

    def __init__(self, weights: Collection[str], take: Callable[[Product], None]) -> None:
        self._weights, self._take = weights, take
        self._error: BaseException | None = None
        self.callback = EvalCallback(self._see)

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """A pass through llama.cpp, which ends early at an error of `take` and at Ctrl-C.

        Raises either afterwards: Python would lose a KeyboardInterrupt that comes where a callback
        begins.
        """
        before = signal.getsignal(signal.SIGINT)
        heeded = callable(before) and threading.current_thread() is threading.main_thread()
        if heeded:
            signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            if heeded:
                signal.signal(signal.SIGINT, before)
            if self._error is not None:
                raise self._error

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._error = KeyboardInterrupt()

    def _see(self, address: int, ask: bool, _user_data: Any) -> bool:
        if self._error is not None:
            return ask  # llama.cpp stops after a tensor that it was asked for and then refused
        try:
            found = _product(address, self._weights)
            if found is not None and not ask:
                self._take(found)
            return found is not None or not ask
        except BaseException as error:
            self._error = error
            return ask


def _product(address: int, weights: Collection[str]) -> Product | None:
    node = _Tensor.from_address(address)
    if not node.src[0] or not node.src[1] or node.type != F32:
        return None
    weight = _Tensor.from_address(node.src[0])
    name = weight.name.decode("utf-8", "replace")
    if name not in weights:
        return None
    kind = library().lib.ggml_op_desc(address).decode()
    if kind not in (LOOKUP, PRODUCT, BY_EXPERT):
        return None
    sources = tuple(_Tensor.from_address(each) for each in node.src[:3] if each)
    if kind != LOOKUP and sources[1].type != F32:
        return None
    return Product(name, kind, node.values(), sources)


def open_watched(model: LlamaModel, watch: Watch, tokens: int, outputs: int, threads: int) -> None:
    """Open the model's context for texts of `tokens`, the last `outputs` of them scored."""
    model.open_context(
        n_ctx=tokens,
        n_batch=tokens,
        n_ubatch=tokens,
        n_outputs_max=outputs,
        n_outputs_max_per_seq=outputs,
        n_threads=threads,
        n_threads_batch=threads,
        type_k=F32,
        type_v=F32,
        cb_eval=watch.callback,
    )
