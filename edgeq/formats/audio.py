"""From a recording to the input of a model, as `AudioSettings` say, and from its output to text."""

from __future__ import annotations

import io
import itertools
import math
import os
import shlex
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from edgeq.core.artifact import ValueInfo
from edgeq.core.audio import AudioSettings, MelSettings, TranscriptionSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import read_bytes

Floats = npt.NDArray[np.float64]
AnyAudio: TypeAlias = "str | os.PathLike[str] | bytes | tuple[npt.NDArray[Any], int]"
"""A path, the bytes of a WAV file, or samples and their rate: floats from −1 to 1, (samples[,
channels])."""

_MOST_BYTES = 1 << 30
_UNKNOWN_LENGTH = 0x7FFF0000  # bytes; a program that writes to a pipe announces as many or more
_FASTEST = 1_000_000  # samples per second: filters get longer with it
_ZEROS = 16  # of the filter on each side, in samples of the lower rate
_ROLLOFF = 0.95  # of half the lower rate, from where on the filter falls


def prepared_audio(audio: AnyAudio, settings: AudioSettings, value: ValueInfo, where: str) -> Any:
    """The array that the input `value` takes for a recording. `where` names it in errors.

    Raises InvalidInput for what is not a WAV file of PCM samples, and for one that is too long.
    """
    samples, rate = _opened(audio, where)
    if not 1 <= rate <= _FASTEST:
        what = f"has {rate} samples per second, which no recorder takes"
        raise InvalidInput(Problem(where, what, "give the rate that it was recorded at"))
    if len(samples) > settings.seconds * rate:
        what = f"takes {len(samples) / rate:.1f} s, and the model {settings.seconds:g} s at most"
        raise InvalidInput(Problem(where, what, "cut it at pauses"))
    mono = samples.mean(1) if samples.ndim == 2 else samples
    mono = resampled(mono, rate, settings.rate)[: settings.samples]
    if settings.normalize:
        mono = (mono - mono.mean()) / math.sqrt(mono.var() + 1e-7)
    filled = np.zeros((1, settings.samples), value.dtype)
    filled[0, : len(mono)] = mono
    return filled if settings.mel is None else log_mel(filled, settings.rate, settings.mel)


