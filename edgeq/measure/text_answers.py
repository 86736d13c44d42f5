"""Quality of language models in a place that gives logits and compares nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeq.formats.language import LanguageModel
from edgeq.measure import arrays, choices, text_passes
from edgeq.measure.predictions import Floats, LivePredictions
from edgeq.measure.replies import DivergenceReply, Reply
from edgeq.places.place import Place
from edgeq.places.process import Request


def run_quality(place: Place, request: Request, folder: Path) -> dict[str, Any]:
    """The reply that a worker there would give to a quality pass; raises as `Place.run`.

    Every sequence of tokens is a pass of its own there. folder: for scratch files.
    """
    if request.asked:
        assert request.outputs is not None
        there = _Answers(place, request, request.artifact, folder)
        answers: Iterator[Any] = choices.likelihoods(there.logits, request.asked)
        count = arrays.write_arrays(request.outputs, answers)
        return {**there.reply(), "inputs": f"{count} questions"}
    model = text_passes.load_text_model(request)
    asked: list[_Answers] = []

    def predict(live: LanguageModel, path: Path) -> LivePredictions:
        asked.append(_Answers(place, request, path, folder))
        return _Predictions(live, asked[-1].logits)

    found, inputs = text_passes.compared(request, model, predict)
    reply = {**asked[-1].reply(), "inputs": inputs, "divergence": found}
    return DivergenceReply.model_validate(reply).model_dump(mode="json")


class _Answers:
    """The logits of one artifact."""

    def __init__(self, place: Place, request: Request, artifact: Path, folder: Path) -> None:
        self._place, self._outputs = place, folder / "logits.npy"
        self._request = Request(
            work="quality",
            artifact=artifact,
            threads=request.threads,
            workload=request.workload,
            outputs=self._outputs,
        )
        self._reply: dict[str, Any] = {}

    def logits(
        self, ids: Sequence[int], last: int | None = None, piece: int | None = None
    ) -> Floats:
        """The same as `LanguageModel.last_logits`."""
        given = {"ids": tuple(ids), "last": last, "piece": piece}
        self._reply = self._place.run(self._request.model_copy(update=given))
        try:
            (found,) = arrays.read_arrays(self._outputs)
        finally:
            self._outputs.unlink()
        return found

    def reply(self) -> dict[str, Any]:
        """What the last pass said of model and runtime."""
        return Reply.model_validate(self._reply).model_dump(mode="json")


class _Predictions(LivePredictions):
    """Predictions of a model that is open for its tokens alone."""

    def __init__(self, model: LanguageModel, logits: Callable[..., Floats]) -> None:
        super().__init__(model)
        self._ask = logits

    def _logits(self, ids: Sequence[int], last: int, **pieces: int) -> Floats:
        return self._ask(ids, last, **pieces)
