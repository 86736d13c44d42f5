"""Which type each tensor gets in llama.cpp's named mixes: `Q4_K_M`, `IQ3_XS` and the others.

The rules are those of llama.cpp's quantizer (src/llama-quant.cpp, `llama_tensor_get_type` and what
it calls), stated anew; they decide by the kind of a tensor, its layer, and a few facts of the
model, so a plan needs no weights. Rules for mixtures of experts, Falcon and formats that llama.cpp
uses for single models are left out: edgeq converts no such model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import gguf

from edgeq.gguf.types import TYPES, GgmlType, fallback

_BASE = {
    **{name: name for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")},
    **{name: name for name in ("Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ3_XXS")},
    **{"Q2_K": "Q2_K", "Q2_K_S": "Q2_K", "IQ4_NL": "IQ4_NL", "IQ4_XS": "IQ4_XS"},
    **{f"Q3_K_{size}": "Q3_K" for size in "SML"},
    **{f"Q{bits}_K_{size}": f"Q{bits}_K" for bits in (4, 5) for size in "SM"},
    **{"IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S", "IQ3_XS": "IQ3_S", "IQ3_S": "IQ3_S", "IQ3_M": "IQ3_S"},
}
MIXES: tuple[str, ...] = tuple(_BASE)
"""Every mix by its name, and `F32`, in which nothing is quantized."""

_TWO_BITS = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")
_LARGER_TWO_BITS = ("IQ2_S", "IQ2_M")

# Types too coarse to be rounded without knowing which inputs matter, by llama.cpp's judgement.
_COARSE = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")

# Tensors of two axes that stay as they are: they are small, or no product reads them.
_KEPT = re.compile(r"_norm\.weight|ffn_gate_inp\.weight|^position_embd\.|^token_types\.")
_TABLES = {"output.weight": "output", "token_embd.weight": "embedding"}
_KINDS = {
    "attn_qkv.weight": "attention_v",
    "attn_v.weight": "attention_v",
    "attn_k.weight": "attention_qk",
    "attn_q.weight": "attention_qk",
    "attn_output.weight": "attention_output",
    "ffn_up": "ffn_up_gate",
    "ffn_gate": "ffn_up_gate",
    "ffn_down": "ffn_down",
}


@dataclass(frozen=True)
class MixFacts:
    """What the rules look at besides tensors: `layers`, and heads of queries and of keys."""

    architecture: str
    layers: int
    heads: int
    kv_heads: int

    @property
    def shares_much(self) -> bool:
        """Whether four heads of queries or more share one of keys, which is then worth more."""
        return self.heads // self.kv_heads >= 4

    @property
    def is_70b(self) -> bool:
        """llama.cpp knows the large Llama and Qwen by their 80 layers."""
        known = self.architecture in ("llama", "qwen2")
        return known and self.layers == 80 and self.heads != self.kv_heads


def file_type(mix: str) -> int:
    """The number `general.file_type` has for a mix (llama.h, `enum llama_ftype`)."""
    name = "ALL_F32" if mix == "F32" else f"MOSTLY_{mix}"
    return int(gguf.LlamaFileType[name])


def file_order(names: Sequence[str]) -> list[str]:
    """The order llama.cpp's quantizer writes tensors in: by layer, those of none first, by name."""

    def key(name: str) -> tuple[int, str]:
        layer = re.match(r"blk\.(\d+)\.", name)
        return (int(layer.group(1)) if layer else -1, name)

    return sorted(names, key=key)


def mix_types(
    mix: str,
    tensors: Sequence[tuple[str, tuple[int, ...]]],
    facts: MixFacts,
    has_importance: bool,
) -> dict[str, GgmlType]:
    """The type of every tensor, by its name in the file.

    tensors: name and shape (rows first) of all of a model, in any order. has_importance: whether
    there is an importance matrix, by which some mixes choose otherwise.
    """
    base = TYPES[_BASE[mix]]
    shapes = dict(tensors)
    chooser = _Chooser(mix, base, facts, has_importance, shapes)
    found = {}
    for name in file_order(list(shapes)):
        shape = shapes[name]
        if not is_quantized(name, shape):
            found[name] = TYPES["F32"]
        elif base.block == 1:
            found[name] = base
        else:
            found[name] = fallback(chooser.choose(name, shape), shape[-1])
    return {name: found[name] for name, _ in tensors}


def is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """Whether mixes touch a tensor at all."""
    return len(shape) > 1 and name.endswith("weight") and not _KEPT.search(name)


def needs_importance(mix: str, name: str, type: GgmlType) -> bool:
    """Whether llama.cpp refuses to make this tensor of a mix without an importance matrix."""
    coarse = (*_COARSE, "Q2_K") if mix == "Q2_K_S" else _COARSE
    return name not in _TABLES and type.name in coarse


