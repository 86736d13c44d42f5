"""Kinds of models that starters are written for, and a self-test's arrays as their inputs."""

from __future__ import annotations

import io
import json
from importlib import resources
from typing import Literal

import numpy as np

from edgeq.core.artifact import GGUF_FILE, MODEL_FILE, Artifact
from edgeq.core.tasks import task_of

Kind = Literal["encoder", "classifier", "arrays", "decoder", "gguf"]

INPUTS_FOLDER = "inputs"
DTYPES = frozenset(
    {
        *("float16", "float32", "float64", "bool"),
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    }
)
"""The dtypes that a starter for arrays takes, by numpy's names."""


def kind_of(artifact: Artifact) -> Kind | None:
    """The kind of an artifact's model; None if no starter runs it."""
    task = task_of(artifact.task)
    if task.generates and GGUF_FILE in artifact.files:
        return "gguf"
    if MODEL_FILE not in artifact.files or task.takes_files:
        return None
    if task.generates:
        # Angles that a text's length changes ask for its first part again.
        depends = any(value.name == "text_length" for value in artifact.inputs)
        return None if depends else "decoder"
    if task.embeds:
        return "encoder"
    if task.classifies:
        return "classifier"
    return "arrays" if task.takes_arrays else None


def dtypes_of(artifact: Artifact) -> frozenset[str]:
    """The dtypes of a model's inputs and outputs."""
    return frozenset(value.dtype for value in (*artifact.inputs, *artifact.outputs))


def source(language: str, name: str) -> bytes:
    """A file in the folder of a language, next to this module."""
    return (resources.files("edgeq.pipeline.starters") / language / name).read_bytes()


def unpacked(arrays: bytes) -> dict[str, bytes]:
    """The arrays of an `.npz` as bare bytes, and a table of them: nothing that needs numpy."""
    written: dict[str, bytes] = {}
    with np.load(io.BytesIO(arrays)) as values:
        for number, name in enumerate(values.files):
            written[f"{INPUTS_FOLDER}/{number}.bin"] = np.ascontiguousarray(values[name]).tobytes()
        table = {
            name: {
                "file": f"{number}.bin",
                "dtype": values[name].dtype.name,
                "shape": values[name].shape,
            }
            for number, name in enumerate(values.files)
        }
    written[f"{INPUTS_FOLDER}/inputs.json"] = json.dumps(table, indent=2).encode() + b"\n"
    return written
