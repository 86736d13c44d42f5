"""Sensitivities and losses of a GGUF file that only llama.cpp knows, all measured by llama.cpp."""

from __future__ import annotations

from pathlib import Path

from edgeq.core.artifact import GGUF_FILE
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.sampling import spread
from edgeq.core.steps import Steps
from edgeq.core.threads import default_threads
from edgeq.formats.gguf.header import Header
from edgeq.formats.gguf.parts import read_whole
from edgeq.formats.registry import file_format
from edgeq.pipeline.allocate.loss import Loss
from edgeq.pipeline.allocate.measure import Build, Ground
from edgeq.pipeline.allocate.sensitivity import Cost, Sensitivity
from edgeq.pipeline.allocate.whole_file import costs_of_errors, divergence, errors_of_types
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.build.unread import set_aside
from edgeq.quantize.ggml.types import TYPES
from edgeq.quantize.number_formats.kquants import TYPE_OF
from edgeq.quantize.storage import Format

_TOKENS = 128
_COSTLY, _JUDGED = 3, 8
"""Windows that costs are measured on, and whole files."""


def ground_of(stages: Stages, format: Format, build: Build) -> Ground:
    """What is known of a model in a file format, and measures the rest."""
    return (FileGround if stages.model.unread else Ground)(stages, format, build)


class FileGround(Ground):
    """Costs by noise in the results of weights, whole files by their predictions."""

    def measure(self, kept: Steps) -> Sensitivity:
        """See `Ground.measure`."""
        header, progress = self._header, self.stages.progress
        windows, importance = self._held_out(_COSTLY), self.stages.importance()
        costs = costs_of_errors(header, windows, default_threads(), progress, kept)
        tensors: dict[str, dict[str, Cost]] = {}
        for index, (name, own) in enumerate(self.options.items()):
            progress(f"errors of types: {index + 1} of {len(self.options)} tensors")
            lossy = [option for option in own if option.method != "none"]
            types = [TYPES[TYPE_OF.get(o.number_format, o.number_format)] for o in lossy]
            errors = errors_of_types(header, name, types, importance)
            tensors[name] = {
                option.use: Cost(
                    loss=costs[name] * error, error=None, local=error, how="interpolated"
                )
                for option, error in zip(lossy, errors, strict=True)
            }
        return Sensitivity(
            format=self.format,
            measure="kl",
            model_sha256=self.stages.model_sha256,
            data_sha256=str((self.stages.calibration.key() or {}).get("sha256")),
            samples=len(windows),
            whole_samples=0,
            tensors=tensors,
            wholes=(),
        )

    def of_artifact(self, path: Path) -> Loss:
        """See `Ground.of_artifact`."""
        windows, source = self._held_out(_JUDGED), self._header.path
        found = divergence(source, path / GGUF_FILE, windows, default_threads())
        return Loss(
            loss=found.value,
            error=found.error,
            samples=len(windows),
            runtime=file_format(self.format).title,
        )

    @property
    def _header(self) -> Header:
        assert self.model.unread is not None
        return read_whole(self.model.unread)

    def _held_out(self, count: int) -> list[list[int]]:
        windows = self.stages.calibration.windows()
        aside = set_aside(windows)
        if len(aside) < 2:
            size = len(windows[0])
            what = (
                f"has {len(windows)} windows of {size} tokens, of which every eighth is set aside"
            )
            remedy = "give 16 windows or more for quantize.fit"
            raise InvalidInput(Problem("data.calibration", what, remedy))
        return [window[:_TOKENS] for window in spread(aside, count)]
