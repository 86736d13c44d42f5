"""A schema field whose values come from a registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


class Vocabulary:
    """Annotates a `str` that must be one of `words()`, read whenever a value is validated.

    The JSON schema lists them too, so that editors complete registered names.
    """

    def __init__(self, words: Callable[[], Sequence[str]]) -> None:
        self._words = words

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._check, serialization=core_schema.to_string_ser_schema()
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"enum": list(self._words()), "type": "string"}

    def _check(self, value: Any) -> str:
        words = self._words()
        if isinstance(value, str) and value in words:
            return value
        raise PydanticKnownError("literal_error", {"expected": ", ".join(map(repr, words))})
