"""ONNX Runtime sessions, with the settings that keep anonymous memory and latency low.

Measured on a prepacked int8 6-layer encoder, texts of 5 to 128 tokens, anonymous growth: 10.8 MiB
with onnxruntime's settings, 8.1 without memory patterns, 7.5 with an arena of small steps too, 6.4
with freed heap returned; latency within 1 %. Threads spin while they wait for work, as is
onnxruntime's default: not spinning makes two threads a third slower on idle cores.

The one place that imports onnxruntime: its Linux wheels send telemetry unless this is disabled
before the first import.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import functools
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.known_settings import (
    ARM64,
    SESSION_BY_CPU,
    X86_WITHOUT_VNNI,
    require_session_entries,
)
from edgeq.core.terms import Arch
from edgeq.core.threads import default_threads
from edgeq.models.external_data import require_own_files

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

PRODUCT_MODEL = base64.b64decode(
    "CAg6XAoYCgFhCgFiEgF5Ig1NYXRNdWxJbnRlZ2VyEgFnWhMKAWESDgoMCAISCAoCCAEKAghAWhMKAWISDgoMCAMS"
    "CAoCCEAKAghAYhMKAXkSDgoMCAYSCAoCCAEKAghAQgQKABAN"
)
"""One MatMulInteger node, uint8 (1, 64) times int8 (64, 64), both graph inputs, opset 13."""
Session: TypeAlias = onnxruntime.InferenceSession
CURES: dict[Arch, dict[str, str]] = {
    "aarch64": dict(SESSION_BY_CPU[ARM64]),
    "x86_64": dict(SESSION_BY_CPU[X86_WITHOUT_VNNI]),
}
"""Configuration entries that make kernels of an architecture exact, see `session_settings`."""
_LONGEST_REASON = 300  # letters of what onnxruntime says
_FATAL = 4  # onnxruntime's severity: errors come as exceptions, and warnings help no caller
_ARENA_STEP = 64 * 1024  # bytes; onnxruntime's own steps of 1 and 2 MiB are left half empty
_LONG_GRAPH = 1 << 19  # bytes without weights; 28 layers of a dense model take 156 KB
_EXTERNAL_FROM_BYTES = 1024  # smaller constants stay in the graph, where they can be folded


def version() -> str:
    """The installed version of onnxruntime."""
    return str(onnxruntime.__version__)


@functools.cache
def products_saturate() -> bool:
    """Whether uint8 × int8 products lose their high bits on this CPU.

    x86 without VNNI adds pairs of products in 16 bits (`VPMADDUBSW`), which saturate. The kernel
    itself is tested, with the largest values: a list of CPU names would miss virtual machines.
    """
    session = Session(PRODUCT_MODEL, _options(threads=1), providers=["CPUExecutionProvider"])
    left, right = np.full((1, 64), 255, np.uint8), np.full((64, 64), 127, np.int8)
    (product,) = session.run(None, {"a": left, "b": right})
    return bool((product != 255 * 127 * 64).any())


def session_settings(by_cpu: Mapping[str, Mapping[str, str]] = SESSION_BY_CPU) -> dict[str, str]:
    """Session configuration entries for this CPU, from those of its class in `by_cpu`.

    If products saturate, onnxruntime must turn int8 weights into uint8 to be exact; otherwise, the
    same entry would halve the speed. On Arm, its KleidiAI kernel for int4 weights that also rounds
    inputs (accuracy level 4, used by language models) loses 2.7 % of the output's magnitude over
    ten layers; the other kernel gives x86's digits.
    """
    return dict(by_cpu.get(_cpu_class(), {}))


def _cpu_class() -> str:
    """The class of this CPU in `SESSION_BY_CPU`; "" for one whose kernels are exact."""
    machine = platform.machine().lower()
    if machine in {"aarch64", "arm64"}:
        return ARM64
    x86 = machine in {"x86_64", "amd64", "i386", "i686", "x86"}
    return X86_WITHOUT_VNNI if x86 and products_saturate() else ""


def cpu_facts() -> dict[str, str]:
    """Facts that determine the layout of packed weights: architecture, instruction sets, exact
    products.
    """
    facts = {"machine": platform.machine(), "processor": platform.processor()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        wanted = ("flags", "Features", "CPU part")
        facts["cpuinfo"] = "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    return {**facts, **session_settings()}


def reason(error: Exception) -> str:
    """What onnxruntime says in an error: one line, without its codes."""
    words = " ".join(str(error).split())
    words = re.sub(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", words)
    words = re.sub(r"^Load model from .*? failed: ?", "", words)
    words = re.sub(r"^Exception during initialization: (/\S+:\d+ .*? was false\. ?)?", "", words)
    words = re.sub(r"^Non-zero status code returned while running", "it stops while running", words)
    return re.sub(r"Status Message: (/\S+:\d+ .*?\) )?", "", words)[:_LONGEST_REASON]


def open_session(
    model: Path,
    *,
    threads: int,
    optimized: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Session:
    """A session on the CPU for `model`, whose external data is next to it.

    `optimized`: the graph was written by `save_optimized` here and needs no second pass. `settings`
    are configuration entries instead of this CPU's (`session_settings`). Raises InvalidInput with
    onnxruntime's reason if it cannot run the model.
    """
    _register_arena()
    options = _options(threads)
    chosen = session_settings() if settings is None else require_session_entries(settings)
    for name, value in {**chosen, "session.use_env_allocators": "1"}.items():
        options.add_session_config_entry(name, value)
    if optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = _create(model, options)
    return_freed_memory()
    return session


def open_graph(graph: bytes, folder: Path, *, threads: int, optimized: bool = False) -> Session:
    """A session for a serialized `graph` whose external data is in `folder`.

    For graphs that exist only for inspection: weights are not copied next to them. `optimized` is
    as for `open_session`.
    """
    options = _options(threads)
    if optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder.absolute())
    )
    for name, value in session_settings().items():
        options.add_session_config_entry(name, value)
    return _create(graph, options)


def array_value(array: npt.NDArray[Any]) -> onnxruntime.OrtValue:
    """`array` in onnxruntime's form for inputs and outputs in place: the same memory."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def save_optimized(
    model: Path, destination: Path, settings: Mapping[str, str] | None = None
) -> None:
    """Write `model`, optimized and with weights packed for this CPU, to `destination`.

    settings: configuration entries instead of `session_settings()`.

    External data goes to a file of the same name plus `.data`. Only this CPU's instruction sets and
    this version of onnxruntime can read the result. Creating it holds all weights in memory.
    """
    options = _options(default_threads())
    settings = {
        **(session_settings() if settings is None else settings),
        "session.save_external_prepacked_constant_initializers": "1",
        "session.optimized_model_external_initializers_file_name": f"{destination.name}.data",
        "session.optimized_model_external_initializers_min_size_in_bytes": str(
            _EXTERNAL_FROM_BYTES
        ),
    }
    for name, value in settings.items():
        options.add_session_config_entry(name, value)
    options.optimized_model_filepath = str(destination)
    _create(model, options)


