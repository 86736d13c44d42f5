"""Inputs of the kind that the models get: photographs, lines of text, speech, files."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Rng = np.random.Generator
SAMPLE_RATE = 16_000
_TEXTS = Path(__file__).parents[2] / "recipes" / "data" / "calibration.txt"
_VOICES = ("en-us", "en-gb", "en+f3", "de", "en+m7")
_PAUSE = np.zeros(SAMPLE_RATE, np.float32)


class NotHere(Exception):
    """Something that inputs are made with is missing; the message names it."""


class Inputs:
    """Makes inputs; `packages` is the folder that holds scikit-learn's photographs.

    seed: of the generator, and which files are used; other seeds have others.
    """

    def __init__(self, packages: Path, seed: int) -> None:
        self._packages, self._seed = packages, seed

    def photo(self, rng: Rng, height: int, width: int) -> Array:
        """A part of a photograph, perhaps mirrored or darker: (height, width, 3) of 0 to 255."""
        from PIL import Image

        pictures = self._photographs()
        picture = pictures[rng.integers(len(pictures))]
        share = rng.uniform(0.3, 1) * min(picture.width / width, picture.height / height)
        size = int(width * share), int(height * share)
        left = int(rng.integers(0, picture.width - size[0] + 1))
        top = int(rng.integers(0, picture.height - size[1] + 1))
        part = picture.crop((left, top, left + size[0], top + size[1]))
        pixels = np.asarray(part.resize((width, height), Image.Resampling.BILINEAR), np.float32)
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return np.clip(pixels * rng.uniform(0.7, 1.2), 0, 255).astype(np.float32)

    def text(self, rng: Rng, height: int, width: int, lines: int = 1) -> Array:
        """Dark lines of text on a light ground: (height, width, 3) of 0 to 255."""
        from PIL import Image, ImageDraw, ImageFont

        ground = self.photo(rng, height, width) * 0.15 + rng.uniform(170, 215)
        page = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
        pen, texts = ImageDraw.Draw(page), _sentences()
        for line in range(lines):
            font = ImageFont.load_default(height / lines * rng.uniform(0.45, 0.7))
            at = (float(rng.integers(2, 12)), height / lines * (line + 0.1))
            ink = tuple(int(value) for value in rng.integers(0, 90, 3))
            pen.text(at, texts[rng.integers(len(texts))], font=font, fill=ink)
        return np.asarray(page, np.float32)

    def speech(self, rng: Rng, samples: int) -> Array:
        """Speech or a pause between sentences: float32 (samples,) within ±1, at 16 kHz."""
        recording = _recording()
        begin = rng.integers(0, len(recording) - samples)
        return recording[begin : begin + samples]

    def file(self, rng: Rng) -> bytes:
        """The bytes of a file of Python's library."""
        files = _files()[self._seed % 2 :: 2]
        return files[rng.integers(len(files))].read_bytes()

    @functools.lru_cache(maxsize=8)  # noqa: B019  one object a run
    def session(self, file: str) -> Any:
        """A model of the packages that makes another's inputs, open in onnxruntime."""
        from onnxruntime import InferenceSession

        return InferenceSession(self._packages / file, providers=["CPUExecutionProvider"])

    @functools.cached_property
    def _folder(self) -> Path:
        return self._packages / "sklearn" / "datasets" / "images"

    @functools.lru_cache(maxsize=1)  # noqa: B019  one object a run
    def _photographs(self) -> list[Any]:
        from PIL import Image

        return [Image.open(path).convert("RGB") for path in sorted(self._folder.glob("*.jpg"))]


@functools.cache
def _sentences() -> list[str]:
    return [line for line in _TEXTS.read_text(encoding="utf-8").splitlines() if line.strip()]


@functools.cache
def _files() -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    found = sorted(path for path in library.rglob("*") if path.suffix in (".py", ".so", ".txt"))
    return [path for path in found if 3_000 < path.stat().st_size < 5_000_000][::7]


@functools.cache
def _recording() -> Array:
    if shutil.which("espeak-ng") is None:
        raise NotHere("espeak-ng, which speaks (Debian: apt install espeak-ng)")
    parts: list[Array] = []
    for index, voice in enumerate(_VOICES):
        text = " ... ".join(_sentences()[index * 6 : index * 6 + 6])
        command = ["espeak-ng", "-v", voice, "-s", str(130 + 20 * index), "--stdout", text]
        spoken = subprocess.run(command, capture_output=True, check=True).stdout[44:]  # no header
        wave = np.frombuffer(spoken, np.int16).astype(np.float32) / 32768
        count = len(wave) * SAMPLE_RATE // 22_050
        parts += [
            np.interp(np.linspace(0, len(wave) - 1, count), np.arange(len(wave)), wave),
            _PAUSE,
        ]
    recording = np.concatenate(parts)
    hiss = np.random.default_rng(0).normal(0, 0.003, len(recording))
    return (recording + hiss).astype(np.float32)
