"""Read a recipe file, reporting all problems at once."""

from __future__ import annotations

from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.yamlfile import Document, by_place, read_yaml, validate
from edgeq.recipe.checks import consistency
from edgeq.recipe.parts import names_parts, recipes_in
from edgeq.recipe.schema import Recipe


def load_recipe(path: Path) -> tuple[Recipe | None, Document, list[Problem]]:
    """Read a recipe and check everything that does not require its model and devices.

    The list has all problems that do not follow from another; if it is not empty, the recipe is the
    part that could be understood, or None, and `document.is_assumed` tells which parts are
    placeholders. Paths inside are relative to `document.path.parent`. Raises InvalidInput if the
    file cannot be read as YAML at all.
    """
    document = read_yaml(path)
    if names_parts(document):
        what = "names several models, and this command takes one"
        remedy = f"give it one of them: {', '.join(map(str, recipes_in(path)))}"
        raise InvalidInput(Problem(document.place(("parts",), key=True), what, remedy))
    recipe, problems = validate(document, Recipe)
    if recipe is not None:
        problems = by_place(problems + consistency.check(recipe, document))
    return recipe, document, problems
