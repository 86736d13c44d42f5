"""What `architectures` in config.json says a model was trained for, against what a recipe asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeq.core.errors import InvalidInput, Problem

# By the end of the class's name, in transformers' words; the first that fits.
_TASKS = (
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForNextSentencePrediction", "next-sentence-prediction"),
    ("ForConditionalGeneration", "sequence-to-sequence generation"),
    ("ForImageClassification", "image-classification"),
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("ForMaskedLM", "sentence-embedding"),  # its body is what sentence encoders are made of
    ("ForPreTraining", "sentence-embedding"),
    ("Model", "sentence-embedding"),
)
_HEADS = ("classifier.", "pre_classifier.", "qa_outputs.", "score.", "classification_head.")


def check_task(
    config: Mapping[str, Any],
    names: Mapping[str, Any],
    task: str,
    where: str,
    has_modules: bool,
) -> None:
    """Raise InvalidInput where the model is one of another task than the recipe's.

    names: of its weights. has_modules: whether sentence-transformers' files say what it is, which
    then goes before what its weights were once trained for.
    """
    if has_modules and task == "sentence-embedding":
        return
    stated = config.get("architectures") or []
    for name in stated if isinstance(stated, list) else [stated]:
        found = next((own for end, own in _TASKS if str(name).endswith(end)), None)
        if found != task:
            what = f"the model is a {name}: its task is {found or 'none that edgeq knows'}"
            raise InvalidInput(Problem(where, f"{what}, not {task}", _remedy(found)))
    head = next((name for name in names if name.startswith(_HEADS)), None)
    if head is not None:
        what = f"the model has {head}, the head of another task than {task}"
        raise InvalidInput(Problem(where, what, _remedy("text-classification")))


def _remedy(found: str | None) -> str:
    if found in ("sentence-embedding", "text-generation"):
        return f"write 'task: {found}', or name another model"
    return "export it to ONNX and name the .onnx file, with 'task: tensor', or name another model"