class _Chooser:
    """Chooses tensor by tensor, in the order of the file: some rules count what came before."""

    def __init__(
        self,
        mix: str,
        base: GgmlType,
        facts: MixFacts,
        has_importance: bool,
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        self._mix, self._base, self._facts = mix, base, facts
        self._weighted = has_importance
        self._tied = "output.weight" not in shapes
        self._values = sum(_kind(name) == "attention_v" for name in shapes)
        self._seen = {"attention_v": 0, "ffn_down": 0, "ffn_up": 0, "ffn_gate": 0}

    def choose(self, name: str, shape: tuple[int, ...]) -> GgmlType:
        """What the mix wants, whether rows divide into its blocks or not."""
        kind = _kind(name)
        rule = getattr(self, f"_{kind}", None)
        chosen: str | None = rule(name, shape) if rule else None
        return TYPES[chosen] if chosen else self._base

    def _count(self, kind: str) -> int:
        self._seen[kind] += 1
        return self._seen[kind] - 1

    def _output(self, name: str, shape: tuple[int, ...]) -> str | None:
        if shape[-1] % self._base.block or self._base.name == "Q8_0":
            return "Q8_0"
        coarse = self._mix in _TWO_BITS or self._mix == "IQ3_XXS"
        return "Q5_K" if coarse else "Q6_K"

    def _embedding(self, name: str, shape: tuple[int, ...]) -> str | None:
        if self._tied:  # the same table is the output layer
            return self._output(name, shape)
        if self._mix in _LARGER_TWO_BITS or self._mix == "IQ3_XXS":
            return "IQ3_S"
        return "Q2_K" if self._mix in _TWO_BITS else None

    def _attention_v(self, name: str, shape: tuple[int, ...]) -> str | None:
        place = self._count("attention_v")
        chosen = self._value_type(place)
        if self._mix in _TWO_BITS or not self._facts.is_70b:
            return chosen
        return "Q5_K" if (chosen or self._base.name) in ("Q3_K", "Q4_K") else chosen

    def _value_type(self, place: int) -> str | None:
        mix, shared = self._mix, self._facts.shares_much
        if mix in _TWO_BITS:
            return "Q4_K" if shared else "IQ3_S" if mix in _LARGER_TWO_BITS else "Q2_K"
        if mix in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if _gets_more_bits(place, self._values) else None
        if mix == "Q4_K_S":
            return "Q5_K" if place < 4 else None
        if mix == "Q3_K_M":
            return "Q5_K" if place < 2 else "Q4_K"
        if mix == "IQ3_XXS" and not shared:
            return "IQ3_XXS" if self._weighted else "IQ3_S"
        always = {"Q3_K_L": "Q5_K", "IQ3_M": "Q4_K", "Q2_K": "Q3_K"}
        where_shared = {
            **dict.fromkeys(("Q2_K", "Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ3_S"), "Q4_K"),
            **dict.fromkeys(("IQ4_NL", "IQ4_XS"), "Q5_K"),
        }
        return where_shared.get(mix, always.get(mix)) if shared else always.get(mix)

    def _attention_qk(self, name: str, shape: tuple[int, ...]) -> str | None:
        return {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}.get(self._mix)

    def _attention_output(self, name: str, shape: tuple[int, ...]) -> str | None:
        return {
            **dict.fromkeys(("IQ1_S", "IQ1_M"), "IQ2_XXS"),
            **dict.fromkeys((*_LARGER_TWO_BITS, "IQ3_XXS"), "IQ3_S"),
            **{"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"},
        }.get(self._mix)

    def _ffn_down(self, name: str, shape: tuple[int, ...]) -> str | None:
        layer, layers, mix = self._count("ffn_down"), self._facts.layers, self._mix
        is_early = layer < layers // 8
        if mix in _TWO_BITS:
            wider = "IQ3_S" if mix in _LARGER_TWO_BITS else "Q2_K"
            return wider if is_early else None
        if mix in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if _gets_more_bits(layer, layers) else None
        if mix == "Q3_K_M":
            return "Q5_K" if layer < layers // 16 else "Q4_K"
        if mix == "IQ3_XXS" and not self._weighted:
            return "Q4_K" if is_early else "Q3_K"
        later = {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K"}.get(mix)
        return self._early_down() or later if is_early else later

    def _early_down(self) -> str | None:
        """Of the first eighth of the layers, in mixes that treat them apart."""
        apart = {"Q2_K_S": "Q4_K", "IQ3_M": "Q4_K", "Q4_K_S": "Q5_K"}
        with_importance = {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}
        without = {"IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K"}
        return (apart | (with_importance if self._weighted else without)).get(self._mix)

    def _ffn_up_gate(self, name: str, shape: tuple[int, ...]) -> str | None:
        layer, layers = self._count(_up_or_gate(name)), self._facts.layers
        is_middle = layers // 8 <= layer < 7 * layers // 8
        return "IQ3_XXS" if self._mix == "IQ3_XS" and is_middle else None


def _kind(name: str) -> str:
    if name in _TABLES:
        return _TABLES[name]
    return next((kind for part, kind in _KINDS.items() if part in name), "other")


def _up_or_gate(name: str) -> str:
    return "ffn_up" if "ffn_up" in name else "ffn_gate"


def _gets_more_bits(layer: int, layers: int) -> bool:
    """The first and last eighth, and every third between: llama.cpp's `use_more_bits`."""
    first = layers // 8
    return layer < first or layer >= 7 * layers // 8 or (layer - first) % 3 == 2
