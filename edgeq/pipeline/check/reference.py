"""The reference for artifacts: the original's answers, recorded once for a model and its data.

The original runs in its own library if the build side is installed. Otherwise edgeq's float model
answers, and every verdict says so.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.store import Store
from edgeq.core.tasks import task_of
from edgeq.core.terms import Progress, TextOrPair
from edgeq.core.units import format_bytes
from edgeq.formats.onnx.file_format import ONNX
from edgeq.formats.written import text_settings
from edgeq.measure.choices import continuations
from edgeq.measure.inputs import Evaluation, evaluation_texts
from edgeq.measure.text_passes import corpus_windows
from edgeq.models.huggingface import ModelDirectory
from edgeq.models.original.network import is_installed
from edgeq.pipeline.build.build import build_float
from edgeq.pipeline.build.stages import Stages
from edgeq.pipeline.build.tokens import text_reader
from edgeq.pipeline.plan.plan import Planned
from edgeq.pipeline.proof.onnx_request import OnnxAnswersRequest
from edgeq.pipeline.proof.onnx_run import run_onnx
from edgeq.pipeline.proof.original import run_original, versions
from edgeq.pipeline.proof.request import AnswersRequest
from edgeq.quantize.storage import Format
from edgeq.recipe.query_sets import read_queries
from edgeq.recipe.question_sets import Question, read_questions
from edgeq.recipe.windows import drawn

_LARGEST = 8 << 30  # limit on the bytes of recorded answers
_USUAL = 4 << 30  # of those of a recipe that does not say how many
_FEWEST = 2  # windows, for a standard error


def evaluation_of(planned: Planned, store: Store, progress: Progress) -> Evaluation | None:
    """The evaluation data of a recipe; images and recordings as the inputs that they become.

    Without any, what a model of arrays is calibrated with, to be timed only: numbers that are made
    up are not always what it takes.
    """
    data = planned.recipe.data
    reference = data.evaluation
    only_timed = reference is None and planned.model.text is None
    if only_timed:
        reference = data.calibration
    if reference is None:
        return None
    if task_of(planned.recipe.model.task).takes_files:
        path = Stages(planned, store, progress).calibration.prepared(reference)
        return Evaluation(path, only_timed=only_timed)
    questions: tuple[Question, ...] = ()
    if data.questions is not None:
        questions = read_questions(
            planned.path.parent / data.questions.path, data.questions.samples
        )
    path = planned.path.parent / reference.path
    return Evaluation(path, reference.samples, questions, only_timed)


def reference_answers(
    planned: Planned, store: Store, progress: Progress, evaluation: Evaluation
) -> Path:
    """Return recorded answers, or the float artifact that gives them, making them if necessary.

    There is one reference for every file format. Raises InvalidInput if the original cannot run, or
    if its answers to all of the evaluation data would fill the disk.
    """
    directory = planned.model.directory
    if directory is None:
        return _onnx_answers(planned, store, progress, evaluation)
    if planned.model.gguf is None and not is_installed():
        return own_reading(planned, store, progress)
    asked = _asked(planned, directory, evaluation)
    key = {
        "model": planned.model.sha256(),
        "task": planned.recipe.model.task,
        "asked": canonical.sha256_of(asked),
        "by": versions(planned.model),
    }

    def make(destination: Path) -> None:
        progress("run the original on the evaluation data")
        request = AnswersRequest(
            directory=directory.path,
            gguf=planned.model.gguf,
            outputs=destination.absolute(),
            task=planned.recipe.model.task,
            **asked,
        )
        run_original(request)

    return store.stage("reference", key, make, describe=planned.plan.source)


def _onnx_answers(
    planned: Planned, store: Store, progress: Progress, evaluation: Evaluation
) -> Path:
    """Record answers of the untouched .onnx file in onnxruntime without optimization."""
    model, task = planned.model.located.path.absolute(), planned.recipe.model.task
    given: dict[str, Any]
    if planned.model.tokenizer is not None:
        settings = text_settings(planned.model.tokenizer, task=task_of(task))
        texts = [settings.after_prompt(text) for text in _texts(task, evaluation)]
        dimension = planned.model.tokenizer.head.truncate
        given = {
            "texts": texts,
            "tokenizer": planned.model.tokenizer.path.absolute(),
            "dimension": dimension,
        }
        data: list[Any] = [task, canonical.sha256_of(texts), dimension]
    else:
        path, state = evaluation.arrays.absolute(), planned.recipe.model.carried
        given = {"arrays": path, "samples": evaluation.samples, "state": state}
        data = [canonical.sha256_of_file(path), evaluation.samples, *state.items()]
    if planned.model.images is not None:
        given["images"] = planned.model.images.path.absolute()
        data.append(versions(planned.model))
    key = {
        "model": planned.model.sha256(),
        "data": data,
        "by": importlib.metadata.version("onnxruntime"),
    }

    def make(destination: Path) -> None:
        progress("run the original on the evaluation data")
        to = destination.absolute()
        run_onnx(OnnxAnswersRequest(model=model, outputs=to, task=task, **given))

    return store.stage("reference", key, make, describe=planned.plan.source)


def own_reading(planned: Planned, store: Store, progress: Progress) -> Path:
    """Build the float artifact, proven against the original if that could be run.

    It is in ONNX whatever the recipe's formats are, if possible: one for all of them.
    """
    format: Format = next(iter(planned.targets))
    can_write = all(importlib.util.find_spec(name) for name in ("onnx", "onnx_ir"))
    if can_write and planned.model.unread is None:
        format = ONNX.name
    return build_float(planned, store, progress, format).path


def _asked(planned: Planned, directory: ModelDirectory, evaluation: Evaluation) -> dict[str, Any]:
    """The texts or windows of the evaluation data, as `AnswersRequest` names them."""
    decoder = planned.model.decoder
    if decoder is None:
        dimension = directory.head.truncate
        texts: dict[str, Any] = {"texts": _texts(planned.recipe.model.task, evaluation)}
        return {**texts, "dimension": dimension} if dimension else texts
    size = planned.recipe.workload.window
    ids = text_reader(planned.model)
    windows = corpus_windows(ids, evaluation.path, evaluation.samples, size)
    windows = recordable(windows, decoder.vocabulary, evaluation)
    context = planned.recipe.workload.context
    asked = continuations(ids, evaluation.questions, context, "data.questions")
    return {"windows": windows, **({"asked": asked} if asked else {})}


def _texts(task: str, evaluation: Evaluation) -> tuple[TextOrPair, ...]:
    if task_of(task).ranks:
        return read_queries(evaluation.path, evaluation.samples).pairs
    return evaluation_texts(evaluation)[0]


def recordable(
    windows: list[list[int]], vocabulary: int, evaluation: Evaluation
) -> list[list[int]]:
    """All windows, or as many as predictions can be recorded of if the recipe states no number."""
    each = len(windows[0]) // 2 * vocabulary * 4
    if evaluation.samples is None and _USUAL // each >= _FEWEST:
        return drawn(windows, _USUAL // each)
    most = _LARGEST // each
    if len(windows) <= most:
        return windows
    what = f"{len(windows)} of its windows give {format_bytes(len(windows) * each)} of predictions"
    remedy = f"write 'samples: {most}' in data.evaluation"
    if most < _FEWEST:
        remedy = "write a smaller context in workload"
    raise InvalidInput(Problem(str(evaluation.path), f"{what} to compare", remedy))
