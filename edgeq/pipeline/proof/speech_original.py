"""A speech recogniser in its own library: what transformers' `generate` writes of recordings.

The files that optimum exported are run as they are; decoding is the library's, with the settings of
the directory: prompt, suppressed tokens, length and end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.artifact import ValueInfo
from edgeq.core.audio import AudioSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.threads import default_threads
from edgeq.formats.audio import prepared_audio
from edgeq.measure import arrays
from edgeq.measure.reference import ANSWERS_FILE, Recorded, write_record
from edgeq.models.original.network import versions
from edgeq.pipeline.proof.request import SpeechRequest
from edgeq.recipe import array_sets

_ROOM = 1e-3
"""Of a spectrum's logarithms; another window, scale or floor differs by more than a tenth."""


def record_texts(request: SpeechRequest) -> Recorded:
    """Write the tokens of every recording, without prompt and end.

    Raises InvalidInput where the library makes another spectrum, or begins with another prompt.
    """
    require_same_spectra(request.directory, request.audio)
    model = _opened(request.directory)
    arrays.write_arrays(request.outputs / ANSWERS_FILE, _texts(model, request))
    runtime = versions("transformers", "optimum", "onnxruntime")
    recorded = Recorded(runtime=f"{runtime}, on the files as they are")
    write_record(request.outputs, recorded)
    return recorded


def _opened(directory: Path) -> Any:
    import onnxruntime
    import transformers
    from optimum.onnxruntime import ORTModelForSpeechSeq2Seq

    transformers.utils.logging.set_verbosity_error()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = default_threads()
    return ORTModelForSpeechSeq2Seq.from_pretrained(
        directory,
        local_files_only=True,
        use_merged=False,  # what parts are made of
        use_io_binding=False,
        session_options=options,
    )


def _texts(model: Any, request: SpeechRequest) -> Iterator[np.ndarray[Any, Any]]:
    import torch

    given = array_sets.read_arrays(request.arrays)
    spoken = _spoken(model.generation_config, request.prompt)
    for features in next(iter(given.values())):
        begun = _Begun()
        (found,) = model.generate(
            torch.from_numpy(features[None].astype(np.float32)),
            logits_processor=[begun],
            do_sample=False,
            num_beams=1,
            **spoken,
        ).tolist()
        if begun.prompt != request.prompt:
            what = f"its own library begins a text with {list(begun.prompt)}"
            raise _other_prompt(request.directory, request.prompt, what)
        if tuple(found[: len(begun.prompt)]) == begun.prompt:
            found = found[len(begun.prompt) :]
        yield np.array(_before_end(found, model.generation_config), np.int64)


class _Begun:
    """Sees the tokens that a text begins with."""

    prompt: tuple[int, ...] = ()

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.prompt = self.prompt or tuple(input_ids[0].tolist())
        return scores


def _spoken(settings: Any, prompt: tuple[int, ...]) -> dict[str, str]:
    """Language and task by name, as the library takes them, of tokens in the prompt."""
    if not getattr(settings, "is_multilingual", False):
        return {}
    known = {"language": settings.lang_to_id, "task": settings.task_to_id}
    return {
        key: name for key, ids in known.items() for name, token in ids.items() if token in prompt
    }


def _before_end(found: list[int], settings: Any) -> list[int]:
    end = settings.eos_token_id
    ends = {*(end if isinstance(end, list) else [end]), settings.pad_token_id}
    return found[: next((at for at, token in enumerate(found) if token in ends), len(found))]


def _other_prompt(directory: Path, prompt: tuple[int, ...], what: str) -> InvalidInput:
    where = f"{directory}/generation_config.json"
    remedy = "write the same prompt in speech.decoding"
    return InvalidInput(Problem(where, f"{what}, and the recipe with {list(prompt)}", remedy))


def require_same_spectra(directory: Path, settings: AudioSettings) -> None:
    """Raise InvalidInput, naming the sound, where the library's extractor gives other inputs."""
    import transformers

    extractor = transformers.AutoFeatureExtractor.from_pretrained(directory, local_files_only=True)
    value = ValueInfo(name="input_features", dtype="float32", shape=settings.shape)
    for name, samples in _hard_sounds(settings):
        own = prepared_audio((samples, settings.rate), settings, value, name)
        wanted = extractor(samples, sampling_rate=settings.rate, return_tensors="np")
        wanted = wanted["input_features"]
        same = own.shape == wanted.shape
        worst = float(np.abs(own - wanted).max()) if same else float("inf")
        if not worst <= _ROOM:
            what = f"its own library makes another spectrum of {name}, by {worst:.2g}"
            remedy = "write its settings in speech.audio"
            where = f"{directory}/preprocessor_config.json"
            raise InvalidInput(Problem(where, what, remedy))


def _hard_sounds(settings: AudioSettings) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Sounds that differ in length and in what they have of each frequency."""
    rng, count = np.random.default_rng(0), min(settings.samples, 3 * settings.rate)
    time = np.arange(count) / settings.rate
    yield "silence", np.zeros(count, np.float32)
    yield "a rising tone", (0.5 * np.sin(900 * time * time)).astype(np.float32)
    yield "noise", (0.1 * rng.standard_normal(count // 3)).astype(np.float32)
