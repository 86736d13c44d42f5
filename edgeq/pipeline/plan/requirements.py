"""Packages required to build an artifact, and the extras that install them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from edgeq.core.errors import Missing, Problem
from edgeq.core.tasks import task_of
from edgeq.formats.registry import file_format
from edgeq.quantize.methods import rounding_method
from edgeq.quantize.spec import Intent

_ENCODER = ("onnx", "onnx_ir", "optimum", "torch", "transformers", "safetensors")
_DECODER = ("onnx", "onnx_ir")
_RECOVER = ("torch", "transformers")
_FIT = ("scipy",)


def packages(intents: Iterable[Intent], *, fits: bool = False) -> dict[str, tuple[str, ...]]:
    """The packages that building imports, by extra. Calibration runs the graph in float32.

    fits: whether number formats are to be chosen for a budget.
    """
    wanted: dict[str, tuple[str, ...]] = {}
    for intent in intents:
        is_language = task_of(intent.task).generates
        format = file_format(intent.format)
        if format.from_graph or intent.variant.needs_calibration:
            extra, names = ("language", _DECODER) if is_language else ("build", _ENCODER)
            wanted[extra] = names
        wanted |= format.packages
        if intent.variant.recover or rounding_method(intent.variant.method).trains:
            wanted["recover"] = _RECOVER
    if fits:
        wanted["fit"] = _FIT
    return wanted


def missing(wanted: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The packages among `packages` that are not installed."""
    return tuple(name for names in wanted.values() for name in names if not find_spec(name))


def require(intents: Iterable[Intent], *, fits: bool = False) -> None:
    """Raise Missing, with the install command, if a package is missing."""
    wanted = packages(intents, fits=fits)
    absent = missing(wanted)
    if absent:
        raise Missing(
            Problem(
                "build",
                f"not installed: {', '.join(absent)}",
                f'install the build side with: pip install ".[{",".join(wanted)}]"',
            )
        )
