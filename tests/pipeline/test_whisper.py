"""Whisper's shape, encoder and decoder with a cache: the texts are those of transformers."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")
pytest.importorskip("optimum", reason="the build side is not installed")

import torch
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

import edgeq
from edgeq.core.artifact import ValueInfo
from edgeq.core.audio import AudioSettings, MelSettings
from edgeq.core.errors import InvalidInput
from edgeq.core.store import Store
from edgeq.formats.audio import prepared_audio
from edgeq.measure.arrays import read_arrays
from edgeq.measure.inputs import Evaluation
from edgeq.measure.reference import ANSWERS_FILE, reference_name
from edgeq.pipeline.build.audio_arrays import prepared_recordings
from edgeq.pipeline.build.build import Built, build_float
from edgeq.pipeline.check import speech_reference, workflow
from edgeq.pipeline.check.speech_reference import speech_answers, speech_versions
from edgeq.pipeline.first_recipe import write_first_recipe
from edgeq.pipeline.parts import assemble, plan_whole
from edgeq.pipeline.proof.request import SpeechRequest
from edgeq.pipeline.proof.speech_original import record_texts
from edgeq.pipeline.workflow import build_recipe, check
from edgeq.recipe.file_sets import PREPARED_ARRAYS
from edgeq.recipe.parts import load_parts
from tests.support.tiny_whisper import TinyWhisper, original_texts, save_whisper
from tests.support.tones import save_wav

SECONDS = (0.5, 1.3, 2.0, 4.0)


def quiet(step: str) -> None:
    """Progress that nobody reads."""


def heard(seconds: float, seed: int) -> np.ndarray:
    """Samples at 16 kHz that a WAV file of 16 bits holds exactly."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(16_000 * seconds)) / 16_000
    tones = sum(np.sin(2 * np.pi * hertz * time) for hertz in rng.uniform(100, 4000, 4))
    return np.asarray(np.round(np.clip(0.1 * tones, -1, 1) * 32767) / 32768)


@dataclass(frozen=True)
class Case:
    whisper: TinyWhisper
    recipe: Path
    floats: Built

    @property
    def recordings(self) -> list[Path]:
        return sorted((self.recipe.parent / "evaluation").iterdir())


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("whisper")
    whisper = save_whisper(folder)
    (folder / "evaluation").mkdir()
    for seed, seconds in enumerate(SECONDS):
        save_wav(folder / "evaluation" / f"{seed}.wav", heard(seconds, seed), 16_000)
    recipe = folder / "speech.yaml"
    written = write_first_recipe(str(whisper.exported), ["here"], recipe)
    assert (written.task, written.missing) == ("speech-recognition", ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        whole = plan_whole(recipe, [])
        floats = {
            name: build_float(planned, Store(), quiet, "onnx")
            for name, planned in whole.parts.items()
        }
        return Case(whisper, recipe, assemble(recipe, whole.recipe, "onnx", floats))


def test_texts_are_those_of_transformers(case: Case) -> None:
    samples = [torch.from_numpy(heard(*pair)) for pair in zip(SECONDS, range(9), strict=False)]
    wanted = original_texts(case.whisper, samples)
    assert len(set(wanted)) == len(SECONDS)
    assert len({len(text) for text in wanted}) > 1  # some end by themselves
    assert edgeq.load(case.floats.path).transcribe(case.recordings) == wanted


@pytest.mark.parametrize("bins", [80, 128])
def test_features_are_those_of_transformers(bins: int) -> None:
    settings = AudioSettings(seconds=30, mel=MelSettings(bins=bins))
    value = ValueInfo(name="x", dtype="float32", shape=settings.shape)
    time = np.arange(16_000 * 30) / 16_000
    for samples in (
        np.zeros(16_000),
        np.ones(1),
        np.sign(np.sin(2 * np.pi * 3000 * time[:40_001])),
        np.sin(2 * np.pi * 440 * time),
        np.random.default_rng(0).standard_normal(50_000) / 10,
    ):
        found = prepared_audio((samples, 16_000), settings, value, "x")
        extractor = WhisperFeatureExtractor(feature_size=bins)
        wanted = extractor(samples.astype(np.float32), sampling_rate=16_000, return_tensors="np")
        assert np.abs(found - wanted.input_features).max() < 3e-5


def test_a_first_recipe_says_what_the_files_say(case: Case) -> None:
    text = case.recipe.read_text()
    for line in ("prompt: [257, 258, 260, 261]", "length: 24", '"mel": {"bins": 80}'):
        assert line in text
    with pytest.raises(InvalidInput, match=r"optimum-cli export onnx .*with-past"):
        write_first_recipe(str(case.whisper.directory), ["here"], case.recipe.with_name("b.yaml"))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("generation_config.json", {"num_beams": 5}, "num_beams is 5"),
        ("generation_config.json", {"lang_to_id": {}}, "<|en|>"),
        ("generation_config.json", {"language": "<|de|>"}, "language is '<|de|>'"),
        ("generation_config.json", {"forced_decoder_ids": [[1, None], [2, 259]]}, "puts 259 at 2"),
        ("generation_config.json", {"bad_words_ids": [[7]]}, "'bad_words_ids' does to an answer"),
        ("preprocessor_config.json", {"mel_floor": 1e-5}, "'mel_floor' does to an answer"),
        ("preprocessor_config.json", {"padding_value": -1.0}, "padding_value is -1.0"),
    ],
)
def test_settings_without_support_are_refused(
    case: Case, tmp_path: Path, file: str, change: dict[str, object], message: str
) -> None:
    exported = tmp_path / "exported"
    exported.mkdir()
    for path in case.whisper.exported.iterdir():
        (exported / path.name).symlink_to(path)
    text = json.loads((exported / file).read_text())
    (exported / file).unlink()
    (exported / file).write_text(json.dumps({**text, **change}))
    with pytest.raises(InvalidInput) as refused:
        write_first_recipe(str(exported), ["here"], tmp_path / "new.yaml")
    assert message in str(refused.value)


