"""The JSON schema of recipes, for editors."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from edgeq.recipe.parts import KEY, PartsRecipe
from edgeq.recipe.schema import Recipe


def recipe_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe, of one model or of parts."""
    of, schema = models_json_schema([(Recipe, "validation"), (PartsRecipe, "validation")])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "if": {"required": [KEY]},
        "then": of[PartsRecipe, "validation"],
        "else": of[Recipe, "validation"],
        **schema,
    }
