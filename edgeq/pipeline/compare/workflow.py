"""`edgeq compare`: figures on a text, or answers to a prompt side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import Progress
from edgeq.formats.language import LanguageModel
from edgeq.measure.divergence import DEFAULT_WINDOWS
from edgeq.pipeline.compare.compare import Comparison, Opened, compare_opened, open_any
from edgeq.pipeline.compare.encoders import EncoderComparison, compare_encoders
from edgeq.pipeline.compare.side_by_side import SideBySide, side_by_side
from edgeq.recipe.windows import DEFAULT_WINDOW


@dataclass(frozen=True)
class CompareOptions:
    """The input of a comparison: a text or a prompt; None for options with their default.

    Raises InvalidInput unless exactly one is given, and for options that would have no effect.
    """

    text: Path | None = None
    prompt: str | None = None
    max_tokens: int | None = None
    window: int | None = None
    windows: int | None = None

    def __post_init__(self) -> None:
        if (self.text is None) == (self.prompt is None):
            what = "there is nothing to compare on" if self.text is None else "both are given"
            remedy = 'give --text FILE for figures, or --prompt "…" for answers side by side'
            raise InvalidInput(Problem("--text, --prompt", what, remedy))
        if self.prompt is None and self.max_tokens is not None:
            raise InvalidInput(Problem("--max-tokens", "is for --prompt only", "omit it"))
        if self.prompt is not None:
            self.refuse_windows("are for --text only")

    def refuse_windows(self, what: str) -> None:
        """Raise InvalidInput if windows are asked for."""
        if (self.window, self.windows) != (None, None):
            raise InvalidInput(Problem("--window, --windows", what, "omit them"))


def compare_models(
    a: Path, b: Path, asked: CompareOptions, progress: Progress = lambda step: None
) -> Comparison | EncoderComparison | SideBySide:
    """Divergence of two language models, cosines of two encoders, or answers to a prompt.

    Paths are opened by `compare.open_any`. Raises InvalidInput for another kind of model, and what
    it, `compare_opened`, `compare_encoders` and `side_by_side` raise.
    """
    for path in (a, b):
        if not path.exists():  # before minutes are spent on the other
            remedy = "name a .gguf file, an artifact, a bundle, a model's directory, or a recipe"
            raise InvalidInput(Problem(str(path), "does not exist", remedy))
    first, second = (open_any(path, progress=progress) for path in (a, b))
    if asked.prompt is not None:
        return side_by_side(first, second, asked.prompt, asked.max_tokens, progress)
    assert asked.text is not None  # `CompareOptions` has exactly one of them
    if any(isinstance(each.model, LanguageModel) for each in (first, second)):
        return _divergence(first, second, asked.text, asked, progress)
    asked.refuse_windows("are for language models: encoders read each text whole")
    return compare_encoders(first, second, asked.text, progress)


def _divergence(
    a: Opened, b: Opened, text: Path, asked: CompareOptions, progress: Progress
) -> Comparison:
    window = DEFAULT_WINDOW if asked.window is None else asked.window
    windows = DEFAULT_WINDOWS if asked.windows is None else asked.windows
    return compare_opened(a, b, text, window=window, windows=windows, progress=progress)
