"""Compare the type that a file's name and metadata claim with its tensors' types."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeq.formats.gguf.header import Header
from edgeq.pipeline.audit.plain import text, whole
from edgeq.pipeline.audit.records import Claim, Finding, TensorLine
from edgeq.quantize.ggml.mixes import MIXES, MixFacts, file_type, is_quantized, mix_types
from edgeq.quantize.ggml.types import TYPES, GgmlType, nbytes

_LABEL = re.compile(
    r"(?<![a-z0-9])((?:i|t)?q\d(?:_[a-z0-9]+)*|b?f16|fp16|f32|fp32|mxfp4(?:_moe)?)(?![a-z0-9])",
    re.IGNORECASE,
)
_SAME = {"FP16": "F16", "FP32": "F32"}
_FLOATS = ("F32", "F16", "BF16")
_WIDE = 0.02  # relative deviation of its size from the claim that a file may have without a finding

_FILE_TYPES = {file_type(mix): mix for mix in MIXES} | {39: "NVFP4", 40: "Q1_0"}
_GUESSED = 1024  # added to general.file_type if a tool guessed it

_OWN_RULES = ("falcon",)  # not covered by `mix_types`


def label_in(name: str) -> str | None:
    """Return the type or mix stated in a file name, in llama.cpp's spelling; the last, if several.

    >>> label_in("Llama-3.2-1B-Instruct-q4_k_m.gguf")
    'Q4_K_M'
    """
    found = _LABEL.findall(name)
    if not found:
        return None
    label = str(found[-1]).upper()
    return _SAME.get(label, label)


def recorded_type(header: Header) -> str | None:
    """`general.file_type` by name, None if the file does not state it."""
    number = whole(header, "general.file_type")
    if number is None:
        return None
    number %= _GUESSED
    return _FILE_TYPES.get(number, f"unknown type {number}")


def judge_claim(path: Path, header: Header) -> tuple[Claim, list[Finding], list[TensorLine]]:
    """Return the claim, its problems, and every tensor of the file."""
    in_name, recorded = label_in(path.name), recorded_type(header)
    importance = any(key.startswith("quantize.imatrix.") for key in header.metadata)
    mix = recorded if in_name is None or (recorded and _is_vague(in_name)) else in_name
    types: Mapping[str, GgmlType] = {}
    findings = _disagreement(in_name, recorded)
    reason = None if mix is None else _cannot_hold(mix, header)
    if reason is not None:
        findings.append(Finding(subject="name", matters=False, what=reason))
        mix = None
    if mix is not None:
        types = _nearest(mix, header, importance)
    lines = [_line(header, name, types) for name in header.tensors]
    weights = sum(math.prod(line.shape) for line in lines) or 1
    claimed = sum(nbytes(types[name], header.tensors[name].shape) for name in types)
    claim = Claim(
        in_name=in_name,
        recorded=recorded,
        mix=mix,
        importance=importance,
        differing=tuple(x.name for x in lines if x.claimed_type not in (None, x.type)),
        bits_per_weight=8 * sum(line.bytes for line in lines) / weights,
        claimed_bits_per_weight=8 * claimed / weights if types else None,
    )
    return claim, [*findings, *_kept(claim, lines)], lines


def _disagreement(in_name: str | None, recorded: str | None) -> list[Finding]:
    if in_name is None and recorded is None:
        what = "neither the file's name nor general.file_type says how it was quantized"
        return [Finding(subject="name", matters=False, what=what)]
    if in_name is None or recorded is None or in_name == recorded:
        return []
    # A name that matches no mix is the author's own; the metadata then gives the nearest of
    # llama.cpp's.
    matters = in_name in MIXES
    if _is_vague(in_name):
        if _digit(in_name) == _digit(recorded):
            return []
        matters = True
    what = f"its name says {in_name}, its general.file_type {recorded}"
    return [Finding(subject="name", matters=matters, what=what)]


def _is_vague(label: str) -> bool:
    """Whether a label is a prefix that several mixes share: "Q4", "IQ2", "Q5_K"."""
    return label not in MIXES and any(mix.startswith(f"{label}_") for mix in MIXES)


def _digit(label: str) -> str | None:
    """The bits in a type's name."""
    found = re.search(r"\d", label)
    return found[0] if found else None