def save_fused(model: Path, destination: Path) -> None:
    """Write `model` with onnxruntime's CPU-independent fusions, to inspect what it executes.

    External data stays in place, and the graph refers to it by name. Entries that a CPU needs are
    omitted: they act where the graph is run.
    """
    options = _options(default_threads())
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(destination)
    _create(model, options)


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    # A pattern reserves one block for all activations of a shape, and texts have many shapes.
    options.enable_mem_pattern = False
    return options


@functools.cache
def _register_arena() -> None:
    """Give this process's sessions one arena for activations, growing from `_ARENA_STEP`."""
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    steps = {
        "max_mem": 0,  # no limit
        "arena_extend_strategy": 0,  # each step twice the last: equal steps leave more gaps
        "initial_chunk_size_bytes": _ARENA_STEP,
        "initial_growth_chunk_size_bytes": _ARENA_STEP,
        "max_dead_bytes_per_chunk": -1,
    }
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg(steps))


def return_freed_memory() -> None:
    """Return freed memory to the system; only glibc needs a call."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _is_long(model: Path | bytes) -> bool:
    """Whether a graph without its weights has thousands of operators, as for many experts.

    onnxruntime compares each result with all earlier ones of unknown size to reuse memory: for
    7,290 operators that takes 25 s, and 0.3 s without.
    """
    if isinstance(model, bytes):
        return len(model) > _LONG_GRAPH
    has_own_weights = not model.with_name(f"{model.name}.data").exists()
    size: int = model.stat().st_size
    return size > _LONG_GRAPH and not has_own_weights


def _create(model: Path | bytes, options: onnxruntime.SessionOptions) -> Session:
    if isinstance(model, Path):
        require_own_files(model)
    try:
        options.enable_mem_reuse = not _is_long(model)
        given = model if isinstance(model, bytes) else str(model)
        # Its fallback would print to standard output and try the same provider again.
        return Session(given, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no base class
        problem = Problem(
            "a graph in memory" if isinstance(model, bytes) else str(model),
            f"onnxruntime {version()} cannot open it: {reason(error)}",
            "build it again for the version installed here",
        )
        raise InvalidInput(problem) from error
