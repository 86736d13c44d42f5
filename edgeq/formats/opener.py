"""What opens and runs the files of a format: all that a device needs of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from edgeq.core.artifact import TOKENIZER_FILE
from edgeq.core.errors import NotComputed, Problem
from edgeq.formats.base import Model
from edgeq.formats.package import Package


class Opener(ABC):
    """Opens the files of one format; `FileFormat` is one that plans and writes them, too.

    name: of the file format in recipes. model_file: the file that its runtime opens.
    always_has_context: whether every model of it, including encoders, is opened for a number of
    positions. bare_suffixes: of files that it opens without an artifact's record.
    """

    name: ClassVar[str]
    model_file: ClassVar[str]
    always_has_context: ClassVar[bool] = False
    bare_suffixes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def open(
        self, package: Package, threads: int | None, context: int | None, units: str | None
    ) -> Model:
        """A verified artifact, ready to run. Raises InvalidInput or Missing."""

    def open_bare(self, path: Path, threads: int | None, context: int | None) -> Model:
        """A file with one of `bare_suffixes`, ready to run. Raises InvalidInput or Missing."""
        raise NotComputed(Problem(str(path), f"files in {self.name} need a record", "build it"))

    @abstractmethod
    def import_runtime(self, task: str) -> None:
        """Import its runtime, so that a measurement begins with the model alone."""

    def tokenize_with(self, directory: Path) -> Callable[[str, bool], list[int]]:
        """The tokenizer of a language model's artifact: takes text and whether to add special
        tokens.
        """
        from edgeq.formats.tokenizer_pieces import DecoderTokenizer

        return DecoderTokenizer((directory / TOKENIZER_FILE).read_bytes()).ids
