"""Changes that other files make to a tokenizer.json, as transformers applies them.

transformers opens tokenizer.json and then adds the tokens that only tokenizer_config.json names.
Some of its classes also override parts of it; a file that would be overridden is refused, since
every other program reads it unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.added_tokens import Token, missing_tokens, with_tokens
from edgeq.models.jsonfile import read_optional
from edgeq.models.known_keys import (
    TOKENIZER_FIXED,
    TOKENIZER_HARMLESS,
)
from edgeq.models.settings import Settings

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
SPECIAL_MAP, ADDED = "special_tokens_map.json", "added_tokens.json"

# Classes that set the parts of BERT's normalizer, by the names in config.json or the settings.
_SETS_NORMALIZER = ("Bert", "DistilBert", "Electra", "MPNet")
# Classes that rewrite the special tokens around a text, and whether it begins and ends with one
# by default. The others leave it to tokenizer.json, whatever the settings say.
_SETS_ENDS = {
    "Llama": (True, False),
    "CodeLlama": (True, False),
    "Gemma": (True, False),
    "Cohere": (True, False),
    "GPTNeoX": (False, False),
}
_CLASS_OF_FAMILY = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "mpnet": "MPNet",
    "llama": "Llama",
    "mistral": "Llama",
    "phi3": "Llama",
    "gemma2": "Gemma",
    "gemma3_text": "Gemma",
}
_SAVE_AGAIN = "save its own: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"


@dataclass(frozen=True)
class TokenizerSettings:
    """longest: maximum tokens of a text, None if not stated. cut: the side where longer texts are
    truncated. tokens: those that tokenizer.json lacks or has with other properties.
    """

    longest: float | None = None
    cut: str | None = None
    tokens: tuple[Token, ...] = ()


def read_tokenizer_settings(
    path: Path, config: Mapping[str, Any], tokenizer: Mapping[str, Any], where: str
) -> TokenizerSettings:
    """The settings of the tokenizer in the directory `path`.

    config: of config.json. tokenizer: of tokenizer.json. Raises InvalidInput for unknown keys, for
    unsupported values and for contradictions with tokenizer.json.
    """
    settings = Settings(read_optional(path / SETTINGS), where, SETTINGS)
    mapped = Settings(read_optional(path / SPECIAL_MAP), where, SPECIAL_MAP)
    tokens = missing_tokens(settings, mapped, read_optional(path / ADDED), tokenizer)
    longest = settings.get("model_max_length", settings.get("max_len"))
    cut = settings.get("truncation_side")
    if cut not in (None, "left", "right"):
        raise settings.unusable("truncation_side", cut, "left or right")
    settings.ignore(TOKENIZER_HARMLESS)
    problems = [
        *settings.unsupported(TOKENIZER_FIXED),
        *_contradictions(settings, config, tokenizer),
        *settings.unread(),
        *mapped.unread(),
    ]
    if problems:
        raise InvalidInput(problems)
    known = isinstance(longest, int | float) and not isinstance(longest, bool)
    if longest is not None and not (known and longest >= 1):
        raise settings.unusable("model_max_length", longest, "a whole number of 1 or more")
    return TokenizerSettings(longest, cut, tokens)


def whole_tokenizer(path: Path, config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The tokenizer.json in `path` with every added token; empty if there is none."""
    content = read_optional(path / TOKENIZER)
    if not isinstance(content.get("model"), dict):
        return {}
    settings = read_tokenizer_settings(path, config, content, where)
    return with_tokens(content, settings.tokens, config.get("vocab_size"))


