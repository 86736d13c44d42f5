"""Classes of backends and number formats for estimates.

There are more names than measured devices: estimates are made for five kinds of backend and three
of formats, and an unknown name falls back to the common values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Backend = Literal["metal", "cpu", "plain-cpu", "gpu", "npu", "any"]
"""plain-cpu: without instructions for products of 8-bit integers. gpu: every graphics processor
except Apple's,
over Vulkan, SYCL, CUDA … any: unknown."""
Family = Literal["flat", "k", "low"]
"""flat: floats and blocks with one scale. k: scales of scales. low: under 4 bits, or look-ups."""

_BACKENDS: tuple[tuple[str, Backend], ...] = (
    (r"npu|htp|qnn|hexagon|neural|\bane\b", "npu"),
    (r"metal|mps|mlx", "metal"),
    (r"cpu.*\bno (dotprod|avx2)", "plain-cpu"),
    (r"cpu|xnnpack|blas|accelerate|kleidi|onnx", "cpu"),
    (r"gpu|cuda|rocm|hip|vulkan|sycl|opencl|directml|webgpu|level.?zero", "gpu"),
)
_FLOATS = {"F32": 32.0, "FLOAT32": 32.0, "F16": 16.0, "FLOAT16": 16.0, "BF16": 16.0, "F64": 64.0}
_DEFAULT_BITS = 4.85


def backend_kind(name: str) -> Backend:
    """The kind of a backend from its name, case-insensitive.

    >>> backend_kind("CPU (Ollama)"), backend_kind("CUDA"), backend_kind("?")
    ('cpu', 'gpu', 'any')
    """
    for pattern, kind in _BACKENDS:
        if re.search(pattern, name, re.IGNORECASE):
            return kind
    return "any"


def family(quant: str) -> Family:
    """The work that kernels of a GGUF type, or of a mix named after one, do per weight."""
    name = quant.strip().upper()
    if re.match(r"(IQ|TQ|Q[123](_|$))", name):
        return "low"
    return "k" if re.match(r"Q\d_K", name) else "flat"


def group(backend: str, quant: str) -> str:
    """The group that shares an interval: a kind of backend with a family of formats."""
    return f"{backend_kind(backend)} {family(quant)}"


def range_for(
    known: Mapping[str, tuple[float, float]], backend: str, quant: str
) -> tuple[float, float]:
    """The spread of the narrowest known group: its own, its kind of backend's or `all`."""
    kind = backend_kind(backend)
    return known.get(group(backend, quant)) or known.get(kind) or known["all"]


def bits_per_weight(quant: str) -> float:
    """Approximate bits per weight in files of this type, including scales.

    Used only for the size of a model, to a few per cent: a mix's own rules are more exact. A name
    without a number counts as Q4_K_M.
    """
    name = quant.strip().upper()
    for word, bits in _FLOATS.items():
        if name.startswith(word):
            return bits
    found = re.search(r"(?:Q|INT|FP|W)(\d+)", name)
    if found is None or not 1 <= int(found.group(1)) <= 16:
        return _DEFAULT_BITS
    return int(found.group(1)) + (0.75 if family(name) == "k" else 0.5)
