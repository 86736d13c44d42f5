"""Read the source given to `edgeq explain` and extract its facts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import Progress
from edgeq.formats.bundle import BUNDLE_FILE
from edgeq.report.explain.facts import Facts


def facts_of_source(
    source: Path, devices: Sequence[str], is_plan: bool, progress: Progress
) -> Facts:
    """Read a recipe, a bundle or a page; with `is_plan`, a recipe that is not built.

    Raises what making a report or a plan raises, and InvalidInput if nothing was checked.
    """
    if is_plan:
        kind = "a page" if source.suffix == ".html" else "a bundle"
        if source.suffix in (".html", ".zip") or (source / BUNDLE_FILE).exists():
            what = f"{source} is {kind}, already built; --plan explains a recipe before that"
            raise InvalidInput(Problem("--plan", what, f"run: edgeq explain {source}"))
        from edgeq.report.explain.planned import facts_of_plan

        return facts_of_plan(source, devices, progress)
    from edgeq.report.explain.measured import facts_of
    from edgeq.report.page.write import open_report

    return facts_of(open_report(source, devices, progress))
