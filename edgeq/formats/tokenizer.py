"""A wrapper of the `tokenizers` package that turns its exceptions into clear errors."""

from __future__ import annotations

from tokenizers import Encoding, Tokenizer

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import TextOrPair


def open_tokenizer(content: bytes) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`. Raises InvalidInput if it is not one."""
    try:
        return Tokenizer.from_buffer(content)
    except BaseException as error:
        raise _refused(error) from None


def encode(
    tokenizer: Tokenizer, text: TextOrPair, where: str, *, special: bool = True
) -> list[int]:
    """Token ids of `text`, special tokens included or not. `where` names the text in errors."""
    ids: list[int] = encoding(tokenizer, text, where, special=special).ids
    return ids


def encoding(
    tokenizer: Tokenizer, text: TextOrPair, where: str, *, special: bool = True
) -> Encoding:
    """`encode`, with the type of each token as well: 0, or 1 in the second text of a pair."""
    parts = text if isinstance(text, tuple) else (text,)
    for part in parts:
        if not isinstance(part, str):
            raise InvalidInput(Problem(where, f"is a {type(part).__name__}", "give a str"))
    try:
        return tokenizer.encode(*parts, add_special_tokens=special)
    except (TypeError, UnicodeEncodeError):
        what = "holds a lone surrogate, which no UTF-8 text has"
        remedy = "decode the bytes it came from with errors='replace'"
        raise InvalidInput(Problem(where, what, remedy)) from None
    except BaseException as error:
        raise _refused(error) from None


def _refused(error: BaseException) -> BaseException:
    """tokenizers raises a plain Exception, and if its code panics, a BaseException."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        what = f"cannot be used: {error}"
        return InvalidInput(Problem("tokenizer.json", what, "download or save the model again"))
    return error
