"""llama.cpp's rules for the type of one tensor in a mix, by its kind and its layer.

Reimplemented from `llama_tensor_get_type` and its callees (llama.cpp, src/llama-quant.cpp). `None`
stands for the mix's own type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgeq.quantize.ggml.types import TYPES

_TWO_BITS = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M")
_LARGER_TWO_BITS = ("IQ2_S", "IQ2_M")
TABLES = {
    "output.weight": "output",
    "token_embd.weight": "embedding",
    "per_layer_token_embd.weight": "embedding",
}
_KINDS = {
    **dict.fromkeys(("attn_qkv.weight", "attn_kv_b.weight", "attn_v.weight"), "attention_v"),
    **{"attn_k.weight": "attention_k", "attn_q.weight": "attention_q"},
    **{"attn_output.weight": "attention_output"},
    **{"ffn_up": "ffn_up", "ffn_gate": "ffn_gate", "ffn_down": "ffn_down"},
}
# Architectures whose models of 80 layers llama.cpp treats as a 70B.
_KNOWN_70B = ("llama", "qwen2", "deci", "olmo")


@dataclass(frozen=True)
class MixFacts:
    """Facts that the rules use, apart from tensors.

    architecture: `general.architecture`. layers: `block_count`. heads, kv_heads: of the first
    layer, of queries and of keys. experts: `expert_count`, 0 for a dense model.
    """

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    experts: int = 0

    @property
    def shares_much(self) -> bool:
        """Whether at least four query heads share a key head, which makes that more important."""
        return self.kv_heads > 0 and self.heads // self.kv_heads >= 4

    @property
    def is_70b(self) -> bool:
        """Whether llama.cpp treats it as a 70B, by its layers."""
        known = self.architecture in _KNOWN_70B and self.layers == 80
        return known and (self.architecture != "llama" or self.heads != self.kv_heads)


_EMBEDDING = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS"), "Q2_K"),
    **dict.fromkeys((*_LARGER_TWO_BITS, "IQ3_XXS"), "IQ3_S"),
    **dict.fromkeys(("TQ1_0", "TQ2_0"), "Q4_K"),
}
_QUERIES = {"IQ3_XS": "IQ3_XXS", "IQ3_XXS": "IQ2_S"}
_VALUES_SHARED = {
    **dict.fromkeys(("Q2_K", "Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ3_S"), "Q4_K"),
    **dict.fromkeys(("IQ4_NL", "IQ4_XS"), "Q5_K"),
}
_ATTENTION_OUTPUT = {
    **{"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"},
    **{"IQ3_XXS": "IQ3_S", "IQ3_M": "Q4_K"},
}
_OUTPUT_OF_EIGHT = (
    *("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS"),
    *("IQ3_XXS", "IQ3_XS", "IQ3_S", "IQ3_M"),
)
# Feed-forward outputs of the first eighth of the layers, in mixes that treat them separately.
_EARLY = {"Q2_K_S": "Q4_K", "IQ3_M": "Q4_K", "Q4_K_S": "Q5_K"}
_EARLY_WEIGHTED = {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}
_EARLY_UNWEIGHTED = {"IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K"}


def layer_of(name: str) -> int:
    """The layer number of a tensor, -1 outside all layers."""
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found.group(1)) if found else -1


class Chooser:
    """Chooses tensor by tensor, in file order: some rules count earlier tensors."""

    def __init__(
        self,
        mix: str,
        base: str,
        facts: MixFacts,
        has_importance: bool,
        names: Iterable[str],
    ) -> None:
        self._mix, self._base, self._facts = mix, base, facts
        self._weighted = has_importance
        kinds = [_kind(name) for name in names]
        self._tied = "output" not in kinds
        self._values = kinds.count("attention_v")
        self._seen = dict.fromkeys(_KINDS.values(), 0)

    def choose(self, name: str, shape: tuple[int, ...]) -> str:
        """The mix's choice, whether or not rows divide into its blocks."""
        kind, mix = _kind(name), self._mix
        place = self._seen.get(kind, 0)
        self._seen[kind] = place + 1
        if mix == "MXFP4_MOE":
            has_experts = len(shape) > 2 and shape[0] > 1
            return "MXFP4" if has_experts else "Q8_0"
        if kind == "output" or (kind == "embedding" and self._tied):  # the same table is the output
            return self._output(shape[-1])
        if kind == "embedding":
            return _EMBEDDING.get(mix, self._base)
        if mix in _TWO_BITS:
            return self._two_bits(kind, place) or self._base
        # layers with several experts are identified by name
        layer = layer_of(name) if self._facts.experts > 1 else place
        return self._by_kind(kind, place, layer) or self._base

    def _by_kind(self, kind: str, place: int, layer: int) -> str | None:
        if kind == "attention_v":
            return self._attention_v(place)
        if kind == "attention_k" and self._facts.experts == 8:
            return "Q8_0"
        if kind in ("attention_k", "attention_q"):
            return _QUERIES.get(self._mix)
        if kind == "attention_output":
            return self._attention_output()
        if kind == "ffn_down":
            return self._ffn_down(layer)
        return self._ffn_up_gate(layer) if kind in ("ffn_up", "ffn_gate") else None

    def _output(self, columns: int) -> str:
        if columns % TYPES[self._base].block or self._base == "Q8_0":
            return "Q8_0"
        return "Q5_K" if self._mix in (*_TWO_BITS, "IQ3_XXS") else "Q6_K"

    def _two_bits(self, kind: str, place: int) -> str | None:
        facts, larger = self._facts, self._mix in _LARGER_TWO_BITS
        wider = "IQ3_S" if larger else "Q2_K"
        if kind == "attention_v":
            return "Q4_K" if facts.shares_much or facts.experts >= 4 else wider
        if kind == "ffn_down":
            return wider if place < facts.layers // 8 else None
        if facts.experts == 8:
            return {"attention_k": "Q4_K", "attention_output": "Q5_K"}.get(kind)
        if kind == "attention_output":
            return "IQ3_S" if larger else "IQ2_XXS" if self._mix.startswith("IQ1") else None
        return None

    def _attention_v(self, place: int) -> str | None:
        if self._facts.experts == 8:
            return "Q8_0"
        chosen = self._value_type(place)
        if self._facts.is_70b and (chosen or self._base) in ("Q3_K", "Q4_K"):
            return "Q5_K"
        return chosen

    def _value_type(self, place: int) -> str | None:
        mix, shared = self._mix, self._facts.shares_much
        if mix in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if _gets_more_bits(place, self._values) else None
        if mix == "Q4_K_S":
            return "Q5_K" if place < 4 else None
        if mix == "Q3_K_M":
            return "Q5_K" if place < 2 else "Q4_K"
        if shared and mix in _VALUES_SHARED:
            return _VALUES_SHARED[mix]
        if mix == "IQ3_XXS":
            return "IQ3_XXS" if self._weighted else "IQ3_S"
        return {"Q3_K_L": "Q5_K", "IQ3_M": "Q4_K", "Q2_K": "Q3_K"}.get(mix)

    def _attention_output(self) -> str | None:
        if self._facts.experts == 8:
            return "Q5_K" if self._mix in _OUTPUT_OF_EIGHT else None
        return _ATTENTION_OUTPUT.get(self._mix)

    def _ffn_down(self, layer: int) -> str | None:
        mix, layers = self._mix, self._facts.layers
        if mix in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if _gets_more_bits(layer, layers) else None
        if mix == "Q3_K_M":
            return "Q5_K" if layer < layers // 16 else "Q4_K"
        if mix == "IQ3_XXS" and not self._weighted:
            return "Q4_K" if layer < layers // 8 else "Q3_K"
        if mix == "IQ3_M" and self._facts.experts == 8 and _gets_more_bits(layer, layers):
            return "Q4_K"
        if layer < layers // 8:
            apart = _EARLY_WEIGHTED if self._weighted else _EARLY_UNWEIGHTED
            chosen = _EARLY.get(mix) or apart.get(mix)
            if chosen:
                return chosen
        return {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K"}.get(mix)

    def _ffn_up_gate(self, layer: int) -> str | None:
        layers = self._facts.layers
        is_middle = layers // 8 <= layer < 7 * layers // 8
        return "IQ3_XXS" if self._mix == "IQ3_XS" and is_middle else None


def _kind(name: str) -> str:
    if name in TABLES:
        return TABLES[name]
    return next((kind for part, kind in _KINDS.items() if part in name), "other")


def _gets_more_bits(layer: int, layers: int) -> bool:
    """The first and last eighth, and every third between: llama.cpp's `use_more_bits`."""
    first = layers // 8
    return layer < first or layer >= 7 * layers // 8 or (layer - first) % 3 == 2
