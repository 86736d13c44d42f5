"""Estimates for a device profile: the backend it would use, and figures from its facts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeq.core.artifact import Frozen
from edgeq.core.kv_cache import BYTES_PER_VALUE
from edgeq.devices.profile import Device
from edgeq.estimate.calibrate import Measured
from edgeq.estimate.contents import Contents
from edgeq.estimate.interval import Interval
from edgeq.estimate.memory import MemoryEstimate, estimate_memory
from edgeq.estimate.sizes import Sizes, table_name
from edgeq.estimate.speed import estimate_decode, estimate_prompt
from edgeq.formats.registry import file_format

_TOKENS = 128  # sequence length of an encoder's latency
_LATENCY_DOUBT = 3.0  # a factor both ways: the width of the classes below
# GFLOP/s that one performance core sustains in float32 products. Measured: 28 with AVX-512 on
# shared
# cores (a 6-layer encoder at 128 tokens); the rest by the width of their registers and their clock.
_X86_RATES = (("avx512", 30.0), ("avx2", 22.0), ("avx", 10.0))
_X86_LEAST, _ARM_LARGE, _ARM_PHONE, _ARM_BOARD, _ARM_OLD = 5.0, 40.0, 20.0, 14.0, 6.0
_INT8_FACTOR, _INT8_PLAIN_FACTOR, _BLOCK_FACTOR = 2.0, 1.3, 0.9
_EFFICIENCY_CORE = 0.4  # fraction of a performance core
_OTHER_RUNTIME = 0.3  # log: the table's speeds are llama.cpp's, not onnxruntime's or Core ML's


class Estimates(Frozen):
    """Estimates for a model's files on a device; None for figures that cannot be estimated.

    decode, prompt: tokens/s of a language model. first_token: seconds until the first token after
    the workload's prompt. latency: seconds of an encoder's run on 128 tokens. backend: the backend
    of these speeds. unknown: why a speed is None.
    """

    memory: MemoryEstimate
    decode: Interval | None = None
    prompt: Interval | None = None
    first_token: Interval | None = None
    latency: Interval | None = None
    backend: str
    unknown: str = ""


def runner_backend(device: Device) -> str:
    """The backend that edgeq's own runners use on a device: its CPU."""
    sets = device.instruction_sets
    if sets and device.arch == "aarch64" and "dotprod" not in sets:
        return "CPU (no dotprod)"
    if sets and device.arch == "x86_64" and "avx2" not in sets:
        return "CPU (no avx2)"
    return "CPU"


def best_backend(device: Device, format: str) -> str:
    """The backend that an app would use with llama.cpp or Core ML: the GPU of Apple's chips."""
    apple = device.os in ("ios", "macos") and device.arch == "aarch64"
    return "Metal" if apple and file_format(format).uses_metal else runner_backend(device)


def estimate_for(
    contents: Contents,
    device: Device,
    *,
    context: int,
    prompt: int = 128,
    backend: str | None = None,
    bandwidth: float | None = None,
    measured: Sequence[Measured] = (),
) -> Estimates:
    """Memory and speed of a model's files on `device`.

    context, prompt: tokens, of a language model's workload. backend: by default, the one of edgeq's
    runners. bandwidth: bytes/s if the profile states none. measured: decode speeds from this device
    with this backend, which correct the estimate.
    """
    backend = backend or runner_backend(device)
    near = device.os == "linux" and device.arch == "x86_64"
    memory = estimate_memory(
        contents,
        context=context,
        measured_here=near,
        with_python=device.os not in ("ios", "android"),
    )
    sizes = contents.sizes
    if sizes is None:
        return Estimates(memory=memory, backend=backend, unknown="its operators are unknown")
    if not sizes.is_decoder:
        return Estimates(memory=memory, backend="CPU", latency=_latency(contents, sizes, device))
    bus = device.memory_bandwidth or bandwidth
    if bus is None:
        unknown = f"the profile of {device.id} states no memory bandwidth"
        return Estimates(memory=memory, backend=backend, unknown=unknown)
    # Half a context of the KV cache is read with every token; a quantized one is widened first,
    # which takes at least as long as reading it in f16.
    per_value = max(BYTES_PER_VALUE["f16"], BYTES_PER_VALUE[contents.cache_type])
    cache = sizes.cache_bytes(context // 2, per_value)
    decode = estimate_decode(
        bytes_per_token=contents.bytes_per_token + cache,
        bandwidth=bus,
        backend=backend,
        quant=contents.label,
        measured=measured,
    )
    if not file_format(contents.format).has_mixes:
        decode = _wider(decode, _OTHER_RUNTIME, "for another runtime than those speeds")
    reading = estimate_prompt(
        parameters=sizes.active_parameters, bandwidth=bus, backend=backend, quant=contents.label
    )
    return Estimates(
        memory=memory,
        decode=decode,
        prompt=reading,
        first_token=reading.inverse(float(prompt)),
        backend=backend,
    )


def _wider(interval: Interval, log: float, why: str) -> Interval:
    factor = math.exp(log)
    return Interval(
        value=interval.value,
        low=interval.low / factor,
        high=interval.high * factor,
        basis=f"{interval.basis}, {why}",
    )


def _latency(contents: Contents, sizes: Sizes, device: Device) -> Interval:
    """Multiply-adds of one run at the rate of cores of this class; includes attention."""
    tokens = min(_TOKENS, contents.max_tokens or _TOKENS)
    table = table_name(sizes.shapes)
    matrices = sum(
        math.prod(shape)
        for name, shape in sizes.shapes.items()
        if len(shape) > 1 and name != table and "embed" not in name
    )
    layers = sum(name.endswith("output.dense.weight") for name in sizes.shapes) / 2
    work = 2 * matrices * tokens + 4 * tokens**2 * sizes.hidden * layers
    cores = device.cores.performance + _EFFICIENCY_CORE * device.cores.efficiency
    seconds = work / (1e9 * _core_rate(device) * _number_format_factor(contents, device) * cores)
    return Interval(
        value=seconds,
        low=seconds / _LATENCY_DOUBT,
        high=seconds * _LATENCY_DOUBT,
        basis="arithmetic of one run and the class of its cores, accurate to a factor of three",
    )


def _core_rate(device: Device) -> float:
    sets = device.instruction_sets
    if device.arch == "x86_64":
        return next((rate for word, rate in _X86_RATES if word in sets), _X86_LEAST)
    if sets and "dotprod" not in sets:
        return _ARM_OLD
    by_kind = {"board": _ARM_BOARD, "phone": _ARM_PHONE}
    return by_kind.get(device.kind, _ARM_LARGE)


def _number_format_factor(contents: Contents, device: Device) -> float:
    """The speedup over float32 for the products of most weights."""
    number_formats: dict[str, int] = {}
    for weight in contents.weights.values():
        number_formats[weight.number_format] = number_formats.get(
            weight.number_format, 0
        ) + math.prod(weight.shape)
    most = max(
        number_formats, key=lambda number_format: number_formats[number_format], default="float32"
    ).lower()
    if most in ("float32", "f32", "f16", "bf16"):
        return 1.0
    if most != "int8":
        return _BLOCK_FACTOR
    fast = {"avx512_vnni", "avx_vnni", "dotprod"} & set(device.instruction_sets)
    return _INT8_FACTOR if fast else _INT8_PLAIN_FACTOR
