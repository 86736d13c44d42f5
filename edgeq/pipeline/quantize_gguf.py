"""The commands `edgeq quantize` and `edgeq imatrix`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.files import writable
from edgeq.core.sampling import spread
from edgeq.core.store import Store
from edgeq.core.terms import Progress
from edgeq.core.threads import default_threads
from edgeq.core.units import given_bytes
from edgeq.core.validation_messages import suggest
from edgeq.measure.text_passes import corpus_windows
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.plan.plan import make_plan

if TYPE_CHECKING:
    from edgeq.core.steps import Steps
    from edgeq.formats.gguf.header import Header
    from edgeq.formats.gguf.imatrix import Importance

_IMATRIX_WINDOW = 512  # as long as llama.cpp's importance tool takes them
_WINDOW, _LEARNT = 128, 108
"""For fitting: tokens of a window, and the most windows that importance is learnt from."""
_COSTLY, _JUDGED = 3, 8
"""Windows that costs are measured on, and the result."""
_RESULT = "result"


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


@dataclass(frozen=True)
class FittedFile:
    """A file that was fitted into a size. types: how many tensors have each.

    predicted, kl: mean KL divergence from the source, by its tensors' costs and as measured on
    `tokens` predictions of held-out text, with its standard error.
    """

    types: dict[str, int]
    predicted: float
    kl: float
    kl_error: float
    tokens: int


def fit_gguf(source: Path, out: Path, size: str, text: Path, progress: Progress) -> FittedFile:
    """Quantize a GGUF file of any architecture to at most `size`, with types chosen on `text`.

    Raises InvalidInput for a size that cannot be kept, and for too little text.
    """
    limit = given_bytes(size, "--size")
    try:
        from edgeq.formats.gguf.requantize import quantize_file, require_other
        from edgeq.pipeline.allocate import whole_file
    except ImportError:
        raise missing_extra("gguf", "gguf", "quantize GGUF files") from None
    require_other(source, out)
    header = _opened(source)
    whole_file.require_possible(header, limit)
    windows = _windows(header, text, _WINDOW)
    if len(windows) < 2 * (_COSTLY + _JUDGED):
        what = f"has {len(windows)} windows of {_WINDOW} tokens"
        raise InvalidInput(Problem(str(text), what, f"give {2 * (_COSTLY + _JUDGED)} or more"))
    held_out = spread(range(len(windows)), _COSTLY + _JUDGED)
    learnt = [window for index, window in enumerate(windows) if index not in held_out]
    costly = spread(held_out, _COSTLY)
    judged = [windows[index] for index in held_out if index not in costly]
    threads, names = default_threads(), whole_file.candidates(header)
    measured = _Measured(header, text.name, threads, progress)
    importance = measured.importance(spread(learnt, _LEARNT))
    costs = measured.costs([windows[index] for index in costly])
    fitted = whole_file.fit_file(header, limit, importance, costs, progress)
    mix = whole_file.nearest_mix(fitted.types)
    quantize_file(source, out, mix, importance, progress, types=fitted.types)
    progress("measure the result on held-out text")
    kl = whole_file.divergence(source, out, judged, threads)
    return FittedFile(
        types=dict(Counter(fitted.types[name].name for name in names).most_common()),
        predicted=fitted.predicted,
        kl=kl.value,
        kl_error=kl.error,
        tokens=len(judged) * whole_file.SCORED_ROWS,
    )


class _Measured:
    """What passes through a file tell, for any size: in the store, and kept while it is made."""

    def __init__(self, header: Header, text: str, threads: int, progress: Progress) -> None:
        from edgeq.quantize.ggml.llama_api import chosen_build

        self._header, self._text, self._threads = header, text, threads
        self._progress, self._store = progress, Store()
        files = {entry.path for entry in header.tensors.values()} | {header.path}
        self._key = {
            "files": [canonical.sha256_of_file(path) for path in sorted(files)],
            "text": text,
            "llama.cpp": chosen_build(),
        }

    def importance(self, windows: Sequence[Sequence[int]]) -> Importance:
        """The importance matrix, from the last tokens of `windows`."""
        from edgeq.formats.gguf.imatrix import read_imatrix, write_imatrix
        from edgeq.formats.gguf.inside import importance_inside
        from edgeq.pipeline.allocate.whole_file import SCORED_ROWS, candidates

        def make(steps: Steps, place: Path) -> None:
            found = importance_inside(
                self._header.path,
                candidates(self._header),
                windows,
                self._text,
                self._threads,
                self._progress,
                outputs=SCORED_ROWS,
                kept=steps,
            )
            write_imatrix(place, found)

        # a path would be written into files that it weights
        return replace(read_imatrix(self._stage("importance", windows, make)), path=None)

    def costs(self, windows: Sequence[Sequence[int]]) -> dict[str, float]:
        """The cost of an error in each tensor."""
        from edgeq.pipeline.allocate.whole_file import costs_of_errors

        def make(steps: Steps, place: Path) -> None:
            found = costs_of_errors(self._header, windows, self._threads, self._progress, steps)
            place.write_text(canonical.to_json(found), encoding="utf-8")

        stored = self._stage("costs", windows, make)
        costs: dict[str, float] = json.loads(stored.read_bytes())
        return costs

    def _stage(
        self, name: str, windows: Sequence[Sequence[int]], make: Callable[[Steps, Path], None]
    ) -> Path:
        key = {**self._key, "windows": canonical.sha256_of([list(each) for each in windows])}

        def fill(destination: Path) -> None:
            with self._store.workplace(name, key) as steps:
                make(steps, destination / _RESULT)

        return self._store.stage(name, key, fill, describe=self._header.path.name) / _RESULT


def importance_of_file(source: Path, text: Path, out: Path, progress: Progress) -> Importance:
    """Compute the importance matrix of a GGUF file by llama.cpp, and write it to `out`."""
    writable(out, "--out")
    try:
        from edgeq.formats.gguf.imatrix import write_imatrix
        from edgeq.formats.gguf.inside import importance_inside
        from edgeq.pipeline.allocate.whole_file import candidates
    except ImportError:
        raise missing_extra("gguf", "gguf", "write an importance matrix") from None
    header, threads = _opened(source), default_threads()
    names, windows = candidates(header), _windows(header, text, _IMATRIX_WINDOW)
    found = importance_inside(source, names, windows, text.name, threads, progress)
    write_imatrix(out, found)
    return found


def _opened(source: Path) -> Header:
    """The header of a language model that llama.cpp survives."""
    from edgeq.formats.gguf.parts import read_whole
    from edgeq.formats.gguf.trial import require_survivor

    header = read_whole(source)
    if header.get(f"{header.get('general.architecture')}.attention.causal", True) is False:
        what = "is a sentence encoder, and statistics are those of a language model"
        raise InvalidInput(Problem(str(source), what, "quantize it to a mix: --mix Q8_0"))
    require_survivor(header, None, None, None, None)
    return header


def _windows(header: Header, text: Path, size: int) -> list[list[int]]:
    """The text in windows of `size` tokens, or of the trained length if that is less."""
    from edgeq.formats.gguf.llama_model import LlamaModel

    trained = header.get(f"{header.get('general.architecture')}.context_length", size)
    tokens = LlamaModel(header.path, vocabulary_only=True).tokens
    return corpus_windows(tokens, text, None, min(size, int(trained)))


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
