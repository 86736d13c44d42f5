"""The type of each tensor in llama.cpp's named mixes: `Q4_K_M`, `IQ3_XS` and the others.

The rules are those of llama.cpp's quantizer (src/llama-quant.cpp, `llama_tensor_get_type` and its
callees), reimplemented; they decide by the kind of a tensor, its layer, and a few facts about the
model, so a plan needs no weights. Its rules for the architecture Falcon are omitted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from edgeq.core.errors import InvalidInput, Problem
from edgeq.quantize.ggml.mix_rules import TABLES, Chooser, MixFacts, layer_of
from edgeq.quantize.ggml.types import TYPES, GgmlType, fallback

__all__ = ["MIXES", "MixFacts", "file_order", "file_type", "is_quantized", "mix_types"]
__all__ += ["needs_importance"]

# By name: its number in files (llama.h, `enum llama_ftype`), and the type of tensors without
# a more specific rule.
_MIXES: dict[str, tuple[int, str]] = {
    **{"F32": (0, "F32"), "F16": (1, "F16"), "BF16": (32, "BF16"), "Q8_0": (7, "Q8_0")},
    **{"Q4_0": (2, "Q4_0"), "Q4_1": (3, "Q4_1"), "Q5_0": (8, "Q5_0"), "Q5_1": (9, "Q5_1")},
    **{"Q2_K": (10, "Q2_K"), "Q2_K_S": (21, "Q2_K"), "Q6_K": (18, "Q6_K")},
    **{"Q3_K_S": (11, "Q3_K"), "Q3_K_M": (12, "Q3_K"), "Q3_K_L": (13, "Q3_K")},
    **{"Q4_K_S": (14, "Q4_K"), "Q4_K_M": (15, "Q4_K")},
    **{"Q5_K_S": (16, "Q5_K"), "Q5_K_M": (17, "Q5_K")},
    **{"IQ1_S": (24, "IQ1_S"), "IQ1_M": (31, "IQ1_M")},
    **{"IQ2_XXS": (19, "IQ2_XXS"), "IQ2_XS": (20, "IQ2_XS")},
    **{"IQ2_S": (28, "IQ2_XS"), "IQ2_M": (29, "IQ2_S")},
    **{"IQ3_XXS": (23, "IQ3_XXS"), "IQ3_XS": (22, "IQ3_S")},
    **{"IQ3_S": (26, "IQ3_S"), "IQ3_M": (27, "IQ3_S")},
    **{"IQ4_NL": (25, "IQ4_NL"), "IQ4_XS": (30, "IQ4_XS")},
    **{"TQ1_0": (36, "TQ1_0"), "TQ2_0": (37, "TQ2_0"), "MXFP4_MOE": (38, "MXFP4")},
}
MIXES: tuple[str, ...] = tuple(_MIXES)
"""Every mix by its name; in `F32` nothing is quantized."""

# llama.cpp refuses to round to these without importance, though its library would for some.
_COARSE = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")

# Tensors of two axes that stay unquantized: they are small, or no product reads them.
_KEPT = re.compile(
    r"_norm\.weight|ffn_gate_inp\.weight|ffn_gate_tid2eid\.weight|altup|laurel|per_layer_model_proj"
    r"|^position_embd\.weight$|^token_types\.weight$|ssm_conv1d|shortconv\.conv\.weight"
    r"|indexer\.[kq]_proj\.weight|time_mix_(first|[wva][012]|g[12]|decay_w[12]|lerp_fused)\.weight"
    r"|attn_rel_b\.weight|\.position_embd|sam\.(pos_embd|neck\.|net_)|\.rel_pos|\.patch_embd"
    r"|\.patch_merger|a\.rvq\.codebook|mm\.a\.code_embd"
)


def file_type(mix: str) -> int:
    """The number `general.file_type` of a mix."""
    return _MIXES[mix][0]


def file_order(names: Iterable[str]) -> list[str]:
    """The order in which llama.cpp's quantizer writes tensors: by layer, those outside layers
    first, by name.
    """
    return sorted(names, key=lambda name: (layer_of(name), name))


def is_quantized(name: str, shape: tuple[int, ...]) -> bool:
    """Whether mixes quantize a tensor at all. Leading axes of length 1 do not count."""
    rows = max(shape[:-1], default=1)
    return rows > 1 and name.endswith("weight") and not _KEPT.search(name)


def needs_importance(mix: str, name: str, type: GgmlType) -> bool:
    """Whether llama.cpp refuses to make a tensor `type` without an importance matrix.

    Tables do not need one: they multiply nothing, or importance for them is not collected.
    """
    if name in TABLES:
        return False
    return type.name in _COARSE or (type.name == "Q2_K" and mix == "Q2_K_S")


def mix_types(
    mix: str,
    tensors: Sequence[tuple[str, tuple[int, ...]]],
    facts: MixFacts,
    has_importance: bool,
) -> dict[str, GgmlType]:
    """The type of every tensor, by its name in the file; F32 for unquantized ones.

    tensors: name and shape (rows first) of all tensors of a model, in any order. has_importance:
    whether there is an importance matrix, which changes the choices of some mixes. Raises
    InvalidInput for a mix that llama.cpp does not have.
    """
    if mix not in MIXES:
        raise InvalidInput(
            Problem(mix, "is not a mix of llama.cpp's", f"known: {', '.join(MIXES)}")
        )
    base = TYPES[_MIXES[mix][1]]
    shapes = dict(tensors)
    chooser = Chooser(mix, base.name, facts, has_importance, shapes)
    found = {}
    for name in file_order(shapes):
        shape = shapes[name]
        if not is_quantized(name, shape):
            found[name] = TYPES["F32"]
        elif base.block == 1:
            found[name] = base
        else:
            found[name] = fallback(TYPES[chooser.choose(name, shape)], shape[-1])
    return {name: found[name] for name, _ in tensors}
