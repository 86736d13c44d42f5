"""Describe parts of a model in plain words: kinds of weights, and their layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from edgeq.report.page.tensors import OUTSIDE, place_of

_PARTS = (
    (r"embed_tokens|word_embeddings|token_embd|wte", "the table of words"),
    (r"token_type|segment", "the table of segments"),
    (r"position|wpe", "the table of positions"),
    (r"attention|attn|[qkvo]_proj|query|key|value|qkv", "attention"),
    (r"mlp|ffn|gate|up_proj|down_proj|intermediate|^output$|fc\d?|dense", "the layers' inner part"),
    (r"lm_head|classifier|head", "the last step to the answer"),
    (r"conv", "filters"),
)
_MOST_GROUPS, _MOST_KINDS, _MOST_LAYERS = 3, 3, 3


def parts_of(names: Iterable[str], every: Collection[str]) -> str:
    """Describe the weights `names` by part of the model; `every` names all its weights.

    >>> every = [f"model.layers.{i}.self_attn.v_proj.weight" for i in range(2)]
    >>> parts_of(every[:1], every)
    'attention (v_proj) in layer 0 of 2'
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_part(place_of(name)[1]), []).append(name)
    parts = [_group(part, own, every) for part, own in list(groups.items())[:_MOST_GROUPS]]
    more = ["others"] if len(groups) > _MOST_GROUPS else []
    return _joined([*parts, *more])


def _part(kind: str) -> str:
    return next((word for pattern, word in _PARTS if re.search(pattern, kind)), "other weights")


def _group(part: str, names: Collection[str], every: Collection[str]) -> str:
    places = [place_of(name) for name in names]
    kinds = list(dict.fromkeys(kind for _, kind in places))
    shown = ", ".join(kinds[:_MOST_KINDS]) + (", …" if len(kinds) > _MOST_KINDS else "")
    layers = sorted({int(layer) for layer, _ in places if layer != OUTSIDE})
    total = len({layer for layer, _ in map(place_of, every)} - {OUTSIDE})
    if not layers:
        return f"{part} ({shown})"
    if len(layers) == total:
        return f"{part} ({shown}) in every layer"
    if len(layers) > _MOST_LAYERS:
        return f"{part} ({shown}) in {len(layers)} of {total} layers"
    word = "layer" if len(layers) == 1 else "layers"
    return f"{part} ({shown}) in {word} {_joined(list(map(str, layers)))} of {total}"


def _joined(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
