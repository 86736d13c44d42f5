"""Whether two models tokenize a text equally: otherwise their predictions cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.language import LanguageModel

_SHOWN = 24  # characters of the text around a differing token


class OtherTokens(InvalidInput):
    """The two models tokenize the text differently."""


def beginning(model: LanguageModel) -> int | None:
    """The token that the model expects before a text, None if it expects none."""
    with_special, plain = model.tokens("a"), model.tokens("a", special=False)
    return with_special[0] if with_special[0] != plain[0] else None


def same_tokens(
    models: Sequence[LanguageModel], paths: Sequence[Path], text: str
) -> tuple[int | None, list[int]]:
    """The token that both models expect before a text, and the ids of `text` after it.

    Raises OtherTokens, showing the first difference, unless both models agree.
    """
    first = [beginning(model) for model in models]
    if first[0] != first[1]:
        shown = ["no token" if token is None else f"token {token}" for token in first]
        what = f"puts {shown[1]} before a text, and {paths[0]} puts {shown[0]}"
        raise OtherTokens(Problem(str(paths[1]), what, "compare models of one tokenizer"))
    ids = [model.tokens(text, special=False) for model in models]
    if ids[0] != ids[1]:
        raise OtherTokens(_first_difference(models, paths, ids))
    return first[0], ids[0] if first[0] is None else [first[0], *ids[0]]


def _first_difference(
    models: Sequence[LanguageModel], paths: Sequence[Path], ids: Sequence[Sequence[int]]
) -> Problem:
    pairs = enumerate(zip(*ids, strict=False))
    at = next((place for place, (x, y) in pairs if x != y), min(map(len, ids)))
    before = models[0].text(ids[0][max(0, at - _SHOWN) : at])[-_SHOWN:]
    shown = [
        f"{own[at]} {model.text([own[at]])!r}" if at < len(own) else "the end"
        for model, own in zip(models, ids, strict=True)
    ]
    what = (
        f"tokenizes the text differently from {paths[0]}: token {at}, after {before!r}, is "
        f"{shown[1]}, not {shown[0]}"
    )
    return Problem(str(paths[1]), what, "compare models of one tokenizer")
