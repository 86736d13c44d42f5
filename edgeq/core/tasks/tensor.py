"""Whatever an .onnx file does: arrays in, arrays out."""

from __future__ import annotations

from edgeq.core.tasks.task import Task

TENSOR = Task(
    name="tensor",
    noun="a model of arrays",
    summary="any .onnx, arrays to arrays.",
    explanation="a model that turns given numbers into others, such as an image into its subject",
    consequence="The check compares its answers with the original's on the evaluation data. That "
    "matters most where close calls are common.",
    takes="arrays",
    verb="run",
    budgets=("latency.p50", "latency.p90", "quality.error", "quality.top1"),
)
