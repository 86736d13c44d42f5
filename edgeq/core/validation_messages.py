"""Error messages for schema violations: the problem in plain words, and what to write instead."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

Location = tuple[str | int, ...]

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
}


def refuse(what: str, remedy: str = "") -> PydanticCustomError:
    """The error raised by a validator: `what` is wrong and the next step."""
    return PydanticCustomError("edgeq", "{what}", {"what": what, "remedy": remedy})


def refuse_word(word: str, words: Iterable[str], noun: str) -> PydanticCustomError:
    """The error for a `word` outside a fixed vocabulary of `words`, suggesting the nearest."""
    return refuse(f"{word!r} is not a known {noun}", suggest(word, words))


def suggest(word: str, words: Iterable[str]) -> str:
    """`did you mean 'default'?`, or the whole vocabulary if no word is similar."""
    words = list(words)
    near = suggest_near(word, words)
    if near:
        return near
    return f"valid here: {', '.join(words)}" if words else ""


def suggest_near(word: str, words: Iterable[str]) -> str:
    """`did you mean 'default'?`, or nothing if no word is similar."""
    by_folded = {known.casefold(): known for known in words}
    near = difflib.get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.6)
    return f"did you mean {by_folded[near[0]]!r}?" if near else ""


def describe(error: ErrorDetails, model: type[BaseModel], text: str | None) -> tuple[str, str]:
    """Problem and remedy for one error of `model`; `text` is the value as typed."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    key = str(error["loc"][-1]) if error["loc"] else ""
    if kind == "edgeq":
        return context["what"], context["remedy"]
    if kind == "extra_forbidden":
        return f"unknown key {key!r}", suggest(key, _fields_around(model, error["loc"]))
    if kind == "missing":
        return f"the key {key!r} is missing", _example(model, error["loc"]) or f"add '{key}:'"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
        return f"{_as_typed(value, text)} is not a valid value here", suggest(str(value), words)
    if kind == "too_short" and not value:
        return "the list is empty", "give at least one, or remove the line"
    if kind in _EXPECTED:
        what = f"expected {_EXPECTED[kind]}, found {_found(value, text)}"
        if kind == "string_type" and text is not None and value is not None:
            return what, f"put it in quotes: '{text}'"
        if kind in {"list_type", "tuple_type"} and text:
            return what, f"write [{text}]"
        if kind == "bool_type":
            return what, "write true or false"
        if value is None:
            return what, "write it beneath, or remove the line"
        return what, _example(model, error["loc"])
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{message}; found {_found(value, text)}", _example(model, error["loc"])


def _as_typed(value: Any, text: str | None) -> str:
    return repr(value) if isinstance(value, str) or text is None else text


def _found(value: Any, text: str | None) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    noun = {str: "the text", bool: "the truth value"}.get(type(value), "the number")
    return f"{noun} {_as_typed(value, text)}"


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _fields_around(model: type[BaseModel], location: Location) -> dict[str, FieldInfo]:
    """The fields allowed next to the last part of `location`, by their names in files."""
    models = [model]
    for part in location[:-1]:
        field = _fields_of(models).get(str(part))
        # A list index, the key of a free mapping or the name of a union's branch: same models.
        models = _models_in(field.annotation) if field else models
    return _fields_of(models)


def _fields_of(models: list[type[BaseModel]]) -> dict[str, FieldInfo]:
    return {
        field.alias or name: field for model in models for name, field in model.model_fields.items()
    }


def example_of(model: type[BaseModel], location: Location) -> Any:
    """The first example in the schema for the field at `location`, None without one."""
    field = _fields_around(model, location).get(str(location[-1])) if location else None
    return field.examples[0] if field and field.examples else None


def _example(model: type[BaseModel], location: Location) -> str:
    """`write e.g. 'task: sentence-embedding'`, if the schema has an example."""
    example = example_of(model, location)
    if example is None or isinstance(example, dict | list):
        return ""
    return f"write e.g. '{location[-1]}: {example}'"
