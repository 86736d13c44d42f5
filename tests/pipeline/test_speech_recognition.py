"""A recogniser from its .onnx file to texts: those of onnxruntime for the same recordings."""

from __future__ import annotations

import contextlib
import itertools
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnxruntime

import edgeq
from edgeq.core.audio import AudioSettings, TranscriptionSettings
from edgeq.core.errors import InvalidInput
from edgeq.measure.words import errors
from edgeq.pipeline.build.build import Built
from edgeq.pipeline.check import workflow
from edgeq.pipeline.check.workflow import check_recipe
from edgeq.pipeline.first_recipe import write_first_recipe
from edgeq.pipeline.plan.plan import make_plan
from edgeq.pipeline.run import run_texts
from edgeq.pipeline.workflow import BundleRequest, build_recipe, bundle_recipe
from edgeq.recipe.data_sets import content_sha256
from edgeq.report.page.gather import report_of
from edgeq.report.page.render import render
from tests.support.tiny_bert import write_recipe
from tests.support.tones import (
    LABELS,
    RATE,
    SECONDS,
    save_recogniser,
    save_recordings,
    sentence,
    spoken,
)

RECIPE = """\
edgeq: 1
name: tones
model:
  source: ./tones.onnx
  task: speech-recognition
  labels: ["<pad>", "|", a, b, c, d]
  audio: {rate: 8000, seconds: 2}
  transcription: {blank: "<pad>", space: "|"}
data:
  calibration: {path: calibration}
  evaluation: {path: evaluation}
quantize:
  default: [float32, int8-static]
targets:
  - {format: onnx, devices: [here]}
budgets:
  quality: {agreement: 30 %, wer_rise: 30 %}
"""
SEEDS = range(1000, 1040)


def quiet(step: str) -> None:
    """Progress that nobody reads."""


@dataclass(frozen=True)
class Tones:
    """A recipe of a recogniser, and what was built of it by variant."""

    recipe: Path
    built: dict[str, Built]

    @property
    def folder(self) -> Path:
        return self.recipe.parent


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tones]:
    folder = tmp_path_factory.mktemp("tones")
    save_recogniser(folder / "tones.onnx")
    save_recordings(folder / "calibration", range(12), transcribed=False)
    save_recordings(folder / "evaluation", SEEDS, transcribed=True)
    recipe = write_recipe(folder / "tones.yaml", RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEQ_STORE", str(tmp_path_factory.mktemp("store")))
        # Emulated CPUs take a minute, and tests of their own.
        patch.setattr(workflow, "_comparison", lambda *_: contextlib.nullcontext())
        built = {item.artifact.variant: item for item in build_recipe(recipe, None, quiet)}
        yield Tones(recipe, built)


def wanted(model: Path, seed: int) -> str:
    """By the file itself in plain onnxruntime, from 16-bit samples."""
    whole = np.round(np.clip(spoken(sentence(seed), seed), -1, 1) * 32767) / 32768
    feed = np.zeros((1, RATE * SECONDS), np.float32)
    feed[0, : len(whole)] = whole
    (scores,) = onnxruntime.InferenceSession(model).run(None, {"samples": feed})
    symbols = [LABELS[index] for index, _ in itertools.groupby(scores[0].argmax(-1))]
    return " ".join("".join(symbols).replace("<pad>", "").replace("|", " ").split())


def test_float_texts_are_those_of_onnxruntime(tones: Tones) -> None:
    paths = [tones.folder / "evaluation" / f"{seed}.wav" for seed in SEEDS]
    right = [wanted(tones.folder / "tones.onnx", seed) for seed in SEEDS]
    assert edgeq.load(tones.built["float32"].path).transcribe(paths) == right
    same = sum(text == sentence(seed) for seed, text in zip(SEEDS, right, strict=True))
    assert len(SEEDS) / 4 < same < len(SEEDS)


def test_a_verdict_counts_words(tones: Tones) -> None:
    alone = RECIPE.replace("[float32, int8-static]", "int8-static")
    recipe = write_recipe(tones.folder / "alone.yaml", alone)
    (verdict,) = check_recipe(recipe, ["here"], False, quiet)
    quality = verdict.measurement.quality
    assert quality is not None
    assert set(quality.scores) == {"agreement", "wer", "wer_rise"}
    original = [wanted(tones.folder / "tones.onnx", seed) for seed in SEEDS]
    paths = [tones.folder / "evaluation" / f"{seed}.wav" for seed in SEEDS]
    own = edgeq.load(tones.built["int8-static"].path).transcribe(paths)
    pairs = list(zip(own, original, strict=True))
    kept = [a == b for a, b in pairs]
    assert 0.3 < sum(kept) / len(kept) < 1
    words = sum(len(text.split()) for text in original)
    other = sum(min(errors(a, b), len(b.split())) for a, b in pairs)
    assert quality.scores["agreement"].value == pytest.approx(1 - other / words)
    assert quality.scores["agreement"].noun == "recordings"
    lines = {line.budget: line for line in verdict.lines}
    assert lines["quality.wer_rise"].value == quality.scores["wer_rise"].value
    assert {change.was[0] for change in quality.changed} <= {
        text for text, same in zip(original, kept, strict=True) if not same
    }
    page = render(report_of(recipe, ["here"], quiet))
    assert "Words that change" in page
    assert quality.changed[0].text in page


def test_the_bundle_says_how_recordings_become_texts(tones: Tones) -> None:
    out = tones.folder / "tones.zip"
    bundle_recipe(
        BundleRequest(tones.recipe, out, artifact="onnx-float32", allow_unchecked=True), quiet
    )
    given = [(spoken(sentence(seed), seed), RATE) for seed in SEEDS[:5]]
    own = edgeq.load(tones.built["float32"].path)
    assert edgeq.load(out).transcribe(given) == own.transcribe(given)
    with zipfile.ZipFile(out) as archive:
        readme = archive.read("README.md").decode()
    assert "at 8000 samples per second" in readme
    assert "Zeros follow, up to 16000 samples." in readme
    assert "`|` separates words" in readme


def test_core_ml_writes_the_texts_of_onnxruntime(tones: Tones) -> None:
    pytest.importorskip("coremltools", reason="the extra coreml is not installed")
    other = RECIPE[: RECIPE.index("budgets")].replace("format: onnx", "format: coreml")
    other = other.replace("[float32, int8-static]", "float32").replace("[here]", "[iphone-14]")
    (built,) = build_recipe(write_recipe(tones.folder / "phone.yaml", other), None, quiet)
    paths = [tones.folder / "evaluation" / f"{seed}.wav" for seed in SEEDS[:6]]
    right = [wanted(tones.folder / "tones.onnx", seed) for seed in SEEDS[:6]]
    assert edgeq.load(built.path).transcribe(paths) == right


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("seconds: 2", "seconds: 3", r"gives floats of \(1, 24000\)"),
        ("  audio:", "  function: softmax\n  audio:", "the likeliest symbol is the same with any"),
        (", d]", "]", "5 labels, and the output 'logits' has the shape"),
        ('blank: "<pad>"', 'blank: "<pads>"', "'<pads>' is not one of the labels"),
        ("  audio: {rate: 8000, seconds: 2}\n", "", "needs 'audio'"),
        ("task: speech-recognition", "task: tensor", "the task 'tensor' takes no recordings"),
        ("path: evaluation", "path: calibration", "12 of its samples are in the calibration"),
    ],
)
def test_what_does_not_fit_is_refused(tones: Tones, old: str, new: str, what: str) -> None:
    wrong = RECIPE.replace(old, new)
    assert wrong != RECIPE
    with pytest.raises(InvalidInput, match=what):
        make_plan(write_recipe(tones.folder / "wrong.yaml", wrong))


