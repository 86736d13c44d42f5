"""A wrapper of the `tokenizers` package that turns its exceptions into clear errors."""

from __future__ import annotations

from tokenizers import Tokenizer

from edgeq.core.errors import InvalidInput, Problem


def open_tokenizer(content: bytes) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`. Raises InvalidInput if it is not one."""
    try:
        return Tokenizer.from_buffer(content)
    except BaseException as error:
        raise _refused(error) from None


def encode(tokenizer: Tokenizer, text: str, where: str, *, special: bool = True) -> list[int]:
    """Token ids of `text`, special tokens included or not. `where` names the text in errors."""
    if not isinstance(text, str):
        raise InvalidInput(Problem(where, f"is a {type(text).__name__}", "give a str"))
    try:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=special).ids
    except (TypeError, UnicodeEncodeError):
        what = "holds a lone surrogate, which no UTF-8 text has"
        remedy = "decode the bytes it came from with errors='replace'"
        raise InvalidInput(Problem(where, what, remedy)) from None
    except BaseException as error:
        raise _refused(error) from None
    return ids


def _refused(error: BaseException) -> BaseException:
    """tokenizers raises a plain Exception, and if its code panics, a BaseException."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        what = f"cannot be used: {error}"
        return InvalidInput(Problem("tokenizer.json", what, "download or save the model again"))
    return error
