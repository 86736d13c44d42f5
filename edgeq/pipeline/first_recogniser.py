"""What a first recipe declares of a speech recogniser, from the files that came with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeq.core.artifact import ValueInfo
from edgeq.core.audio import AudioSettings, TranscriptionSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.jsonfile import read_json, read_optional

_EXTRACTOR, _VOCABULARY, _TOKENIZER = (
    "preprocessor_config.json",
    "vocab.json",
    "tokenizer_config.json",
)
_KNOWN = "Wav2Vec2FeatureExtractor"
_USUAL_SECONDS = 20.0
_USUAL = {"pad_token": "<pad>", "word_delimiter_token": "|"}  # of transformers' tokenizer
_UNSPOKEN = ("bos_token", "eos_token", "unk_token")


@dataclass(frozen=True)
class Speech:
    """labels: in the order of the output."""

    labels: tuple[str, ...]
    audio: AudioSettings
    transcription: TranscriptionSettings


def speech_of(path: Path, taken: ValueInfo, symbols: int | str) -> Speech:
    """Read transformers' files next to the .onnx file or one directory above.

    taken: the model's input. symbols: the output's last axis. Raises InvalidInput where they are
    missing or say what edgeq does not do.
    """
    folder = next(
        (each for each in (path.parent, path.parent.parent) if (each / _VOCABULARY).is_file()), None
    )
    if folder is None or not (folder / _EXTRACTOR).is_file():
        what = f"has no {_VOCABULARY} and {_EXTRACTOR} next to it, which say what its symbols are"
        raise InvalidInput(Problem(str(path), what, "copy them there, or write the recipe by hand"))
    given = read_json(folder / _EXTRACTOR, str(folder / _EXTRACTOR))
    kind = given.get("feature_extractor_type")
    if kind != _KNOWN:
        what = f"its feature_extractor_type is {kind!r}, and edgeq knows {_KNOWN}"
        raise InvalidInput(Problem(str(folder / _EXTRACTOR), what, "add --task tensor"))
    rate = given.get("sampling_rate", 16_000)
    length = taken.shape[-1] if taken.shape else None
    seconds = length / rate if isinstance(length, int) and isinstance(rate, int) else _USUAL_SECONDS
    audio = {"rate": rate, "seconds": seconds, "normalize": given.get("do_normalize", True)}
    return Speech(
        _labels(folder / _VOCABULARY, symbols),
        AudioSettings.model_validate(audio),
        _transcription(folder),
    )


def _labels(path: Path, symbols: int | str) -> tuple[str, ...]:
    numbers = read_json(path, str(path))
    labels = tuple(sorted(numbers, key=lambda name: str(numbers[name]).rjust(9)))
    if [numbers[name] for name in labels] != [*range(len(labels))] or symbols not in (
        len(labels),
        str(symbols),
    ):
        what = f"numbers {len(labels)} symbols, and the model has {symbols}"
        raise InvalidInput(Problem(str(path), what, "give each of the model's symbols its number"))
    return labels


def _transcription(folder: Path) -> TranscriptionSettings:
    stated = {**_USUAL, **read_optional(folder / _TOKENIZER)}

    def name(key: str) -> str | None:
        value = stated.get(key)
        return value.get("content") if isinstance(value, dict) else value

    known = set(read_json(folder / _VOCABULARY, str(folder / _VOCABULARY)))
    ignored = [label for label in map(name, _UNSPOKEN) if label in known]
    return TranscriptionSettings.model_validate(
        {"blank": name("pad_token"), "space": name("word_delimiter_token"), "ignore": ignored}
    )
