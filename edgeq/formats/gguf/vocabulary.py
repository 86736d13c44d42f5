"""A tokenizer as GGUF metadata: tokens, merges, tokens with a meaning, the chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.header import SPECIAL_TOKENS, MetaValue
from edgeq.formats.gguf.pretokenizers import pretokenizer_name
from edgeq.formats.gguf.tokens import Tokens, tokens_of
from edgeq.models.huggingface import ModelDirectory

_PHI3_ENDS = ("</s>", "<unk>", "<s>", "<|endoftext|>")


@dataclass(frozen=True)
class Vocabulary:
    """metadata: all `tokenizer.*` keys. strips_like_phi3: see `phi3_strips`."""

    metadata: dict[str, MetaValue]
    strips_like_phi3: bool


def vocabulary_of(directory: ModelDirectory, rows: int) -> Vocabulary:
    """The tokenizer of a model whose embedding has `rows` rows.

    Raises InvalidInput for a tokenizer that llama.cpp cannot take the place of.
    """
    where = str(directory.tokenizer)
    reference = _load(directory.tokenizer)
    tokenizer = _json(directory.tokenizer)
    settings = _json(directory.path / "tokenizer_config.json")
    tokens = tokens_of(tokenizer, rows, where)
    keys: dict[str, MetaValue] = {
        "model": MetaValue("string", tokens.model),
        "pre": MetaValue("string", _pre(tokens, tokenizer, where)),
        "tokens": MetaValue("array", tokens.texts, "string"),
        "token_type": MetaValue("array", np.array(tokens.types, np.int32), "int32"),
    }
    if tokens.scores is not None:
        keys["scores"] = MetaValue("array", np.array(tokens.scores, np.float32), "float32")
    if tokens.merges is not None:
        keys["merges"] = MetaValue("array", tokens.merges, "string")
    if tokens.model == "bert":
        keys.update(_bert_keys(directory, tokenizer, where))
    if tokens.model == "llama":
        keys["add_space_prefix"] = MetaValue("bool", _has_space_prefix(tokenizer))
    keys.update(_meanings(directory, settings, reference, rows, tokens.model))
    metadata = {f"tokenizer.ggml.{name}": value for name, value in keys.items()}
    metadata.update(_chat_templates(directory.path, settings))
    return Vocabulary(metadata, phi3_strips(tokenizer))


def phi3_strips(tokenizer: Mapping[str, Any]) -> bool:
    """Whether special tokens swallow the spaces behind them as Phi-3's do.

    GGUF has no key for it: llama.cpp goes by "phi-3" in the model's name, and then wants these
    tokens to exist.
    """
    added = {token["content"]: token for token in tokenizer.get("added_tokens") or []}
    return all(text in added for text in _PHI3_ENDS) and any(
        token.get("rstrip") for token in added.values()
    )


def _load(path: Path) -> Tokenizer:
    """The tokenizer, whole texts and nothing around them but its own special tokens."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more precise
        what = f"is no tokenizer: {error}"
        raise InvalidInput(Problem(str(path), what, "download or save it again")) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; nothing where there is no file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        what = f"cannot be read as JSON: {error}"
        raise InvalidInput(Problem(str(path), what, "download or save it again")) from None
    return found if isinstance(found, dict) else {}


def _pre(tokens: Tokens, tokenizer: Mapping[str, Any], where: str) -> str:
    if tokens.model != "gpt2":
        return "default"
    name = pretokenizer_name(tokenizer)
    if name is None:
        steps = json.dumps(tokenizer.get("pre_tokenizer"))
        what = f"it cuts text into words in a way that llama.cpp has no name for: {steps}"
        raise InvalidInput(Problem(where, what, "build this model for ONNX"))
    return name


