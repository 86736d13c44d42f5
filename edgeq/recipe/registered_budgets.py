"""Keys that other packages' budgets add to a section of `budgets`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, create_model
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from pydantic_core.core_schema import ValidationInfo

from edgeq.core.budgets import BUDGETS, Budget, Section, Unit
from edgeq.core.units import Bytes, Fraction, Seconds, TokensPerSecond

_QUANTITIES: dict[Unit, Any] = {
    "bytes": Bytes,
    "seconds": Seconds,
    "tokens/s": TokensPerSecond,
    "share": Fraction,
}


class WithRegistered:
    """Annotates a section so that it accepts the registered budgets' keys too, parsed by unit.

    The registry is read whenever a recipe is validated, so that importing edgeq loads no plugin.
    """

    def __init__(self, section: Section) -> None:
        assert section in get_args(Section)
        self._section = section
        self._model: type[BaseModel] = BaseModel

    def __get_pydantic_core_schema__(
        self, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        self._model = source
        return core_schema.with_info_wrap_validator_function(
            self._validate, handler(source), serialization=core_schema.simple_ser_schema("any")
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        reference = handler(schema)
        added = self._added()
        if added:
            properties = _extended(self._model, added).model_json_schema()["properties"]
            own = handler.resolve_ref_schema(reference)["properties"]
            own.update({budget.key: properties[budget.key] for budget in added})
        return reference

    def _added(self) -> tuple[Budget, ...]:
        own = self._model.model_fields
        return tuple(
            budget
            for budget in BUDGETS.values()
            if budget.section == self._section and budget.key not in own
        )

    def _validate(self, value: Any, inner: Callable[[Any], Any], info: ValidationInfo) -> Any:
        added = self._added()
        keys = {budget.key for budget in added}
        if not isinstance(value, dict) or not keys & value.keys():
            return inner(value)
        model = _extended(self._model, added)
        limits = {key: limit for key, limit in value.items() if key in keys}
        if info.mode == "json":  # as in every file, a quantity has a unit there
            section = model.model_validate_json(json.dumps(limits), strict=True)
        else:
            section = model.model_validate(limits)
        own = inner({key: limit for key, limit in value.items() if key not in keys})
        return section.model_copy(update=dict(own))


@functools.lru_cache
def _extended(model: type[BaseModel], added: tuple[Budget, ...]) -> type[BaseModel]:
    """A section's model with the fields of registered budgets."""
    fields: dict[str, Any] = {budget.key: _field(budget) for budget in added}
    return create_model(model.__name__, __base__=model, **fields)


def _field(budget: Budget) -> tuple[Any, Any]:
    if budget.unit in _QUANTITIES:
        return _QUANTITIES[budget.unit] | None, Field(None, description=budget.summary)
    return float | None, Field(None, allow_inf_nan=False, description=budget.summary)
