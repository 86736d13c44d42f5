"""Tokens that are matched whole in a text, from all files of a tokenizer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from edgeq.models.known_keys import SPECIAL_MEANINGS
from edgeq.models.settings import Settings

Token: TypeAlias = Mapping[str, Any]
"""In the format of tokenizer.json's `added_tokens`, without an id."""

_MORE = "additional_special_tokens"
_PROPERTIES = ("single_word", "lstrip", "rstrip", "normalized", "special")


def missing_tokens(
    settings: Settings,
    mapped: Settings,
    older: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
) -> tuple[Token, ...]:
    """Tokens that tokenizer.json lacks, or has with properties other than transformers would use.

    settings: of tokenizer_config.json. mapped: of special_tokens_map.json. older: of
    added_tokens.json; the last two count only if the first lists no tokens.
    """
    own = {token["content"]: _properties(token) for token in _added(tokenizer)}
    named, more, listed = _named(settings), _named(mapped), _listed(settings)
    if "added_tokens_decoder" not in settings:
        said = {name: token for name, token in more.items() if token is not None}
        named |= {**said, _MORE: [*named[_MORE], *more[_MORE]]}
        listed = _older(older, set(map(_spelled, _each(named))), settings)
        listed |= {token["id"]: _properties(token) for token in _added(tokenizer)}
    tokens = [listed[id] for id in sorted(listed)]
    special = set(map(_spelled, _each(named)))
    known = {token["content"]: token for token in tokens}
    found: dict[str, Token] = {}
    for token in [*tokens, *_by_meaning(named, {**own, **known}, known)]:
        text = token["content"]
        found[text] = {**token, "special": token["special"] or text in special}
    return tuple(token for text, token in found.items() if text and own.get(text) != token)


def with_tokens(
    tokenizer: dict[str, Any], tokens: Iterable[Token], rows: int | None
) -> dict[str, Any]:
    """A tokenizer.json with `tokens` added, new ones after its own.

    rows: of the embedding. A token without a row is omitted: the model cannot read it.
    """
    added = {token["content"]: dict(token) for token in _added(tokenizer)}
    ids = _ids(tokenizer)
    largest = max((token["id"] for token in added.values()), default=-1)
    following = max(len(ids), largest + 1)
    for token in tokens:
        text = token["content"]
        id = added[text]["id"] if text in added else ids.get(text, following)
        if rows is None or id < rows:
            added[text] = {"id": id, **token}
            following += id == following
    return {**tokenizer, "added_tokens": sorted(added.values(), key=lambda each: each["id"])}


def _ids(tokenizer: Mapping[str, Any]) -> Mapping[str, int]:
    vocabulary = tokenizer["model"].get("vocab") or {}
    if isinstance(vocabulary, list):  # pieces with their scores
        return {piece[0]: id for id, piece in enumerate(vocabulary)}
    return dict(vocabulary)


def _added(tokenizer: Mapping[str, Any]) -> list[dict[str, Any]]:
    added = tokenizer.get("added_tokens")
    return [
        token
        for token in (added if isinstance(added, list) else [])
        if isinstance(token, dict) and isinstance(token.get("content"), str)
    ]


def _properties(token: Mapping[str, Any], special: bool = False) -> dict[str, Any]:
    """A token as the `tokenizers` package completes it."""
    special = special or bool(token.get("special"))
    usual = {"normalized": not special, "special": special}
    properties = {name: bool(token.get(name, usual.get(name, False))) for name in _PROPERTIES}
    return {"content": token["content"], **properties, "special": special}


def _token(text: str, *, special: bool) -> dict[str, Any]:
    return _properties({"content": text}, special)


def _listed(settings: Settings) -> dict[int, dict[str, Any]]:
    """The tokens of `added_tokens_decoder` by id."""
    listed = settings.mapping("added_tokens_decoder")
    try:
        return {int(id): _properties(token) for id, token in listed.items()}
    except (ValueError, TypeError, KeyError):
        raise settings.unusable("added_tokens_decoder", listed, "tokens by their ids") from None


def _older(
    older: Mapping[str, Any], special: Collection[str], settings: Settings
) -> dict[int, dict[str, Any]]:
    """The tokens of added_tokens.json by id."""
    if not all(type(id) is int for id in older.values()):
        raise Settings({}, settings.where, "added_tokens.json").unusable(
            "it", older, "ids by token"
        )
    return {id: _token(text, special=text in special) for text, id in older.items()}


def _named(settings: Settings) -> dict[str, Any]:
    """The tokens with a name, and a list of more under `additional_special_tokens`."""
    extra = settings.get("extra_special_tokens") or {}
    more = settings.get(_MORE) or []
    if isinstance(extra, list):  # transformers 5 has one list where version 4 has two places
        extra, more = {}, [*more, *extra]
    if not isinstance(extra, dict):
        raise settings.unusable("extra_special_tokens", extra, "tokens by their names")
    settings.ignore(extra)  # version 4 repeats them
    found = {name: settings.get(name) for name in SPECIAL_MEANINGS}
    found |= {_MORE: more, **extra}
    if not isinstance(more, list) or not all(map(_is_token, _each(found))):
        raise settings.unusable("special tokens", list(_each(found)), "texts")
    return found


def _each(named: Mapping[str, Any]) -> Iterator[Any]:
    for token in named.values():
        if isinstance(token, list):
            yield from token
        elif token is not None:
            yield token


def _is_token(token: Any) -> bool:
    return isinstance(token, str) or (
        isinstance(token, dict) and isinstance(token.get("content"), str)
    )


def _spelled(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _by_meaning(
    named: Mapping[str, Any], there: Mapping[str, Token], listed: Mapping[str, Token]
) -> Iterator[Token]:
    """Named tokens: as they are listed, as they describe themselves, or plain."""
    for name, token in named.items():
        for each in _each({name: token}):
            text = _spelled(each)
            if text in listed and name != _MORE:
                yield listed[text]
            elif isinstance(each, dict):
                yield _properties(each, special=True)
            elif text not in there:
                yield _token(text, special=True)