def _cannot_hold(mix: str, header: Header) -> str | None:
    """Why the tensors cannot be compared with what `mix` gives them; None if they can."""
    if mix not in MIXES:
        return f"{mix} is not one of llama.cpp's own mixes: there is nothing to compare it with"
    parts = whole(header, "split.count") or 1
    if parts > 1:
        return f"one part of {parts}: a mix chooses types by the tensors of all parts"
    facts = _facts(header)
    if facts is None:
        return f"the metadata lack what {mix} depends on: layers and heads"
    if facts.architecture in _OWN_RULES:
        return f"llama.cpp's {mix} has rules of its own for {facts.architecture}, not checked here"
    return None


def _nearest(mix: str, header: Header, importance: bool) -> Mapping[str, GgmlType]:
    """The types that the mix gives every tensor: with or without importance, whichever fits better.

    Metadata often omits that a matrix was used, and can be wrong.
    """
    tensors = [(name, entry.shape) for name, entry in header.tensors.items()]
    facts = _facts(header)
    if facts is None:
        return {}
    found = [mix_types(mix, tensors, facts, given) for given in (importance, not importance)]
    fits = [{name: _wanted(header, name, types[name]) for name in types} for types in found]
    return min(fits, key=lambda types: sum(types[x] != header.tensors[x].type for x in types))


def _wanted(header: Header, name: str, type: GgmlType) -> GgmlType:
    """`type`; tensors that a mix does not quantize may have any float type."""
    entry = header.tensors[name]
    is_left_alone = not is_quantized(name, entry.shape) and entry.type.name in _FLOATS
    return entry.type if is_left_alone else type


def _facts(header: Header) -> MixFacts | None:
    """The facts about a model that a mix uses; None if the metadata lacks them."""
    arch = text(header, "general.architecture")

    def number(name: str) -> int | None:
        found = header.metadata.get(f"{arch}.{name}")
        if found is not None and isinstance(found.value, np.ndarray) and found.value.size:
            return int(found.value[0])  # one per layer: llama.cpp uses the first
        return whole(header, f"{arch}.{name}")

    layers, heads = number("block_count"), number("attention.head_count")
    kv_heads = number("attention.head_count_kv") or heads
    if not arch or not layers or not heads or not kv_heads or min(layers, heads, kv_heads) < 1:
        return None
    experts = number("expert_count") or 0
    return MixFacts(
        architecture=arch, layers=layers, heads=heads, kv_heads=kv_heads, experts=experts
    )


def _line(header: Header, name: str, types: Mapping[str, GgmlType]) -> TensorLine:
    entry = header.tensors[name]
    claimed = types.get(name)
    return TensorLine(
        name=name,
        shape=entry.shape,
        type=entry.type.name,
        bytes=entry.nbytes,
        bits_per_weight=entry.type.bits,
        claimed_type=claimed.name if claimed else None,
    )


def _kept(claim: Claim, lines: list[TensorLine]) -> list[Finding]:
    """Whether the tensors have the types that the mix gives them."""
    if not claim.differing or claim.claimed_bits_per_weight is None:
        return []
    differing = [line for line in lines if line.name in set(claim.differing)]
    shown = ", ".join(f"{x.name} {x.type} (not {x.claimed_type})" for x in differing[:3])
    more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
    share = claim.bits_per_weight / claim.claimed_bits_per_weight - 1
    what = (
        f"{len(differing)} of {len(lines)} tensors do not have the type that llama.cpp gives them "
        f"in "
        f"{claim.mix}: {shown}{more}; {claim.bits_per_weight:.2f} bits per weight, "
        f"not {claim.claimed_bits_per_weight:.2f}"
    )
    # More bits here and there are an author's choice; fewer, or another size, make another file.
    matters = abs(share) > _WIDE or any(_fewer(line) for line in differing)
    return [Finding(subject="name", matters=matters, what=what)]


def _fewer(line: TensorLine) -> bool:
    """Whether a tensor has fewer bits than the claimed mix gives it."""
    claimed = TYPES[line.claimed_type] if line.claimed_type else None
    return claimed is not None and line.bits_per_weight < claimed.bits