def test_a_run_without_a_recording_says_how_to_give_one(tones: Tones) -> None:
    built = tones.built["float32"].path
    with pytest.raises(InvalidInput, match=r"needs recordings\n +run: edgeq run .+ speech\.wav"):
        run_texts(built, [])
    with pytest.raises(
        InvalidInput, match=r"tones\.yaml: .+\n +convert it: ffmpeg -i .+tones\.yaml"
    ):
        run_texts(built, [str(tones.recipe)])


def test_every_recording_has_a_line(tones: Tones, tmp_path: Path) -> None:
    folder = save_recordings(tmp_path / "some", range(50, 53), transcribed=True)
    text = RECIPE.replace("path: evaluation", f"path: {folder.as_posix()}")
    recipe = write_recipe(tones.folder / "odd.yaml", text)
    table = folder / "transcripts.tsv"
    table.write_text(table.read_text().replace("51.wav", "52.wav"))
    with pytest.raises(InvalidInput, match=r"has no line for '51\.wav'"):
        make_plan(recipe)
    (folder / "a.png").write_bytes(b"")
    with pytest.raises(InvalidInput, match="has images and recordings"):
        make_plan(recipe)


def test_a_verdict_depends_on_the_texts(tmp_path: Path) -> None:
    folder = save_recordings(tmp_path, range(3), transcribed=True)
    before = content_sha256(folder)
    table = folder / "transcripts.tsv"
    table.write_text(table.read_text() + "another.wav\ta b\n")
    assert content_sha256(folder) != before


def test_a_first_recipe_says_what_transformers_files_say(tones: Tones, tmp_path: Path) -> None:
    path = save_recogniser(tmp_path / "tones.onnx")
    files = {
        "config.json": {"architectures": ["Wav2Vec2ForCTC"]},
        "preprocessor_config.json": {
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "sampling_rate": RATE,
            "do_normalize": False,
        },
        "vocab.json": {label: number for number, label in enumerate(LABELS)},
        "tokenizer_config.json": {"pad_token": {"content": "<pad>"}, "unk_token": "<unk>"},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    written = write_first_recipe(str(path), ["here"], tmp_path / "tones.yaml")
    assert (written.task, len(written.missing)) == ("speech-recognition", 2)
    save_recordings(tmp_path / "calibration", range(2), transcribed=False)
    save_recordings(tmp_path / "evaluation", range(2, 4), transcribed=True)
    model = make_plan(tmp_path / "tones.yaml").recipe.model
    assert model.labels == LABELS
    assert model.audio == AudioSettings(rate=RATE, seconds=SECONDS)
    assert model.transcription == TranscriptionSettings(blank="<pad>", space="|")
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 2}')
    with pytest.raises(InvalidInput, match="numbers 2 symbols, and the model has 6"):
        write_first_recipe(str(path), ["here"], tmp_path / "other.yaml")
