"""The first recipes of a speech recogniser of two parts: Whisper, as optimum exports it."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeq.core.audio import AudioSettings, DecodingSettings, MelSettings
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.files import write_text
from edgeq.core.frozen import Frozen
from edgeq.core.yamlfile import yaml_word
from edgeq.models.jsonfile import read_json, read_optional

_ENCODER, _FIRST, _LATER = (
    "encoder_model.onnx",
    "decoder_model.onnx",
    "decoder_with_past_model.onnx",
)
_EXTRACTOR, _GENERATION = "preprocessor_config.json", "generation_config.json"
_LANGUAGE, _TASK = "<|en|>", "transcribe"
# Settings that change an answer, and the values under which they do not.
_WITHOUT_EFFECT: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    _EXTRACTOR: {
        "feature_extractor_type": ("WhisperFeatureExtractor",),
        "padding_value": (0, None),
        "padding_side": ("right", None),
        "dither": (0, None),
        "do_normalize": (False, None),
    },
    _GENERATION: {
        "num_beams": (1, None),
        "do_sample": (False, None),
        "return_timestamps": (False, None),
        "repetition_penalty": (1, None),
        "no_repeat_ngram_size": (0, None),
        "language": (_LANGUAGE, "en", "english", None),
        "task": (_TASK, None),
    },
}
# Settings that are read, follow from others, or change no answer of this decoding.
_KNOWN: Mapping[str, frozenset[str]] = {
    _EXTRACTOR: frozenset(
        (
            *("feature_size", "n_fft", "hop_length", "sampling_rate", "chunk_length"),
            *("n_samples", "nb_max_frames", "processor_class", "return_attention_mask"),
        )
    ),
    _GENERATION: frozenset(
        (
            *("decoder_start_token_id", "eos_token_id", "lang_to_id", "task_to_id", "max_length"),
            *("is_multilingual", "no_timestamps_token_id", "suppress_tokens"),
            *(
                "forced_decoder_ids",
                "begin_suppress_tokens",
                "bos_token_id",
                "pad_token_id",
                "prev_sot_token_id",
            ),
            *("alignment_heads", "max_initial_timestamp_index", "temperature", "top_k", "top_p"),
            *("use_cache", "transformers_version", "_from_model_config"),
        )
    ),
}


def is_whisper(folder: Path) -> bool:
    """Whether a directory holds Whisper, exported or not."""
    return read_optional(folder / "config.json").get("model_type") == "whisper"


def is_exported(folder: Path) -> bool:
    """Whether a directory has all of what optimum makes of Whisper, with a cache."""
    names = (_ENCODER, _FIRST, _LATER, _EXTRACTOR, _GENERATION)
    return is_whisper(folder) and all((folder / name).is_file() for name in names)


class Whisper(Frozen):
    """What the files of an exported Whisper say."""

    audio: AudioSettings
    decoding: DecodingSettings
    language: str


def read_whisper(folder: Path) -> Whisper:
    """Raises InvalidInput for a directory that was not exported, and settings without support."""
    missing = [name for name in (_ENCODER, _FIRST, _LATER) if not (folder / name).is_file()]
    if missing:
        what = f"has no {', '.join(missing)}"
        remedy = (
            f"optimum-cli export onnx --model {folder} --task "
            f"automatic-speech-recognition-with-past {folder.name}-onnx"
        )
        raise InvalidInput(Problem(str(folder), what, remedy))
    given = {name: read_json(folder / name, str(folder / name)) for name in _WITHOUT_EFFECT}
    for name, known in _WITHOUT_EFFECT.items():
        for key, allowed in known.items():
            if (value := given[name].get(key)) not in allowed:
                what = f"{key} is {value!r}, and edgeq supports {allowed[0]!r} only"
                raise InvalidInput(Problem(str(folder / name), what, "change it and check quality"))
        unknown = sorted(given[name].keys() - known.keys() - _KNOWN[name])
        if unknown:
            what = f"edgeq does not know what {unknown[0]!r} does to an answer"
            remedy = "remove it, if the model answers the same without it"
            raise InvalidInput(Problem(str(folder / name), what, remedy))
    try:
        audio, decoding = _audio(given[_EXTRACTOR]), _decoding(given[_GENERATION], folder)
    except (KeyError, TypeError, ValueError) as error:
        what = f"lack a setting or have an impossible one: {str(error)[:200]}"
        remedy = "export the model again"
        raise InvalidInput(Problem(f"{folder}/{_EXTRACTOR}, {_GENERATION}", what, remedy)) from None
    language = _LANGUAGE if _is_multilingual(given[_GENERATION]) else ""
    return Whisper(audio=audio, decoding=decoding, language=language)


def _audio(given: Mapping[str, Any]) -> AudioSettings:
    mel = MelSettings(
        bins=given["feature_size"],
        window=given.get("n_fft", 400),
        hop=given.get("hop_length", 160),
    )
    return AudioSettings(
        rate=given["sampling_rate"], seconds=given.get("chunk_length", 30), mel=mel
    )


def _decoding(given: Mapping[str, Any], folder: Path) -> DecodingSettings:
    prompt = [given["decoder_start_token_id"]]
    if _is_multilingual(given):
        prompt += [given["lang_to_id"][_LANGUAGE], given["task_to_id"][_TASK]]
    prompt.append(given["no_timestamps_token_id"])
    for place, token in given.get("forced_decoder_ids") or ():
        if token is not None and [token] != prompt[place : place + 1]:
            what = f"forced_decoder_ids puts {token} at {place}, and the prompt is {prompt}"
            raise InvalidInput(Problem(str(folder / _GENERATION), what, "remove it"))
    tidy = read_optional(folder / "tokenizer_config.json").get("clean_up_tokenization_spaces")
    return DecodingSettings(
        prompt=tuple(prompt),
        end=given["eos_token_id"],
        suppress=tuple(given.get("suppress_tokens") or ()),
        suppress_first=tuple(given.get("begin_suppress_tokens") or ()),
        length=given["max_length"],
        tidy=bool(tidy),
    )


def _is_multilingual(given: Mapping[str, Any]) -> bool:
    return bool(given.get("is_multilingual"))


def write_parts(
    folder: Path, out: Path, name: str, licence: str | None, targets: Sequence[str]
) -> dict[str, Path]:
    """Write the recipes of encoder and decoder next to `out`, and the encoder; returns the recipes.

    Raises InvalidInput if one of the files is there already.
    """
    from edgeq.models.graphs.joined_encoder import write_joined

    files = {
        "encoder": out.with_name(f"{out.stem}-encoder.onnx"),
        "decoder": folder / _LATER,
    }
    recipes = {part: out.with_name(f"{out.stem}-{part}.yaml") for part in files}
    for path in (*recipes.values(), files["encoder"]):
        if path.exists():
            raise InvalidInput(Problem(str(path), "is there already", "name another with --out"))
    write_joined(folder / _ENCODER, folder / _FIRST, files["encoder"])
    for part, recipe in recipes.items():
        lines = [
            "edgeq: 1",
            f"name: {name}-{part}",
            "model:",
            f"  source: {yaml_word(from_base(files[part], out.parent))}",
            "  task: tensor",
            f"  licence: {yaml_word(licence)}" if licence else "  # licence: apache-2.0",
            "quantize:",
            "  default: [int8]  # quality is judged with the other part",
            *targets,
            "",
        ]
        write_text(recipe, "\n".join(lines))
    return recipes


def whole_text(
    name: str,
    whisper: Whisper,
    recipes: Mapping[str, Path],
    folder: Path,
    base: Path,
    evaluation: Path,
    budgets: Sequence[str],
) -> str:
    """The recipe of both parts, in the directory `base`."""
    audio = whisper.audio.model_dump(mode="json", exclude_defaults=True)
    lines = [
        "# A first recipe: everything in it is yours to change.",
        "edgeq: 1",
        f"name: {name}",
        "",
        "# Both models ship in one bundle, and are judged together.",
        "parts:",
        *(f"  {part}: {yaml_word(from_base(path, base))}" for part, path in recipes.items()),
        "",
        "# How a recording becomes the input, and the decoder writes a text.",
        "speech:",
        f"  tokenizer: {yaml_word(from_base(folder, base))}",
        f"  audio: {json.dumps(audio)}",
        "  decoding:",
        *_decoding_lines(whisper),
        "",
        "# Quality is judged on a directory of .wav files. What is said in them, if known, is in",
        "# transcripts.tsv there, with the columns file and text.",
        f"data: {{evaluation: {{path: {yaml_word(from_base(evaluation, base))}}}}}",
        "",
        *budgets,
        "",
    ]
    return "\n".join(lines)


def _decoding_lines(whisper: Whisper) -> Iterator[str]:
    for key, value in whisper.decoding.model_dump(mode="json").items():
        if key == "prompt" and whisper.language:
            yield f"    # {whisper.language}; other languages: lang_to_id in {_GENERATION}"
        yield from textwrap.wrap(
            f"{key}: {json.dumps(value)}", 96, initial_indent="    ", subsequent_indent="      "
        )


def from_base(path: Path, base: Path) -> str:
    """A path as a recipe in `base` has it."""
    found = Path(os.path.relpath(path, base)).as_posix()
    return found if found.startswith("..") else f"./{found}"
