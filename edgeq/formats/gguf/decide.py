"""The GGUF type of each weight: from a rule of the recipe, else from the variant.

A variant in one of our number formats (`int4-b32`, `int8-b32`) is stored in the type with the same
bits (Q4_0, Q8_0) and never rounded again; a mix leaves the choice for every tensor to llama.cpp's
rules and the rounding to its library, or with the method `gptq` to us.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from edgeq.core.errors import InvalidInput, Problem
from edgeq.quantize.decide import decide
from edgeq.quantize.ggml.mixes import MixFacts, mix_types
from edgeq.quantize.ggml.types import TYPES, GgmlType, fallback, nbytes
from edgeq.quantize.ggml.words import UNWEIGHTED
from edgeq.quantize.methods import ROUNDING_METHODS, rounding_method
from edgeq.quantize.methods.importance import IMPORTANCE
from edgeq.quantize.methods.nearest import NEAREST
from edgeq.quantize.number_formats import number_format
from edgeq.quantize.number_formats.kquants import OF_TYPE, TYPE_OF
from edgeq.quantize.presets import MIXES
from edgeq.quantize.spec import Intent


@dataclass(frozen=True)
class GgufDecision:
    """The decision for one weight in a GGUF file.

    type: how it is stored. number_format: `int4-b32` or `int8-b32` for Q4_0 and Q8_0 if the codes
    are our own, else the type's name. method: rounding method, `none` for floats. reason: the
    rule, the mix, or the obstacle.
    """

    type: GgmlType
    number_format: str
    method: str
    reason: str
    bytes: int

    @property
    def has_own_codes(self) -> bool:
        """Whether codes of our own are stored unchanged."""
        own = ROUNDING_METHODS.get(self.method)
        is_portable = self.number_format in TYPE_OF and self.number_format not in TYPES
        return is_portable or (own is not None and not own.runs_in_ggml)


def decide_gguf(
    tensors: Mapping[str, tuple[int, ...]],
    names: Mapping[str, str],
    facts: MixFacts,
    intent: Intent,
) -> dict[str, GgufDecision]:
    """A decision for every weight, by name and shape alone.

    tensors: shapes, outputs or tokens first, by Hugging Face name. names: in the file. facts: about
    the model, used by llama.cpp's mixes.
    """
    weights = intent.variant.weights
    weighted = rounding_method(intent.variant.method).needs_calibration
    mixed: Mapping[str, GgmlType] = {}
    if weights in MIXES:
        together = Counter(names.values())
        stored = [
            (own, (count, *shape) if (count := together[own]) > 1 else shape)
            for own, shape in ((names[name], shape) for name, shape in tensors.items())
        ]
        mixed = mix_types(weights, stored, facts, weighted)
    found = {}
    for name, shape in tensors.items():
        exception = intent.exception(name) if len(shape) > 1 else None
        if weights in MIXES and exception is None:
            found[name] = _in_type(mixed[names[name]], shape, intent, "default")
        elif exception is not None and exception[1] in TYPES:
            reason, stored_as = exception
            found[name] = _in_type(TYPES[stored_as], shape, intent, reason)
        else:
            found[name] = _portable(name, shape, intent)
    _require_one_type(found, names)
    return found


def _require_one_type(found: Mapping[str, GgufDecision], names: Mapping[str, str]) -> None:
    """Raise InvalidInput for experts of one tensor that were decided differently."""
    types: dict[str, GgmlType] = {}
    for name, decision in found.items():
        first = types.setdefault(names[name], decision.type)
        if decision.type is not first:
            what = (
                f"{name} is {decision.type.name}, and another expert of its layer {first.name}: "
                f"GGUF stores all experts of a layer in one tensor of one type"
            )
            remedy = (
                "write rules that match all of them, such as '*.experts.*'; to fit a mixture into "
                "a size: edgeq quantize IN.gguf OUT.gguf --size SIZE --text TEXT"
            )
            raise InvalidInput(Problem("quantize", what, remedy))


def _in_type(wanted: GgmlType, shape: tuple[int, ...], intent: Intent, reason: str) -> GgufDecision:
    type = fallback(wanted, shape[-1]) if len(shape) > 1 else wanted
    if type is not wanted:
        reason = f"{reason}; rows of {shape[-1]} do not divide into blocks of {wanted.name}"
    if type.block == 1:
        return GgufDecision(type, type.name, "none", reason, nbytes(type, shape))
    method = intent.variant.method
    rounding = rounding_method(method)
    if not rounding.runs_in_ggml and type.name in OF_TYPE:
        stored_as = OF_TYPE[type.name].name
        return GgufDecision(type, stored_as, method, reason, nbytes(type, shape))
    is_weighted = rounding.needs_calibration and type.name not in UNWEIGHTED
    by_ggml = IMPORTANCE if is_weighted else NEAREST
    return GgufDecision(type, type.name, by_ggml.name, reason, nbytes(type, shape))


def _portable(name: str, shape: tuple[int, ...], intent: Intent) -> GgufDecision:
    decision = decide(name, shape, intent)
    block = number_format(decision.number_format).group_size
    if decision.choice is None or block is None:
        type = TYPES["F32"]
        return GgufDecision(type, type.name, "none", decision.reason, nbytes(type, shape))
    if shape[-1] % block:
        type = TYPES["F16"]
        reason = f"{decision.reason}; rows of {shape[-1]} do not divide into blocks of {block}"
        return GgufDecision(type, type.name, "none", reason, nbytes(type, shape))
    type = TYPES[TYPE_OF[decision.number_format]]
    return GgufDecision(
        type, decision.number_format, decision.method, decision.reason, nbytes(type, shape)
    )
