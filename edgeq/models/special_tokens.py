"""Special tokens, decided once for every file format: ends, begins, paddings, templates.

A model's files name them in up to four places, which contradict each other in many published
models. A token that any of them declares an end is one: a model that stops too late never stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.jsonfile import read_optional
from edgeq.models.known_keys import GENERATION_FIXED, GENERATION_HARMLESS
from edgeq.models.settings import Settings
from edgeq.models.tokenizer_settings import SETTINGS as TOKENIZER_SETTINGS
from edgeq.models.tokenizer_settings import SPECIAL_MAP, whole_tokenizer

GENERATION = "generation_config.json"
MEANINGS = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")

USUAL_ENDS = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|calls|>"),
        *("<|flush|>", "<end_of_turn>", "<turn|>", "<|endoftext|>", "<|end_of_text|>"),
        *("<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<eos>", "<end_of_utterance>"),
        *("<｜end▁of▁sentence｜>", "<|ifm|im_end|>", "<|tool_response>", "[e~[", "</s>"),
        # separators of files, and fill-in-the-middle tokens of code
        *("<|fim_pad|>", "<fim_pad>", "<fim-pad>", "<PAD>", "<|file_sep|>", "<|repo_name|>"),
        *("<reponame>", "<|fim_repo|>", "<fim-repo>", "<REPO>"),
    }
)
"""llama.cpp ends a text at tokens with these spellings, whatever a file says."""

# gpt-oss's answers of several messages end with these; a message ends with another.
_HARMONY, _MESSAGE_END = frozenset({"<|return|>", "<|call|>"}), "<|end|>"


@dataclass(frozen=True)
class SpecialTokens:
    """ends: ids that end a text, in order. ids: for each role that has a token, `bos` and so on.

    spelled_ends: ends that runtimes recognize by their spelling, if the tokenizer calls them
    special: Gemma's `</s>` is an HTML tag, Qwen's a piece of a word.
    """

    ends: tuple[int, ...]
    ids: Mapping[str, int]
    spelled_ends: frozenset[int]


def special_tokens(path: Path, config: Mapping[str, Any], where: str) -> SpecialTokens:
    """The special tokens of the model in the directory `path`; `config` is its config.json.

    Raises InvalidInput for a token that the tokenizer does not have, for settings that make a model
    generate other tokens than its logits suggest, and for damaged files.
    """
    tokenizer = whole_tokenizer(path, config, where)
    vocabulary = token_ids(tokenizer)
    settings = read_optional(path / TOKENIZER_SETTINGS)
    mapped = read_optional(path / SPECIAL_MAP)
    generation = _generation(path, where)
    rows = config.get("vocab_size", len(vocabulary))
    ids: dict[str, int] = {}
    ends: set[int] = set()
    for meaning in MEANINGS:
        found = [_named(files, meaning, vocabulary) for files in (settings, mapped)]
        found += [_numbers(files, meaning, where) for files in (generation, config)]
        known = [id for each in found for id in each if id < rows]
        if known:
            ids[meaning] = known[0]
        if meaning == "eos":
            ends.update(known)
    usual = {vocabulary[text] for text in _usual_ends(tokenizer, vocabulary)}
    usual = {id for id in usual if id < rows}
    return SpecialTokens(tuple(sorted(ends | usual)), ids, frozenset(usual))


def end_tokens(path: Path, config: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """Ids of the tokens that end a text; a language model without any is refused."""
    return required_ends(special_tokens(path, config, where), path, where)


def required_ends(special: SpecialTokens, path: Path, where: str) -> tuple[int, ...]:
    """The end tokens in `special`, of the model in `path`; InvalidInput if there are none."""
    if not special.ends:
        what = f"{path} names no end token: the model would never stop"
        remedy = f'write {{"eos_token_id": ID}} to {GENERATION}'
        raise InvalidInput(Problem(where, what, remedy))
    return special.ends


def token_ids(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """The id of every token of a tokenizer.json, including added ones."""
    model = tokenizer.get("model")
    pieces = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(pieces, list):  # pieces with their scores
        ids = {str(piece[0]): id for id, piece in enumerate(pieces) if isinstance(piece, list)}
    else:
        ids = {str(text): id for text, id in (pieces or {}).items() if isinstance(id, int)}
    added = tokenizer.get("added_tokens")
    for token in added if isinstance(added, list) else []:
        spelled, id = (spelling(token), token.get("id")) if isinstance(token, dict) else (None, 0)
        if spelled is not None and isinstance(id, int):  # tokenizers refuses the others
            ids[spelled] = id
    return ids


def _usual_ends(tokenizer: Mapping[str, Any], vocabulary: Mapping[str, int]) -> set[str]:
    """The `USUAL_ENDS` that a tokenizer.json calls special."""
    added = tokenizer.get("added_tokens")
    tokens = (
        [token for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    )
    special = {spelling(token) for token in tokens if token.get("special")}
    found = {text for text in USUAL_ENDS if text in special and text in vocabulary}
    return found - {_MESSAGE_END} if found >= _HARMONY else found


def spelling(token: object) -> str | None:
    """A token is given by its spelling alone, or with its matching properties."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def named_templates(settings: Mapping[str, Any], alone: str | None) -> dict[str, str]:
    """The chat templates of a tokenizer_config.json, and of a separate file, by name.

    `default` is used unless another is requested; a separate file takes precedence.
    """
    found = settings.get("chat_template")
    named = {"default": found} if isinstance(found, str) else {}
    if isinstance(found, list):
        named = {
            str(each.get("name")): str(each.get("template"))
            for each in found
            if isinstance(each, dict)
        }
    return named if alone is None else {**named, "default": alone}


def chat_templates(path: Path) -> dict[str, str]:
    """Every chat template of the model in the directory `path`, by name."""
    file = path / "chat_template.jinja"
    alone = file.read_text(encoding="utf-8") if file.is_file() else None
    named = named_templates(read_optional(path / TOKENIZER_SETTINGS), alone)
    folder = path / "additional_chat_templates"
    for other in sorted(folder.glob("*.jinja")) if folder.is_dir() else ():
        named[other.stem] = other.read_text(encoding="utf-8")
    return named


def _generation(path: Path, where: str) -> dict[str, Any]:
    """generation_config.json, in which every key is known."""
    values = read_optional(path / GENERATION)
    settings = Settings(values, where, GENERATION)
    settings.ignore(GENERATION_HARMLESS)
    settings.get("eos_token_id")
    problems = [*settings.unsupported(GENERATION_FIXED), *settings.unread()]
    if problems:
        raise InvalidInput(problems)
    return values


def _named(files: Mapping[str, Any], meaning: str, vocabulary: Mapping[str, int]) -> list[int]:
    text = spelling(files.get(f"{meaning}_token"))
    return [vocabulary[text]] if text is not None and text in vocabulary else []


def _numbers(files: Mapping[str, Any], meaning: str, where: str) -> list[int]:
    found = files.get(f"{meaning}_token_id")
    numbers = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(number) is int and number >= -1 for number in numbers):
        what = f"{meaning}_token_id is {found!r}, not a token id or a list of them"
        raise InvalidInput(Problem(where, what, "download or save the model again"))
    return [number for number in numbers if number >= 0]