def log_mel(samples: npt.NDArray[Any], rate: int, settings: MelSettings) -> npt.NDArray[Any]:
    """`MelSettings`, of samples (1, n)."""
    size, half = settings.window, settings.window // 2
    padded = np.pad(samples[0].astype(np.float64), half, "reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: settings.hop]
    frames = frames[: samples.shape[1] // settings.hop]
    window = np.sin(np.pi * np.arange(size) / size) ** 2
    powers = np.abs(np.fft.rfft(frames * window)) ** 2
    bands = powers @ mel_filters(rate, settings)
    levels = np.log10(np.maximum(bands, 1e-10))
    levels = (np.maximum(levels, levels.max() - 8) + 4) / 4
    return np.ascontiguousarray(levels.T[None], samples.dtype)


def mel_filters(rate: int, settings: MelSettings) -> Floats:
    """Triangles (frequencies, bins) that are equally wide on the mel scale, and equal in area.

    The scale of Slaney's Auditory Toolbox: linear up to 1000 Hz, logarithmic from there.
    """
    step, break_at = 200 / 3, 1000.0
    ratio = math.log(6.4) / 27
    linear = break_at / step
    top = rate / 2
    highest = top / step if top < break_at else linear + math.log(top / break_at) / ratio
    mels = np.linspace(0, highest, settings.bins + 2)
    corners = np.where(mels < linear, mels * step, break_at * np.exp(ratio * (mels - linear)))
    frequencies = np.linspace(0, top, settings.window // 2 + 1)[:, None]
    rising = (frequencies - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - frequencies) / np.diff(corners)[1:]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * 2 / (corners[2:] - corners[:-2]))


def resampled(samples: Floats, rate: int, wanted: int) -> Floats:
    """The samples at another rate, by a windowed sinc: frequencies that do not fit are removed."""
    if rate == wanted:
        return samples
    divisor = math.gcd(rate, wanted)
    up, down = wanted // divisor, rate // divisor
    low = min(rate, wanted) * _ROLLOFF / 2 / rate  # cut-off in cycles per given sample
    reach = math.ceil(_ZEROS / (2 * low))
    padded = np.pad(samples, (reach, reach + down))
    count = math.ceil(len(samples) * wanted / rate)
    result = np.zeros(count)
    for phase in range(min(up, count)):  # output samples that lie alike between given ones
        at = np.arange(phase, count, up)
        start, between = divmod(phase * down, up)
        offsets = np.arange(-reach, reach + 1) - between / up
        window = np.where(np.abs(offsets) < reach, np.cos(np.pi * offsets / (2 * reach)) ** 2, 0)
        taps = 2 * low * np.sinc(2 * low * offsets) * window
        taps /= taps.sum()
        seen = np.lib.stride_tricks.sliding_window_view(padded, len(taps))
        result[at] = seen[start : start + len(at) * down : down][: len(at)] @ taps
    return result


def text_of(
    output: npt.NDArray[Any], settings: TranscriptionSettings, labels: Sequence[str]
) -> str:
    """The text of the output for one recording: (1, frames, symbols)."""
    best = (labels[index] for index in output.reshape(output.shape[-2:]).argmax(-1))
    heard = (label for label in best if label not in settings.ignore)
    once = (label for label, _ in itertools.groupby(heard) if label != settings.blank)
    spoken = (" " if label == settings.space else label for label in once)
    return " ".join("".join(spoken).split())


def _opened(given: AnyAudio, where: str) -> tuple[Floats, int]:
    """Samples from −1 to 1, and their rate."""
    if isinstance(given, tuple):
        samples, rate = np.asarray(given[0], np.float64), given[1]
        if samples.ndim not in (1, 2) or not samples.size:
            what = f"has samples of shape {samples.shape} at {rate} Hz"
            raise InvalidInput(Problem(where, what, "give (samples,) or (samples, channels)"))
        return _finite(samples, where), int(rate)
    content = given
    if not isinstance(content, bytes):
        content = read_bytes(Path(content), _MOST_BYTES, "cut it into shorter files")
    try:
        with wave.open(io.BytesIO(content)) as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            announced = file.getnframes() * width * channels
            raw = file.readframes(min(file.getnframes(), len(content)))
    except (wave.Error, EOFError, ValueError, RuntimeError) as error:  # the last: chunks overlap
        what = f"cannot be read as a WAV file of PCM samples: {str(error)[:100] or 'it is cut off'}"
        remedy = f"convert it: ffmpeg -i {shlex.quote(where)} new.wav"
        raise InvalidInput(Problem(where, what, remedy)) from None
    if len(raw) < announced < _UNKNOWN_LENGTH:
        what = f"is cut off: its header announces {announced} bytes of samples, {len(raw)} follow"
        raise InvalidInput(Problem(where, what, "copy or download it again"))
    if not raw or not 1 <= width <= 4 or not channels or len(raw) % (width * channels):
        what = f"holds {len(raw)} bytes of {channels} channels with {8 * width} bits at {rate} Hz"
        raise InvalidInput(Problem(where, what, "record it again, or convert it"))
    return _from_bytes(raw, width).reshape(-1, channels), rate


def _from_bytes(raw: bytes, width: int) -> Floats:
    """Unsigned 8-bit samples, and little-endian signed ones of 16 to 32."""
    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float64) - 128) / 128
    parts = np.frombuffer(raw, np.uint8).reshape(-1, width)
    wide = np.zeros((len(parts), 4), np.uint8)
    wide[:, 4 - width :] = parts
    return wide.view("<i4")[:, 0].astype(np.float64) / 2.0**31


def _finite(samples: Floats, where: str) -> Floats:
    if not np.isfinite(samples).all():
        raise InvalidInput(Problem(where, "has samples that are not finite", "record it again"))
    return samples
