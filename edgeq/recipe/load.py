"""Reading a recipe file, with every problem it has at once."""

from __future__ import annotations

from pathlib import Path

from edgeq.core.errors import Problem
from edgeq.core.yamlfile import Document, by_place, read_yaml, validate
from edgeq.recipe.checks import consistency
from edgeq.recipe.schema import Recipe


def load_recipe(path: Path) -> tuple[Recipe | None, Document, list[Problem]]:
    """Read a recipe and check all that can be checked without its model and devices.

    All problems that do not follow from another are in the list; where it is not empty, the recipe
    is what could be understood, or None, and `document.is_assumed` tells which parts of it are
    stand-ins. Paths inside are relative to `document.path.parent`.
    Raises InvalidInput where the file cannot be read as YAML at all.
    """
    document = read_yaml(path)
    recipe, problems = validate(document, Recipe)
    if recipe is not None:
        problems = by_place(problems + consistency.check(recipe, document))
    return recipe, document, problems