def _has_space_prefix(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a space is put before a text: by the normalizer, or by the pre-tokenizer."""
    found = json.dumps([tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")])
    schemes = ('"prepend_scheme": "always"', '"prepend_scheme": "first"', '"type": "Prepend"')
    return any(scheme in found for scheme in schemes)


def _bert_keys(
    directory: ModelDirectory, tokenizer: Mapping[str, Any], where: str
) -> dict[str, MetaValue]:
    normalizer = tokenizer.get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer":
        what = f"its normalizer is {normalizer.get('type')}, llama.cpp's WordPiece has BERT's"
        raise InvalidInput(Problem(where, what, "build this model for ONNX"))
    lowercase = bool(normalizer.get("lowercase", True))
    accents = normalizer.get("strip_accents")
    return {
        "token_type_count": MetaValue("uint32", int(directory.config.get("type_vocab_size", 2))),
        "normalizer.lowercase": MetaValue("bool", lowercase),
        "normalizer.strip_accents": MetaValue("bool", lowercase if accents is None else accents),
    }


def _meanings(
    directory: ModelDirectory,
    settings: Mapping[str, Any],
    tokenizer: Tokenizer,
    rows: int,
    model: str,
) -> dict[str, MetaValue]:
    """Ids of the tokens with a meaning, and whether a text gets them at its ends."""
    where = str(directory.tokenizer)
    ids = _named_ids(directory, settings, tokenizer)
    first, last = _around(tokenizer, where)
    if model == "bert":
        ids["bos_token_id"], ids["seperator_token_id"] = first, last
        return {name: MetaValue("uint32", id) for name, id in ids.items() if id is not None}
    ids["bos_token_id"] = first if first is not None else ids.get("bos_token_id")
    ids["eos_token_id"] = last if last is not None else ids.get("eos_token_id")
    if ids["eos_token_id"] is None:
        what = "no file names the token that ends a text, and llama.cpp would take any"
        raise InvalidInput(Problem(where, what, "add eos_token to tokenizer_config.json"))
    ids["eot_token_id"] = _end_of_turn(directory, ids["eos_token_id"])
    keys = {
        name: MetaValue("uint32", id)
        for name, id in ids.items()
        if id is not None and 0 <= id < rows
    }
    keys["add_bos_token"] = MetaValue("bool", first is not None)
    keys["add_eos_token"] = MetaValue("bool", last is not None)
    return keys


def _named_ids(
    directory: ModelDirectory, settings: Mapping[str, Any], tokenizer: Tokenizer
) -> dict[str, int | None]:
    """From tokenizer_config.json, else special_tokens_map.json, else config.json."""
    named = {**_json(directory.path / "special_tokens_map.json"), **settings}
    ids: dict[str, int | None] = {}
    for meaning, key in SPECIAL_TOKENS.items():
        token = named.get(meaning)
        text = token.get("content") if isinstance(token, dict) else token
        found = tokenizer.token_to_id(text) if isinstance(text, str) else None
        other: Any = directory.config.get(f"{meaning}_id") if found is None else found
        number = other[0] if isinstance(other, list) and other else other
        if isinstance(number, int):
            ids[key] = number
    return ids


def _around(tokenizer: Tokenizer, where: str) -> tuple[int | None, int | None]:
    """The ids a text gets in front and behind; by trying, since files contradict each other."""
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    front: list[int | None] = [*whole[:start]]
    behind: list[int | None] = [*whole[start + len(plain) :]]
    if len(front) > 1 or len(behind) > 1:
        what = f"it puts {front} in front of a text and {behind} behind; llama.cpp puts one at most"
        raise InvalidInput(Problem(where, what, "build this model for ONNX"))
    return (front or [None])[0], (behind or [None])[0]


def _end_of_turn(directory: ModelDirectory, eos: int) -> int | None:
    """Another token that ends an answer, from generation_config.json; llama.cpp has room for one.

    The others of the usual names it finds by itself.
    """
    ends = _json(directory.path / "generation_config.json").get("eos_token_id")
    others = [end for end in ends if end != eos] if isinstance(ends, list) else []
    return int(others[-1]) if others else None


def _chat_templates(path: Path, settings: Mapping[str, Any]) -> dict[str, MetaValue]:
    """As they are: one, or several by name of which `default` is the one without a name."""
    found = settings.get("chat_template")
    named = {"default": found} if isinstance(found, str) else {}
    if isinstance(found, list):
        named = {str(entry["name"]): str(entry["template"]) for entry in found}
    file = path / "chat_template.jinja"
    if file.is_file():
        named["default"] = file.read_text(encoding="utf-8")
    keys = {}
    others = sorted(set(named) - {"default"})
    if others:
        keys["tokenizer.chat_templates"] = MetaValue("array", others, "string")
    for name in others:
        keys[f"tokenizer.chat_template.{name}"] = MetaValue("string", named[name])
    if "default" in named:
        keys["tokenizer.chat_template"] = MetaValue("string", named["default"])
    return keys
