"""How a byte-level tokenizer cuts text into words, and what llama.cpp calls that.

llama.cpp has its pre-tokenizers built in, by name. A tokenizer is recognised by the steps that its
`tokenizer.json` lists; whether the named one does the same is proved by comparing token ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _words(numbers: str) -> str:
    """Llama 3's expression, with as many digits in a word as `numbers` says."""
    letters = r"[^\r\n\p{L}\p{N}]?\p{L}+"
    return rf"{_CONTRACTIONS}|{letters}|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"


def _cased_words(contractions: str, numbers: str) -> str:
    """GPT-4o's: a capital letter begins a word."""
    start = r"[^\r\n\p{L}\p{N}]?"
    lower, upper = f"{start}{_UPPER}*{_LOWER}+", f"{start}{_UPPER}+{_LOWER}*"
    rest = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
    return f"{lower}{contractions}|{upper}{contractions}|{numbers}|{rest}"


Step = tuple[object, ...]
_BYTES: Step = ("ByteLevel", False, False)
_KNOWN: dict[tuple[Step, ...], str] = {
    (("ByteLevel", False, True),): "gpt-2",
    (("Split", _GPT2, "Isolated", False), _BYTES): "gpt-2",
    (("Digits", True), ("ByteLevel", False, True)): "smollm",
    (("Split", _words(r"\p{N}{1,3}"), "Isolated", False), _BYTES): "llama-bpe",
    (("Split", _words(r"\p{N}"), "Isolated", False), _BYTES): "qwen2",
    (("Split", _cased_words("", r"\p{N}"), "Isolated", False), _BYTES): "tekken",
    (
        ("Split", _cased_words(f"{_CONTRACTIONS}?", r"\p{N}{1,3}"), "Isolated", False),
        _BYTES,
    ): "gpt-4o",
}
# llama.cpp looks whole words up before it merges in these, and only in these.
_WHOLE_WORDS_FIRST = {"llama-bpe": True, "tekken": True}
_SAME_WITHOUT = {"llama-bpe": "smaug-bpe"}


def pretokenizer_name(tokenizer: Mapping[str, Any]) -> str | None:
    """llama.cpp's `tokenizer.ggml.pre` for the content of a `tokenizer.json`.

    None where llama.cpp has none that takes these steps.

    >>> pretokenizer_name({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False,
    ...     "use_regex": True}, "model": {}})
    'gpt-2'
    """
    name = _KNOWN.get(tuple(_steps(tokenizer.get("pre_tokenizer"))))
    whole_words = bool(tokenizer["model"].get("ignore_merges", False))
    if name is None or whole_words == _WHOLE_WORDS_FIRST.get(name, False):
        return name
    # Without merges for whole words the difference may be none at all: comparing ids decides.
    return name if whole_words else _SAME_WITHOUT.get(name)


def _steps(step: Mapping[str, Any] | None) -> list[Step]:
    if step is None:
        return []
    kind = step["type"]
    if kind == "Sequence":
        return [inner for part in step["pretokenizers"] for inner in _steps(part)]
    if kind == "Split":
        pattern = step["pattern"].get("Regex")
        return [(kind, pattern, step["behavior"], step.get("invert", False))]
    if kind == "ByteLevel":
        return [(kind, step.get("add_prefix_space", True), step.get("use_regex", True))]
    if kind == "Digits":
        return [(kind, step.get("individual_digits", False))]
    return [(kind,)]
