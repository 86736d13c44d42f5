"""The commands `edgeq quantize` and `edgeq imatrix`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.files import writable
from edgeq.core.store import Store
from edgeq.core.terms import Progress
from edgeq.core.validation_messages import suggest
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.plan.plan import make_plan

if TYPE_CHECKING:
    from edgeq.formats.gguf.imatrix import Importance


def quantize_gguf(
    source: Path, out: Path, mix: str, importance: Path | None, progress: Progress
) -> None:
    """Quantize a float GGUF file to another; `importance` is a matrix to weight rounding with."""
    writable(out, "out")
    try:
        from edgeq.formats.gguf.imatrix import read_imatrix
        from edgeq.formats.gguf.requantize import quantize_file
        from edgeq.quantize.ggml.mixes import MIXES
    except ImportError:
        raise missing_extra("gguf", "gguf", "quantize GGUF files") from None

    if mix not in MIXES:
        raise InvalidInput(
            Problem("--mix", f"llama.cpp has no mix {mix!r}", suggest(mix, list(MIXES)))
        )
    matrix = read_imatrix(importance) if importance else None
    quantize_file(source, out, mix, matrix, progress)


def importance_of_recipe(recipe: Path, out: Path, progress: Progress) -> Importance:
    """Compute the importance matrix of a recipe's model, or find it in the store, and write it to
    `out`.

    Raises InvalidInput if the recipe has no calibration data.
    """
    writable(out, "--out")
    progress("read the recipe")
    planned = make_plan(recipe, weights=True)
    data = planned.recipe.data
    if data.calibration is None and data.importance is None:
        what = "has no calibration data to compute an importance matrix from"
        raise InvalidInput(Problem(str(recipe), what, "add data: {calibration: {path: ...}}"))
    try:
        from edgeq.formats.gguf.imatrix import write_imatrix
    except ImportError:
        raise missing_extra("gguf", "gguf", "write an importance matrix") from None
    found = Stages(planned, Store(), progress).importance()
    write_imatrix(out, found)
    return found
