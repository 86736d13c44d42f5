"""A model's tokenizer as transformers opens it."""

from __future__ import annotations

from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.huggingface import TextFiles
from edgeq.models.jsonfile import read_optional
from edgeq.models.tokenizer_settings import SETTINGS


def open_tokenizer(directory: TextFiles) -> OriginalTokenizer:
    """The tokenizer of a model directory. Raises InvalidInput if transformers cannot open it."""
    import transformers

    words = _words(directory)
    name = words.pop("tokenizer_class", "AutoTokenizer")
    try:
        opened = getattr(transformers, name).from_pretrained(
            directory.path, local_files_only=True, trust_remote_code=False, **words
        )
    except Exception as error:  # tokenizers raises nothing more precise
        reason = " ".join(str(error).split())[:200]
        what = f"transformers cannot open its tokenizer: {reason}"
        remedy = "save it again with the version of transformers that is installed here"
        raise InvalidInput(Problem(str(directory.path), what, remedy)) from None
    return OriginalTokenizer(opened)


def is_in_words_of_5(directory: TextFiles) -> bool:
    """Whether transformers 4 is installed, and version 5 wrote files that it cannot open."""
    return bool(_words(directory))


def _words(directory: TextFiles) -> dict[str, Any]:
    """Arguments for version 4 that replace settings written by version 5, on which it fails."""
    import transformers

    settings = read_optional(directory.path / SETTINGS)
    words: dict[str, Any] = {}
    if int(transformers.__version__.split(".")[0]) >= 5:
        return words
    if settings.get("tokenizer_class") == "TokenizersBackend":
        words["tokenizer_class"] = "PreTrainedTokenizerFast"
    extra = settings.get("extra_special_tokens")
    if isinstance(extra, list):
        words |= {"additional_special_tokens": extra, "extra_special_tokens": {}}
    return words


class OriginalTokenizer:
    """Texts to token ids, including special tokens around a text. opened: transformers' object."""

    def __init__(self, opened: Any) -> None:
        self.opened = opened

    def ids(self, text: str) -> list[int]:
        """Token ids of the whole text."""
        ids: list[int] = self.opened(text, truncation=False)["input_ids"]
        return ids

    def added(self) -> list[str]:
        """The tokens that are matched whole in any text."""
        return list(self.opened.get_added_vocab())
