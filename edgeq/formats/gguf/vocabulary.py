"""A tokenizer as GGUF metadata: tokens, merges, special tokens, the chat template."""

from __future__ import annotations

import functools
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
from edgeq.formats.gguf.respelled import keep_ordinary
from edgeq.formats.gguf.tokens import Tokens, tokens_of
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.special_tokens import (
    SpecialTokens,
    chat_templates,
    required_ends,
    special_tokens,
)

# An answer's and a message's end; llama.cpp stops at either as at the end of a text.
_END_KEYS = ("eot_token_id", "eom_token_id")
_LONG = ("vocab", "merges")  # of a tokenizer's model: hundreds of thousands of items
_PHI3_ENDS = ("</s>", "<unk>", "<s>", "<|endoftext|>")


@dataclass(frozen=True)
class Vocabulary:
    """metadata: all `tokenizer.*` keys. strips_like_phi3: see `phi3_strips`.

    ends: tokens that end a text. notes: differences between the file and the tokenizer.
    """

    metadata: dict[str, MetaValue]
    strips_like_phi3: bool
    ends: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def vocabulary_of(directory: ModelDirectory, rows: int) -> Vocabulary:
    """The tokenizer of a model whose embedding has `rows` rows.

    Raises InvalidInput for a tokenizer that llama.cpp cannot replace.
    """
    where = str(directory.tokenizer)
    content = directory.tokenizer_json()
    reference = load_tokenizer(content, where)
    tokenizer, tokens, notes = _read(content, rows, where)
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
    special = special_tokens(directory.path, directory.config, where)
    ends = () if tokens.model == "bert" else required_ends(special, directory.path, where)
    keys.update(_meanings(directory, special, reference, rows, tokens.model))
    metadata = {f"tokenizer.ggml.{name}": value for name, value in keys.items()}
    metadata.update(_chat_keys(directory.path))
    return Vocabulary(metadata, phi3_strips(tokenizer), ends, notes)


@functools.lru_cache(maxsize=2)
def _read(content: bytes, rows: int, where: str) -> tuple[dict[str, Any], Tokens, tuple[str, ...]]:
    """A tokenizer without its vocabulary and merges, its tokens, and notes about them."""
    tokenizer = json.loads(content)
    tokens, notes = keep_ordinary(tokens_of(tokenizer, rows, where), load_tokenizer(content, where))
    rest = {key: tokenizer["model"][key] for key in tokenizer["model"] if key not in _LONG}
    return {**tokenizer, "model": rest}, tokens, notes


def phi3_strips(tokenizer: Mapping[str, Any]) -> bool:
    """Whether special tokens swallow the spaces after them as Phi-3's do.

    GGUF has no key for it: llama.cpp goes by "phi-3" in the model's name, and then requires these
    tokens to exist.
    """
    added = {token["content"]: token for token in tokenizer.get("added_tokens") or []}
    return all(text in added for text in _PHI3_ENDS) and any(
        token.get("rstrip") for token in added.values()
    )


@functools.lru_cache(maxsize=2)  # loading takes seconds if large, and every artifact needs it
def load_tokenizer(content: bytes, where: str) -> Tokenizer:
    """The tokenizer, for whole texts with only its own special tokens around them."""
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # tokenizers raises nothing more precise
        what = f"is not a tokenizer: {error}"
        raise InvalidInput(Problem(where, what, "download or save it again")) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _pre(tokens: Tokens, tokenizer: Mapping[str, Any], where: str) -> str:
    if tokens.model != "gpt2":
        return "default"
    name = pretokenizer_name(tokenizer)
    if name is None:
        steps = json.dumps(tokenizer.get("pre_tokenizer"))
        what = f"it splits text into words in a way unknown to llama.cpp: {steps}"
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
    steps = normalizer.get("normalizers", [])
    lowers = [step.get("type") for step in steps] == ["Lowercase", "BertNormalizer"]
    if lowers:  # as a sentence-transformers setting requests
        normalizer = steps[1]
    if normalizer.get("type") != "BertNormalizer":
        what = f"its normalizer is {normalizer.get('type')}, llama.cpp's WordPiece has BERT's"
        raise InvalidInput(Problem(where, what, "build this model for ONNX"))
    lowercase = bool(normalizer.get("lowercase", True))
    accents = normalizer.get("strip_accents")
    return {
        "token_type_count": MetaValue("uint32", int(directory.config.get("type_vocab_size", 2))),
        "normalizer.lowercase": MetaValue("bool", lowercase or lowers),
        "normalizer.strip_accents": MetaValue("bool", lowercase if accents is None else accents),
    }


def _meanings(
    directory: ModelDirectory, special: SpecialTokens, tokenizer: Tokenizer, rows: int, model: str
) -> dict[str, MetaValue]:
    """Ids of special tokens, and whether they are added around a text."""
    where = str(directory.tokenizer)
    ids: dict[str, int | None] = {
        key: special.ids.get(meaning.removesuffix("_token"))
        for meaning, key in SPECIAL_TOKENS.items()
    }
    first, last = _around(tokenizer, where)
    if model == "bert":
        ids["bos_token_id"], ids["seperator_token_id"] = first, last
        return {name: MetaValue("uint32", id) for name, id in ids.items() if id is not None}
    ids["bos_token_id"] = first if first is not None else ids["bos_token_id"]
    main = ids["eos_token_id"] if last is None else last
    ids["eos_token_id"] = special.ends[0] if main is None else main
    ids.update(_other_ends(directory, special, ids["eos_token_id"]))
    keys = {
        name: MetaValue("uint32", id)
        for name, id in ids.items()
        if id is not None and 0 <= id < rows
    }
    keys["add_bos_token"] = MetaValue("bool", first is not None)
    keys["add_eos_token"] = MetaValue("bool", last is not None)
    return keys


def _other_ends(
    directory: ModelDirectory, special: SpecialTokens, main: int | None
) -> dict[str, int | None]:
    """Keys for the other end tokens; some of these llama.cpp recognizes by their spelling.

    Raises InvalidInput for more than it has keys for.
    """
    named = [end for end in special.ends if end != main and end not in special.spelled_ends]
    spelled = [end for end in special.ends if end != main and end in special.spelled_ends]
    if len(named) > len(_END_KEYS):
        what = f"{1 + len(named)} tokens end a text, and a GGUF file can name {1 + len(_END_KEYS)}"
        raise InvalidInput(Problem(str(directory.path), what, "build this model for ONNX"))
    return dict(zip(_END_KEYS, [*named, *spelled], strict=False))


def _around(tokenizer: Tokenizer, where: str) -> tuple[int | None, int | None]:
    """The ids added before and after a text; determined by trying, since files contradict each
    other.
    """
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    start = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    front: list[int | None] = [*whole[:start]]
    behind: list[int | None] = [*whole[start + len(plain) :]]
    if len(front) > 1 or len(behind) > 1:
        what = f"it puts {front} before a text and {behind} after it; llama.cpp puts at most one"
        raise InvalidInput(Problem(where, what, "build this model for ONNX"))
    return (front or [None])[0], (behind or [None])[0]


def _chat_keys(path: Path) -> dict[str, MetaValue]:
    """The chat templates: one, or several by name; `default` is the one without a name."""
    named = chat_templates(path)
    keys = {}
    others = sorted(set(named) - {"default"})
    if others:
        keys["tokenizer.chat_templates"] = MetaValue("array", others, "string")
    for name in others:
        keys[f"tokenizer.chat_template.{name}"] = MetaValue("string", named[name])
    if "default" in named:
        keys["tokenizer.chat_template"] = MetaValue("string", named["default"])
    return keys
