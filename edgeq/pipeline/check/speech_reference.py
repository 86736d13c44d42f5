"""The reference of a speech recogniser of two parts: its own library's texts, recorded once."""

from __future__ import annotations

import importlib.metadata
from importlib.util import find_spec
from pathlib import Path

from edgeq.core import canonical
from edgeq.core.store import Store
from edgeq.core.terms import Progress
from edgeq.measure.inputs import Evaluation
from edgeq.models.original.network import is_installed
from edgeq.pipeline.first_whisper import is_exported
from edgeq.pipeline.proof.original import run_original
from edgeq.pipeline.proof.request import SpeechRequest
from edgeq.recipe.parts import SpeechSpec

_PACKAGES = ("transformers", "torch", "optimum", "optimum-onnx", "onnxruntime")


def speech_versions(directory: Path) -> dict[str, str]:
    """Versions of what runs the recogniser in a directory; empty if it cannot be run."""
    is_able = is_installed() and find_spec("optimum") and find_spec("optimum.onnxruntime")
    if not (is_able and is_exported(directory)):
        return {}
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def speech_answers(
    speech: SpeechSpec, base: Path, store: Store, progress: Progress, evaluation: Evaluation
) -> Path:
    """Recorded texts of the recordings. base: of the path in `speech`.

    Raises InvalidInput if the original cannot run, or decodes otherwise than the recipe says.
    """
    directory = (base / speech.tokenizer).absolute()
    files = {
        each.name: canonical.sha256_of_file(each) for each in directory.iterdir() if each.is_file()
    }
    key = {
        "files": files,
        "recordings": canonical.sha256_of_file(evaluation.arrays),
        "speech": speech.model_dump(mode="json", exclude={"tokenizer"}),
        "by": speech_versions(directory),
    }

    def make(destination: Path) -> None:
        progress("run the original on the evaluation data")
        request = SpeechRequest(
            directory=directory,
            arrays=evaluation.arrays.absolute(),
            outputs=destination.absolute(),
            prompt=speech.decoding.prompt,
            audio=speech.audio,
        )
        run_original(request)

    return store.stage("reference", key, make, describe=directory.name)
