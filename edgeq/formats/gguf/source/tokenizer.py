"""The tokenizer.json and tokenizer_config.json of a GGUF file's vocabulary.

What llama.cpp does with the vocabulary is written in the words of `tokenizers`; whether both give
the same ids is compared on texts before anything is built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from edgeq.core.errors import InvalidInput, Problem
from edgeq.formats.gguf.header import SPECIAL_TOKENS, Header
from edgeq.formats.gguf.pretokenizers import steps_of
from edgeq.formats.gguf.respelled import TAKEN_FOR_CONTROL
from edgeq.formats.gguf.tokens import WORD_START, TokenType

_KEY = "tokenizer.ggml."
_MARK = re.compile(r"<[^<>\s]{2,}>|\[/?[A-Z_]{2,}\]")
_WHOLE_WORDS_FIRST = ("llama-bpe", "llama3", "lfm2", "tekken")


def tokenizer_of(header: Header) -> dict[str, Any]:
    """The content of tokenizer.json. Raises InvalidInput for a tokenizer of another kind."""
    kind = header.get(f"{_KEY}model")
    if kind not in ("gpt2", "llama"):
        what = f"its tokenizer is of the kind {kind!r}"
        raise InvalidInput(Problem(str(header.path), what, "supported: gpt2, llama"))
    texts, types = texts_and_types(header, header.get(f"{_KEY}token_type", ()))
    parts = _byte_level(header, texts) if kind == "gpt2" else _sentence_piece(header, texts, types)
    vocabulary = {text: id for id, text in enumerate(texts) if types[id] is not TokenType.UNUSED}
    model = {"type": "BPE", "dropout": None, "vocab": vocabulary, **parts.pop("model")}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(added_tokens(texts, types)),
        "normalizer": None,
        **parts,
        "post_processor": _around(header, texts),
        "model": model,
    }


def texts_and_types(header: Header, numbers: Sequence[int]) -> tuple[list[str], list[TokenType]]:
    """Every token's text and type, as llama.cpp takes it.

    Raises InvalidInput unless `numbers` has a known type for each.
    """
    texts = [str(text) for text in header.get(f"{_KEY}tokens", ())]
    if not texts or len(numbers) != len(texts):
        what = f"it has {len(texts)} tokens and types of {len(numbers)}"
        raise InvalidInput(Problem(str(header.path), what, "download it again"))
    if unknown := {int(number) for number in numbers} - set(TokenType):
        what = f"it has tokens of the types {sorted(unknown)[:3]}, which llama.cpp does not know"
        raise InvalidInput(Problem(str(header.path), what, "download it again"))
    types = [TokenType(int(number)) for number in numbers]
    for id, text in enumerate(texts):
        if types[id] is TokenType.NORMAL and text in TAKEN_FOR_CONTROL:
            types[id] = TokenType.CONTROL
    return texts, types


def settings_of(header: Header) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    texts, types = header.get(f"{_KEY}tokens", ()), header.get(f"{_KEY}token_type", ())
    # An ordinary token that the file names by mistake would be found whole in every text.
    special = (TokenType.CONTROL, TokenType.UNKNOWN)
    names = {
        meaning: str(texts[id])
        for meaning, key in SPECIAL_TOKENS.items()
        if isinstance(id := header.get(_KEY + key), int)
        and id < len(types)
        and (types[id] in special or texts[id] in TAKEN_FOR_CONTROL)
    }
    template = header.get("tokenizer.chat_template")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        **({} if template is None else {"chat_template": str(template)}),
    }


def marks_in_pieces(directory: Path) -> list[str]:
    """Tokens like <|user|> that a chat template writes and no text is read as; of an unpacked file.

    Where only llama.cpp knows how texts are read, ordinary tokens that look like that.
    """
    content, settings = (
        json.loads((directory / name).read_text(encoding="utf-8"))
        for name in ("tokenizer.json", "tokenizer_config.json")
    )
    model, whole = content["model"], {token["content"] for token in content["added_tokens"]}
    found = [
        mark
        for mark in dict.fromkeys(_MARK.findall(settings.get("chat_template", "")))
        if mark in model["vocab"] and mark not in whole
    ]
    if not found or model["type"] != "BPE":
        return found
    tokenizer = Tokenizer.from_str(json.dumps(content))
    return [mark for mark in found if model["vocab"][mark] not in tokenizer.encode(mark).ids]


def added_tokens(texts: list[str], types: list[TokenType]) -> Any:
    whole = (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    for id, (text, type) in enumerate(zip(texts, types, strict=True)):
        if type in whole:
            yield {
                "id": id,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": type is not TokenType.USER_DEFINED,
            }


def _byte_level(header: Header, texts: list[str]) -> dict[str, Any]:
    name = str(header.get(f"{_KEY}pre", "default"))
    steps = steps_of(name)
    if steps is None:
        what = f"it splits text into words by llama.cpp's pre-tokenizer {name!r}"
        remedy = "use the model in Hugging Face's format"
        raise InvalidInput(Problem(str(header.path), what, remedy))
    merges = [str(merge).split(" ", 1) for merge in header.get(f"{_KEY}merges", ())]
    return {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": True,
            "trim_offsets": True,
            "use_regex": True,
        },
        "model": {"merges": merges, "ignore_merges": name in _WHOLE_WORDS_FIRST},
    }


def _sentence_piece(header: Header, texts: list[str], types: list[TokenType]) -> dict[str, Any]:
    scores = header.get(f"{_KEY}scores", ())
    if len(scores) != len(texts):
        what = f"it has {len(texts)} tokens and scores of {len(scores)}"
        raise InvalidInput(Problem(str(header.path), what, "download it again"))
    ids = {text: id for id, text in enumerate(texts) if types[id] is TokenType.NORMAL}
    pairs = []
    for text, id in ids.items():
        for cut in range(1, len(text)):
            left, right = ids.get(text[:cut]), ids.get(text[cut:])
            if left is not None and right is not None:
                pairs.append((-float(scores[id]), left, right))
    pairs.sort()
    has_prefix = bool(header.get(f"{_KEY}add_space_prefix", True))
    space = {"type": "Replace", "pattern": {"String": " "}, "content": WORD_START}
    prepended = [{"type": "Prepend", "prepend": WORD_START}] if has_prefix else []
    unknown = next(
        (t for t, kind in zip(texts, types, strict=True) if kind is TokenType.UNKNOWN), None
    )
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if has_prefix else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": [*prepended, space]},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": WORD_START}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *strip,
            ],
        },
        "model": {
            "merges": [[texts[left], texts[right]] for _, left, right in pairs],
            "unk_token": unknown,
            "fuse_unk": True,
            "byte_fallback": True,
        },
    }


def _around(header: Header, texts: list[str]) -> dict[str, Any] | None:
    """The tokens that llama.cpp puts around a text."""
    usual = header.get(f"{_KEY}model") == "llama"
    first, last = (_id_of(header, f"{_KEY}{name}_token_id", texts) for name in ("bos", "eos"))
    before = [first] if first is not None and header.get(f"{_KEY}add_bos_token", usual) else []
    after = [last] if last is not None and header.get(f"{_KEY}add_eos_token", False) else []
    if not (before or after):
        return None
    text: dict[str, Any] = {"Sequence": {"id": "A", "type_id": 0}}

    def token(id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": texts[id], "type_id": 0}}

    single = [*map(token, before), text, *map(token, after)]
    special = {
        texts[id]: {"id": texts[id], "ids": [id], "tokens": [texts[id]]} for id in before + after
    }
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": pair,
        "special_tokens": special,
    }


def _id_of(header: Header, key: str, texts: Sequence[str]) -> int | None:
    """The token that a key names, if it does. Raises InvalidInput unless there is such a token."""
    found = header.get(key)
    if found is None or (isinstance(found, int) and 0 <= found < len(texts)):
        return found
    what = f"{key} is {found!r}, and it has {len(texts)} tokens"
    raise InvalidInput(Problem(str(header.path), what, "download it again"))
