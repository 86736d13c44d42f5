"""Recordings become the arrays that transformers' extractor makes, and outputs its texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.core.artifact import ValueInfo
from edgeq.core.audio import AudioSettings, TranscriptionSettings
from edgeq.core.errors import InvalidInput
from edgeq.formats.audio import prepared_audio, resampled, text_of
from tests.support.tones import save_wav


def value(settings: AudioSettings) -> ValueInfo:
    return ValueInfo(name="samples", dtype="float32", shape=settings.shape)


def prepared(audio: Any, **given: Any) -> np.ndarray:
    settings = AudioSettings.model_validate({"seconds": 1, **given})
    return np.asarray(prepared_audio(audio, settings, value(settings), "audio"))


@pytest.mark.parametrize("kind", ["noise", "silence", "short"])
def test_the_input_is_that_of_transformers(kind: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the build side is not installed")
    rng = np.random.default_rng(0)
    samples = {
        "noise": 0.1 + 0.2 * rng.standard_normal(12_000),
        "silence": np.zeros(9_000),
        "short": rng.standard_normal(3),
    }[kind]
    extract = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    wanted = extract(
        samples, sampling_rate=16_000, padding="max_length", max_length=16_000, return_tensors="np"
    )["input_values"]
    found = prepared((samples, 16_000), normalize=True)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav_files_of_every_width(tmp_path: Path, width: int, channels: int) -> None:
    rng = np.random.default_rng(width)
    samples = rng.uniform(-0.9, 0.9, (500, channels))
    path = save_wav(tmp_path / "a.wav", samples[:, 0] if channels == 1 else samples, 16_000, width)
    wanted = samples.mean(1)
    for given in (path, str(path), path.read_bytes(), (samples, 16_000)):
        found = prepared(given)
        assert found.shape == (1, 16_000)
        assert found[0, :500] == pytest.approx(wanted, abs=2.0 ** (2 - 8 * width) + 1e-6)
        assert not found[0, 500:].any()


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_another_rate_keeps_what_it_can(rate: int) -> None:
    """Tones below the cut-off stay as they are; above it, nothing passes."""
    time, wanted = np.arange(rate) / rate, np.arange(16_000) / 16_000
    inside = slice(400, -400)
    tone = np.sin(2 * np.pi * 1234.5 * time + 0.3)
    found = resampled(tone, rate, 16_000)
    assert len(found) == 16_000
    right = np.sin(2 * np.pi * 1234.5 * wanted + 0.3)
    assert found[inside] == pytest.approx(right[inside], abs=3e-3)
    if rate > 20_000:
        shrill = resampled(np.sin(2 * np.pi * 9500 * time), rate, 16_000)
        assert np.abs(shrill[inside]).max() < 0.01


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    whole = save_wav(tmp_path / "a.wav", np.zeros(100), 16_000).read_bytes()
    for given, what in (
        (b"RIFF", "cannot be read as a WAV file"),
        (whole[:30], "cannot be read as a WAV file"),
        (whole[:20] + b"\x03\x00" + whole[22:], "unknown format"),  # of floats
        (whole[:12] + b"LIST\5\0\0\0words" + whole[12:], "cannot be read"),  # without padding
        (whole[:44], "is cut off"),
        (whole[:-20], "announces 200 bytes of samples, 180 follow"),
        (save_wav(tmp_path / "b.wav", np.zeros(0), 16_000).read_bytes(), "holds 0 bytes"),
        ((np.zeros((2, 2, 2)), 16_000), "has samples of shape"),
        ((np.array([np.nan]), 16_000), "not finite"),
        ((np.zeros(9), 10**9), "which no recorder takes"),
        ((np.zeros(9), 0), "which no recorder takes"),
        ((np.zeros(16_001), 16_000), "takes 1.0 s, and the model 1 s at most"),
    ):
        with pytest.raises(InvalidInput, match=what):
            prepared(given)


def test_a_recording_written_to_a_pipe_announces_no_length(tmp_path: Path) -> None:
    whole = save_wav(tmp_path / "a.wav", np.linspace(-0.5, 0.5, 100), 16_000).read_bytes()
    streamed = whole[:4] + b"\xff" * 4 + whole[8:40] + b"\xff" * 4 + whole[44:]
    assert (prepared(streamed) == prepared(whole)).all()


def test_texts_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the build side is not installed")
    labels = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcde"]
    (tmp_path / "vocab.json").write_text(
        "{" + ", ".join(f'"{name}": {index}' for index, name in enumerate(labels)) + "}"
    )
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    settings = TranscriptionSettings(blank="<pad>", space="|", ignore=("<s>", "</s>", "<unk>"))
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.normal([4, -20, -20, -20, 1, 1, 1, 1, 1, 1], 1.5, (1, 30, len(labels)))
        wanted = tokenizer.decode(scores[0].argmax(-1))
        assert text_of(scores, settings, labels) == " ".join(wanted.split())
    frames = np.eye(len(labels))[[5, 1, 5, 0, 5, 6, 3]][None]
    assert text_of(frames, settings, labels) == "aab"  # <s> parts nothing, <pad> does
