"""Any .onnx file: arrays in, arrays out."""

from __future__ import annotations

from edgeq.core.tasks.task import FirstRecipe, Task

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
    first_recipe=FirstRecipe(
        formats=("onnx",),
        calibration=("calibration.npz", "an array for each input, with a sample in each row"),
        evaluation=("evaluation.npz", "other samples, in the same form"),
        budgets=("latency: {p90: 100 ms}", "quality: {error: 0.05}"),
        otherwise=("int8-static",),  # convolutions: other 8 bits are slower than float there
    ),
)
