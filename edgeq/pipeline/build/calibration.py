"""The calibration data of a plan as a model reads them: inputs of its float graph, or windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeq.core.audio import AudioSettings
from edgeq.core.images import ImageSettings
from edgeq.core.store import Store
from edgeq.core.tasks import task_of
from edgeq.core.terms import Progress, TextOrPair
from edgeq.pipeline.build.feeds import array_feeds, stepped_feeds
from edgeq.pipeline.build.tokens import text_reader
from edgeq.pipeline.plan.plan import Planned
from edgeq.quantize.statistics import Feed
from edgeq.recipe import data_sets
from edgeq.recipe.file_sets import PREPARED_ARRAYS
from edgeq.recipe.query_sets import read_queries
from edgeq.recipe.schema import DataRef

# As long as llama.cpp's importance tool takes them.
_WINDOW = 512


class Calibration:
    """The calibration data of a plan. float_graph: makes the directory of the float graph."""

    def __init__(
        self,
        planned: Planned,
        store: Store,
        progress: Progress,
        float_graph: Callable[[], Path],
    ) -> None:
        self._planned = planned
        self._store = store
        self._progress = progress
        self._float_graph = float_graph
        self._task = task_of(planned.recipe.model.task)

    def key(self) -> dict[str, Any] | None:
        """The identity of the calibration data; None without any."""
        reference = self._planned.recipe.data.calibration
        if reference is None:
            return None
        path = self._planned.path.parent / reference.path
        key = {"sha256": data_sets.content_sha256(path), "samples": reference.samples}
        settings = self.file_settings
        return {**key, self._task.takes: settings.model_dump(mode="json")} if settings else key

    @property
    def file_settings(self) -> ImageSettings | AudioSettings | None:
        """How a file of the data becomes the model's input; None where files hold inputs."""
        return self._planned.model.image or self._planned.recipe.model.audio

    def prepared(self, reference: DataRef) -> Path:
        """The directory of a data set's images or recordings as inputs."""
        from edgeq.formats.onnx.write import value_info
        from edgeq.models.graphs.opened import load_graph
        from edgeq.pipeline.build.audio_arrays import prepared_recordings
        from edgeq.pipeline.build.image_arrays import prepared_images

        given = self._planned.recipe.model
        (value,) = load_graph(self._float_graph()).graph.inputs
        folder = self._planned.path.parent / reference.path
        rest = (value_info(value), self._store, self._progress)
        if given.audio is not None:
            return prepared_recordings(folder, reference.samples, given.audio, *rest)
        image = self._planned.model.image
        assert image is not None
        return prepared_images(folder, reference.samples, image, *rest)

    def arrays(self, reference: DataRef) -> tuple[Path, int | None]:
        """The .npz file of a data set of arrays or files, and how many samples to read of it."""
        if self._task.takes_files:
            return self.prepared(reference) / PREPARED_ARRAYS, None
        return self._planned.path.parent / reference.path, reference.samples

    def texts(self, reference: DataRef) -> Sequence[TextOrPair]:
        """The texts of a data set as they are tokenized, after the default prompt."""
        from edgeq.formats.written import text_settings

        path, files = self._planned.path.parent / reference.path, self._planned.model.text
        assert files is not None
        if self._task.ranks:
            return read_queries(path, reference.samples).pairs
        texts = data_sets.read_texts(path, reference.samples)
        return text_settings(files, task=self._task).prompted(texts)

    def feeds(self, graph: Path) -> list[Feed]:
        """The calibration data as inputs of the float graph; none without any data."""
        reference = self._planned.recipe.data.calibration
        if reference is None:
            return []
        path = self._planned.path.parent / reference.path
        if self._planned.model.decoder is not None:
            from edgeq.models.graphs.decoder_onnx import decoder_feeds

            return decoder_feeds(self._planned.model.decoder, self.windows())
        from edgeq.formats.onnx.write import value_info
        from edgeq.models.graphs.opened import load_graph

        inputs = [value_info(value) for value in load_graph(graph).graph.inputs]
        if self._planned.model.text is not None:
            from edgeq.formats.samples import fit
            from edgeq.formats.text import TextEncoder

            files = self._planned.model.text
            encoder = TextEncoder(files.tokenizer_json(), files.max_tokens)
            names = [value.name for value in inputs]
            feeds = (encoder.feeds(text, names) for text in self.texts(reference))
            return [
                {value.name: fit(feed[value.name], value) for value in inputs} for feed in feeds
            ]
        state = self._planned.recipe.model.carried
        if state:
            return stepped_feeds(path, reference, inputs, state, graph)
        return array_feeds(*self.arrays(reference), inputs)

    def windows(self) -> list[list[int]]:
        """The calibration text of a language model as token ids, in windows of one length."""
        from edgeq.recipe.windows import split

        reference, decoder = self._planned.recipe.data.calibration, self._planned.model.decoder
        assert reference is not None and decoder is not None
        path, read = self._planned.path.parent / reference.path, text_reader(self._planned.model)
        # What a model wants in front of a text is what its tokenizer puts in front of nothing.
        around = read("", True)
        size = min(_WINDOW, decoder.context)
        first = around[0] if around else None
        ids = read(data_sets.read_corpus(path), False)
        return split(ids, size, first, str(path), reference.samples)