@pytest.fixture
def answered(case: Case, tmp_path: Path) -> SpeechRequest:
    """What asks transformers for the texts of the recordings."""
    recipe = load_parts(case.recipe)
    assert recipe.speech is not None
    settings, (value,) = recipe.speech.audio, case.floats.artifact.inputs
    folder = case.recipe.parent / "evaluation"
    given = prepared_recordings(folder, None, settings, value, Store(tmp_path / "store"), quiet)
    (tmp_path / "answers").mkdir()
    return SpeechRequest(
        directory=case.whisper.exported,
        arrays=given / PREPARED_ARRAYS,
        outputs=tmp_path / "answers",
        prompt=recipe.speech.decoding.prompt,
        audio=settings,
    )


def test_the_reference_is_what_transformers_writes(case: Case, answered: SpeechRequest) -> None:
    recorded = record_texts(answered)
    assert recorded.runtime.startswith("transformers 4")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(case.whisper.directory)
    found = [tokenizer.decode(ids) for ids in read_arrays(answered.outputs / ANSWERS_FILE)]
    samples = [torch.from_numpy(heard(*pair)) for pair in zip(SECONDS, range(9), strict=False)]
    assert [text.strip() for text in found] == original_texts(case.whisper, samples)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": (257, 258, 260)}, r"begins a text with \[257, 258, 260, 261\]"),
        ({"prompt": (257, 259, 258, 260, 261)}, r"begins a text with \[257, 25[89], 260, 261\]"),
        ({"audio": AudioSettings(seconds=30, mel=MelSettings(bins=80, window=512))}, "spectrum of"),
        ({"audio": AudioSettings(seconds=20, mel=MelSettings(bins=80))}, "spectrum of silence"),
    ],
)
def test_a_recipe_that_reads_or_begins_otherwise_is_refused(
    answered: SpeechRequest, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        record_texts(answered.model_copy(update=change))


def test_texts_are_recorded_once(case: Case, answered: SpeechRequest, tmp_path: Path) -> None:
    speech = load_parts(case.recipe).speech
    assert speech is not None
    said: list[str] = []
    given = Evaluation(answered.arrays.parent)
    rest = (case.recipe.parent, Store(tmp_path / "store"), said.append, given)
    folder = speech_answers(speech, *rest)
    assert reference_name(folder).startswith("transformers 4")
    assert speech_answers(speech, *rest) == folder
    assert said == ["run the original on the evaluation data"]


def test_what_cannot_be_run_has_no_versions(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the float models of the parts are the reference."""
    assert {"transformers", "optimum"} < {*speech_versions(case.whisper.exported)}
    assert speech_versions(case.whisper.directory) == {}
    monkeypatch.setattr(speech_reference, "is_installed", lambda: False)
    assert speech_versions(case.whisper.exported) == {}


def test_a_verdict_counts_words(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEQ_STORE", str(tmp_path))
    # Emulated CPUs take a minute, and tests of their own.
    monkeypatch.setattr(workflow, "_comparison", lambda *_: contextlib.nullcontext())
    (verdict,) = check(case.recipe, ["here"], False, quiet)
    assert verdict.measurement.reference.startswith("transformers 4")
    quality = verdict.measurement.quality
    assert quality is not None
    assert {*quality.scores} == {"agreement"}
    assert quality.scores["agreement"].samples == len(SECONDS)
    lines = {line.budget: line for line in verdict.lines}
    assert {"memory.peak", "latency.p90", "size.download", "quality.agreement"} < {*lines}
    sizes = lines["size.download"]
    assert sizes.value is not None and sizes.float_value is not None
    built = {each.artifact.model.name: each for each in build_recipe(case.recipe, None, quiet)}
    assert len(built) == 2
