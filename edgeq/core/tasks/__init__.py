"""Every task by its name: edgeq's own and those of other packages."""

from __future__ import annotations

from edgeq.core.registry import Registry
from edgeq.core.tasks.image_classification import IMAGE_CLASSIFICATION
from edgeq.core.tasks.object_detection import OBJECT_DETECTION
from edgeq.core.tasks.reranking import RERANKING
from edgeq.core.tasks.sentence_embedding import SENTENCE_EMBEDDING
from edgeq.core.tasks.speech_recognition import SPEECH_RECOGNITION
from edgeq.core.tasks.task import FirstRecipe, Takes, Task
from edgeq.core.tasks.tensor import TENSOR
from edgeq.core.tasks.text_classification import TEXT_CLASSIFICATION
from edgeq.core.tasks.text_generation import TEXT_GENERATION
from edgeq.core.tasks.token_classification import TOKEN_CLASSIFICATION

__all__ = [
    "IMAGE_CLASSIFICATION",
    "OBJECT_DETECTION",
    "RERANKING",
    "SENTENCE_EMBEDDING",
    "SPEECH_RECOGNITION",
    "TASKS",
    "TENSOR",
    "TEXT_CLASSIFICATION",
    "TEXT_GENERATION",
    "TOKEN_CLASSIFICATION",
    "FirstRecipe",
    "Takes",
    "Task",
    "register_task",
    "task_of",
]

TASKS: Registry[Task] = Registry(
    "task",
    "edgeq.tasks",
    Task,
    (
        SENTENCE_EMBEDDING,
        TEXT_CLASSIFICATION,
        TOKEN_CLASSIFICATION,
        RERANKING,
        TEXT_GENERATION,
        IMAGE_CLASSIFICATION,
        OBJECT_DETECTION,
        SPEECH_RECOGNITION,
        TENSOR,
    ),
)
register_task = TASKS.register


def task_of(name: str) -> Task:
    """The task of that name. Raises InvalidInput for an unknown one."""
    return TASKS.named(name)
