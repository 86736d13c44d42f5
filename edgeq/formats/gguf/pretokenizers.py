"""How a byte-level tokenizer splits text into words, and llama.cpp's name for that.

llama.cpp has built-in pre-tokenizers, identified by name. A tokenizer is recognized by the steps
listed in its `tokenizer.json`; comparing token ids proves that the named one does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _words(numbers: str, marks: str = "") -> str:
    """Llama 3's expression, with `numbers` for the digits of a word.

    marks: what is within words as letters are.
    """
    letter = rf"[\p{{L}}{marks}]" if marks else r"\p{L}"
    letters = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?{letter}+"
    rest = rf" ?[^\s\p{{L}}{marks}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    return f"{letters}|{numbers}|{rest}"


_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_CAPITALS, _SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _cased(behind: str, numbers: str) -> str:
    """GPT-4o's and Tekken's expression: a word ends where capitals follow lower-case letters."""
    words = [
        rf"[^\r\n\p{{L}}\p{{N}}]?{_CAPITALS}*{_SMALL}+{behind}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_CAPITALS}+{_SMALL}*{behind}",
    ]
    rest = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    return "|".join([*words, numbers, rest])


_DEEPSEEK = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"""
    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
)

Step = tuple[object, ...]
_BYTES: Step = ("ByteLevel", False, False)
# GPT-4o's and Tekken's expressions split where capitals begin. llama.cpp treats all letters beyond
# ASCII as both upper and lower case; under GPT-4o's name, it also splits before combining marks.
_KNOWN: dict[tuple[Step, ...], str] = {
    (("ByteLevel", False, True),): "gpt-2",
    (("Split", _GPT2, "Isolated", False), _BYTES): "gpt-2",
    (("Digits", True), ("ByteLevel", False, True)): "smollm",
    (("Split", _words(r"\p{N}{1,3}"), "Isolated", False), _BYTES): "llama-bpe",
    (("Split", _words(r"\p{N}"), "Isolated", False), _BYTES): "qwen2",
    (("Split", _words(r"\p{N}", r"\p{M}"), "Isolated", False), _BYTES): "qwen35",
    (("Split", _cased(_CONTRACTIONS, r"\p{N}{1,3}"), "Isolated", False), _BYTES): (
        "granite-embed-multi-97m"
    ),
    (("Split", _cased("", r"\p{N}"), "Isolated", False), _BYTES): "tekken",
    (*(("Split", part, "Isolated", False) for part in _DEEPSEEK), _BYTES): "deepseek-v3",
}
# Other names of llama.cpp's for the same steps.
_SAME = {
    **dict.fromkeys(("llama3", "llama-v3", "smaug-bpe", "lfm2"), "llama-bpe"),
    "olmo": "gpt-2",
}
# By whether whole words are looked up before merging, which distinguishes these two.
_LLAMA3 = {True: "llama-bpe", False: "smaug-bpe"}


def pretokenizer_name(tokenizer: Mapping[str, Any]) -> str | None:
    """llama.cpp's `tokenizer.ggml.pre` for the content of a `tokenizer.json`.

    None if llama.cpp has none with these steps.

    >>> pretokenizer_name({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False,
    ...     "use_regex": True}, "model": {}})
    'gpt-2'
    """
    name = _KNOWN.get(tuple(_steps(tokenizer.get("pre_tokenizer"))))
    whole_words_first = bool(tokenizer["model"].get("ignore_merges", False))
    if name == "llama-bpe":
        return _LLAMA3[whole_words_first]
    return name


def steps_of(name: str) -> list[dict[str, Any]] | None:
    """The steps of llama.cpp's pre-tokenizer `name`, as a `tokenizer.json` has them.

    None if edgeq does not know it.

    >>> steps_of("gpt-2")
    [{'type': 'ByteLevel', 'add_prefix_space': False, 'trim_offsets': True, 'use_regex': True}]
    """
    wanted = _SAME.get(name, name)
    found = next((steps for steps, known in _KNOWN.items() if known == wanted), None)
    return None if found is None else [_spelled(step) for step in found]


def _spelled(step: Step) -> dict[str, Any]:
    kind, *settings = step
    if kind == "Split":
        pattern, behavior, invert = settings
        return {
            "type": kind,
            "pattern": {"Regex": pattern},
            "behavior": behavior,
            "invert": invert,
        }
    if kind == "Digits":
        return {"type": kind, "individual_digits": settings[0]}
    prefix, regex = settings
    return {
        "type": kind,
        "add_prefix_space": prefix,
        "trim_offsets": True,
        "use_regex": regex,
    }


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
