"""Ask an artifact, in a process of its own, for the answers of its bundle's self-test."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import Artifact, Frozen, TextSettings, read_artifact, read_record
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.tasks import task_of
from edgeq.core.temporary import TemporaryFolder
from edgeq.devices.catalogue import HERE, load_device
from edgeq.formats.base import Model
from edgeq.formats.hard_texts import ODD_TEXTS, ORDINARY_TEXTS
from edgeq.formats.language import LanguageModel
from edgeq.formats.loaded import load
from edgeq.formats.selftest import (
    ARRAYS_FILE,
    IMAGE_FILE,
    OTHER_CPU,
    SELFTEST_FILE,
    Case,
    Object,
    Output,
    SelfTest,
    TokenizedText,
    listed,
)
from edgeq.measure.worker import serve
from edgeq.pipeline.proof.samples import TEXTS
from edgeq.places.process import PassFailed, run_worker

if TYPE_CHECKING:
    from PIL import Image

_CONTEXT = 128
_LONGEST = 1024


class SelfTestRequest(Frozen):
    """Answer texts, or the arrays of an .npz file; facts of a language model are added."""

    work: Literal["selftest"] = "selftest"
    artifact: Path
    arrays: Path | None = None
    image: Path | None = None


class Facts(Frozen):
    """Facts that only the loaded model has, for the bundle's README."""

    end_tokens: tuple[int, ...] = ()
    longest: int | None = None


def selftest(artifact: Path, samples: Path | None) -> tuple[Facts, SelfTest, dict[str, bytes]]:
    """Facts, the self-test and its files by name. samples: an .npz data set of a model of arrays.

    Raises InvalidInput where the artifact does not run.
    """
    with TemporaryFolder() as folder:
        arrays = None
        if samples is not None:
            arrays = Path(folder, ARRAYS_FILE)
            with np.load(samples) as rows:
                np.savez(arrays, **{name: rows[name][0] for name in rows.files})
        image = None
        if samples is not None and read_record(artifact).image is not None:
            image = Path(folder, IMAGE_FILE)
            _image().save(image)
        request = SelfTestRequest(artifact=artifact.absolute(), arrays=arrays, image=image)
        try:
            reply = run_worker(request, module="edgeq.pipeline.bundle.selftest")
        except PassFailed as error:
            what = f"does not run: {error}"
            raise InvalidInput(Problem(str(artifact), what, "choose another variant")) from None
        files = {path.name: path.read_bytes() for path in (arrays, image) if path is not None}
    record = SelfTest.model_validate(reply["selftest"])
    files[SELFTEST_FILE] = record.model_dump_json(exclude_none=True).encode() + b"\n"
    return Facts.model_validate(reply["facts"]), record, files


def answer(request: SelfTestRequest) -> dict[str, Any]:
    """Open the artifact and answer; plain JSON. Raises InvalidInput where it does not run."""
    record = read_artifact(request.artifact)
    task = task_of(record.task)
    model = load(request.artifact, context=_CONTEXT if task.generates else None)
    if request.arrays is not None:
        with np.load(request.arrays) as feeds:
            answers = model.run(dict(feeds))
        cases = [Case(arrays=ARRAYS_FILE, outputs=_listed(answers))]
        if request.image is not None:
            answers = model.run(model.preprocess(request.image))
            labels = _labels(model, request.image, answers, record)
            found = _found(model, request.image, record)
            case = Case(image=IMAGE_FILE, outputs=_listed(answers), labels=labels, found=found)
            cases.append(case)
    elif task.generates:
        cases = [_continuation(model, text, record) for text in TEXTS]
    else:
        texts = (*TEXTS, *_too_long(record))
        cases = [_of_text(model, text, record) for text in texts]
    has_texts = record.text is not None and not task.ranks
    ordinary, odd = (
        _tokenized(model, texts, record) if has_texts else ()
        for texts in (ORDINARY_TEXTS, ODD_TEXTS)
    )
    facts = Facts()
    if isinstance(model, LanguageModel):
        ends = tuple(id for id in range(model.vocabulary) if id in model.end_tokens)
        facts = Facts(end_tokens=ends, longest=model.longest)
    test = SelfTest(
        runtime=model.runtime,
        cpu=load_device(HERE).chip,
        cases=tuple(cases),
        ordinary_texts=ordinary,
        odd_texts=odd,
    )
    return {"facts": facts.model_dump(mode="json"), "selftest": test.model_dump(mode="json")}


