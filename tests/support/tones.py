"""A small recogniser of letters that are spoken as tones, as an .onnx file, and recordings."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LABELS = ("<pad>", "|", "a", "b", "c", "d")
RATE, SECONDS, WINDOW, STEP, FILTERS = 8000, 2, 160, 80, 16
TONES = {letter: 500 + 300 * index for index, letter in enumerate(LABELS[1:])}


def sentence(seed: int) -> str:
    """Two or three words."""
    rng = np.random.default_rng(seed)
    words = ("".join(rng.choice(list("abcd"), rng.integers(1, 3))) for _ in range(3))
    return " ".join([*words][: rng.integers(2, 4)])


def spoken(text: str, seed: int, rate: int = RATE, noise: float = 0.25) -> np.ndarray:
    """A tone of 100 ms for each letter and space, then silence of 50 ms; some are faint."""
    rng = np.random.default_rng(seed)
    time, parts = np.arange(rate // 10) / rate, []
    for letter in text.replace(" ", "|"):
        tone = rng.uniform(0.07, 0.5) * np.sin(2 * np.pi * TONES[letter] * time)
        parts += [tone, np.zeros(rate // 20)]
    samples = np.concatenate(parts)
    return np.asarray(samples + noise * 0.3 * rng.standard_normal(len(samples)))


def save_wav(path: Path, samples: np.ndarray, rate: int = RATE, width: int = 2) -> Path:
    """PCM samples, (samples[, channels]) from −1 to 1."""
    whole = np.round(np.clip(samples, -1, 1) * (2 ** (8 * width - 1) - 1)).astype("<i8")
    whole = whole + 128 if width == 1 else whole
    raw = whole.reshape(-1, 1).view(np.uint8)[:, :width].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(raw)
    return path


def save_recordings(folder: Path, seeds: range, *, transcribed: bool) -> Path:
    """WAV files, with transcripts.tsv if wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file\ttext"]
    for seed in seeds:
        save_wav(folder / f"{seed}.wav", spoken(sentence(seed), seed))
        lines.append(f"{seed}.wav\t{sentence(seed)}")
    if transcribed:
        (folder / "transcripts.tsv").write_text("\n".join(lines) + "\n")
    return folder


def save_recogniser(path: Path) -> Path:
    """The power at each tone, and its scores against the blank's: (1, frames, labels)."""
    rng = np.random.default_rng(0)
    bank = rng.normal(0, 0.01, (2 * FILTERS, 1, 2, WINDOW))
    time = np.arange(WINDOW) / RATE
    for index, tone in enumerate(TONES.values()):
        bank[2 * index, 0, 0] = np.cos(2 * np.pi * tone * time) * 2 / WINDOW
        bank[2 * index + 1, 0, 0] = np.sin(2 * np.pi * tone * time) * 2 / WINDOW
    bank[:, :, 1] = 1  # times zeros: int8 gets coarse steps, and errs
    scores = np.zeros((len(LABELS), 2 * FILTERS, 1, 1))
    for index in range(len(TONES)):
        scores[index + 1, 2 * index : 2 * index + 2] = 100
    bias = np.zeros(len(LABELS))
    bias[0] = 1.0
    constants = {
        "bank": bank.astype(np.float32),
        "scores": scores.astype(np.float32),
        "bias": bias.astype(np.float32),
        "planes": np.array([1, 2]),
        "row": np.array([2]),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["samples", "planes"], ["image"], "unsqueeze"),
        helper.make_node(
            "Conv", ["image", "bank"], ["a"], "conv1", strides=[1, STEP], pads=[0, 0, 1, 0]
        ),
        helper.make_node("Mul", ["a", "a"], ["b"], "power"),
        helper.make_node("Conv", ["b", "scores", "bias"], ["c"], "conv2"),
        helper.make_node("Squeeze", ["c", "row"], ["d"], "squeeze"),
        helper.make_node("Transpose", ["d"], ["logits"], "turn", perm=[0, 2, 1]),
    ]
    frames = (RATE * SECONDS - WINDOW) // STEP + 1
    graph = helper.make_graph(
        nodes,
        "tones",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, [1, RATE * SECONDS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, frames, len(LABELS)])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