def _contradictions(
    settings: Settings, config: Mapping[str, Any], tokenizer: Mapping[str, Any]
) -> Iterator[Problem]:
    """Settings that transformers' tokenizer class would override in tokenizer.json."""
    name = str(settings.get("tokenizer_class") or config.get("tokenizer_class") or "")
    kind = name.removesuffix("Fast").removesuffix("Tokenizer")
    kind = kind or _CLASS_OF_FAMILY.get(str(config.get("model_type")), "")
    wanted: dict[str, tuple[Any, Any]] = {"add_prefix_space": _prefix_space(settings, tokenizer)}
    if kind in _SETS_NORMALIZER:
        wanted |= _normalizer(settings, tokenizer, kind)
    if kind in _SETS_ENDS:
        wanted |= _ends(settings, tokenizer, _SETS_ENDS[kind])
    for key, (said, found) in wanted.items():
        if said != found:
            who = f"{settings.file} says" if key in settings else "transformers takes"
            what = f"{who} {key} {_json(said)}, and tokenizer.json has {_json(found)}"
            remedy = f'write {{"{key}": {_json(found)}}} to {SETTINGS}, or let transformers '
            yield Problem(settings.where, what, remedy + _SAVE_AGAIN)


def _json(value: Any) -> str:
    return json.dumps(value)


def _prefix_space(settings: Settings, tokenizer: Mapping[str, Any]) -> tuple[Any, Any]:
    """Whether a space is put before a text; without the key, ByteLevel loses its own."""
    alone = tokenizer.get("pre_tokenizer")
    found = has_prefix_space(tokenizer)
    byte_level = isinstance(alone, dict) and alone.get("type") == "ByteLevel"
    return settings.get("add_prefix_space", False if byte_level else found), found


def has_prefix_space(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json puts a space before a text, in any of the possible ways."""
    return any(
        step.get("type") == "Prepend"
        or step.get("prepend_scheme") in ("always", "first")
        or step.get("add_prefix_space") is True
        for part in ("normalizer", "pre_tokenizer")
        for step in steps(tokenizer.get(part))
    )


def steps(part: Any) -> Iterator[Mapping[str, Any]]:
    """The steps of one part of a tokenizer.json, which is one or a sequence of them."""
    if not isinstance(part, dict):
        return
    if part.get("type") == "Sequence":
        for key in ("normalizers", "pretokenizers", "processors", "decoders"):
            for step in part.get(key) or []:
                yield from steps(step)
    else:
        yield part


def _normalizer(
    settings: Settings, tokenizer: Mapping[str, Any], kind: str
) -> dict[str, tuple[Any, Any]]:
    """Settings of a BERT-like class, if the normalizer is BERT's."""
    own = tokenizer.get("normalizer")
    if not isinstance(own, dict) or own.get("type") != "BertNormalizer":
        return {}
    wanted = _as_bert(
        settings.get("do_lower_case", True),
        settings.get("strip_accents"),
        settings.get("tokenize_chinese_chars", True),
    )
    found = _as_bert(
        own.get("lowercase", True), own.get("strip_accents"), own.get("handle_chinese_chars", True)
    )
    if kind == "MPNet":  # which leaves the third unchanged
        wanted["tokenize_chinese_chars"] = found["tokenize_chinese_chars"]
    return {key: (wanted[key], found[key]) for key in wanted}


def _as_bert(lowers: Any, strips: Any, chinese: Any) -> dict[str, Any]:
    """Accents are stripped if text is lower-cased, unless stated otherwise."""
    strips = lowers if strips is None else strips
    return {"do_lower_case": lowers, "strip_accents": strips, "tokenize_chinese_chars": chinese}


def _ends(
    settings: Settings, tokenizer: Mapping[str, Any], usual: tuple[bool, bool]
) -> dict[str, tuple[Any, Any]]:
    """Whether a token precedes a text, and whether one follows it."""
    front, behind = _around(steps(tokenizer.get("post_processor")))
    return {
        "add_bos_token": (settings.get("add_bos_token", usual[0]), front),
        "add_eos_token": (settings.get("add_eos_token", usual[1]), behind),
    }


def _around(processors: Iterable[Mapping[str, Any]]) -> tuple[bool, bool]:
    for step in processors:
        if step.get("type") in ("BertProcessing", "RobertaProcessing"):
            return True, True
        if step.get("type") == "TemplateProcessing":
            pieces = ["Sequence" in piece for piece in step.get("single") or [{}]]
            return not pieces[0], not pieces[-1]
    return False, False