def _too_long(record: Artifact) -> tuple[str, ...]:
    """A text that has to be cut, where that takes little time."""
    most = record.text.max_tokens if record.text else _LONGEST + 1
    return (" ".join([TEXTS[0]] * (1 + most // 4)),) if most <= _LONGEST else ()


def _tokenized(model: Model, texts: Sequence[str], record: Artifact) -> tuple[TokenizedText, ...]:
    return tuple(TokenizedText(text=text, token_ids=_ids(model, text, record)) for text in texts)


def _ids(model: Model, text: str, record: Artifact) -> tuple[int, ...]:
    """The ids of a text behind the default prompt, cut as the model takes it."""
    if task_of(record.task).generates:
        return tuple(model.tokens(text))
    (prompted,) = (record.text or TextSettings(max_tokens=1)).prompted([text])
    return tuple(model.tokens(prompted))


def _continuation(model: Model, text: str, record: Artifact) -> Case:
    """Scores of the token after a text."""
    ids = _ids(model, text, record)[:_CONTEXT]
    logits = model.logits(ids)[-1]
    return Case(text=text, token_ids=ids, outputs=(listed("logits", logits),))


def _of_pair(model: Model, query: str, text: str) -> Case:
    feeds = model.tokenize((query, text))
    ids = tuple(feeds["input_ids"][0].tolist())
    return Case(query=query, text=text, token_ids=ids, outputs=_listed(model.run(feeds)))


def _of_text(model: Model, text: str, record: Artifact) -> Case:
    if task_of(record.task).ranks:
        return _of_pair(model, TEXTS[0], text)
    if task_of(record.task).embeds:
        answers = {"sentence_embedding": model.embed([text])[0]}
    else:
        answers = model.run(model.tokenize(text))
    return Case(
        text=text,
        token_ids=_ids(model, text, record),
        outputs=_listed(answers),
        labels=_labels(model, text, answers, record),
    )


def _labels(
    model: Model,
    sample: str | Path,
    answers: Mapping[str, npt.NDArray[Any]],
    record: Artifact,
) -> tuple[str, ...] | None:
    """The labels of a text or an image, if no answer within the tolerance has others."""
    if record.classes is None or not task_of(record.task).classifies:
        return None
    scores = answers[record.outputs[0].name].ravel()
    room = OTHER_CPU * float(np.linalg.norm(scores))
    if record.classes.function == "sigmoid":
        is_clear = bool((np.abs(scores) > room).all())
    else:
        ordered = np.sort(scores)
        is_clear = scores.size < 2 or bool(ordered[-1] - ordered[-2] > 2 * room)
    return model.classify([sample])[0].labels if is_clear else None


def _found(model: Model, image: Path, record: Artifact) -> tuple[Object, ...] | None:
    """What a detector finds in an image."""
    if not task_of(record.task).detects:
        return None
    return tuple(Object(**vars(each)) for each in model.detect([image])[0])


def _listed(answers: Mapping[str, Any]) -> tuple[Output, ...]:
    return tuple(listed(*each) for each in answers.items())


def _image() -> Image.Image:
    """Edges and slopes, with sides that no resizing divides evenly."""
    from PIL import Image

    y, x = np.mgrid[:211, :157]
    pixels = np.stack([x, y, (x // 9 + y // 13) % 2 * 255], -1)
    return Image.fromarray(pixels.astype(np.uint8))


if __name__ == "__main__":
    sys.exit(serve(lambda given: answer(SelfTestRequest.model_validate_json(given))))
