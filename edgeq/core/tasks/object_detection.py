"""Detectors: an image becomes boxes around the objects in it, each with a label and a score."""

from __future__ import annotations

from edgeq.core.tasks.task import FirstRecipe, Task

OBJECT_DETECTION = Task(
    name="object-detection",
    noun="an object detector",
    summary="image to boxes with labels.",
    explanation="a detector: it finds objects in images, and draws a box around each",
    consequence="The check compares the boxes with the original's: their labels, their scores and "
    "how well they overlap. That matters where a box by itself decides what happens; less where a "
    "person looks at the image too.",
    takes="images",
    detects=True,
    architectures=("ForObjectDetection",),
    auto_class="AutoModelForObjectDetection",
    optimum_task="object-detection",
    verb="detect",
    metrics=("agreement", "map", "map_drop"),
    agreement="agreement with the original's boxes on {noun} (mAP; 100 % is identical)",
    first_recipe=FirstRecipe(
        formats=("onnx",),
        calibration=("calibration", "a directory with a hundred or more images of your app"),
        evaluation=(
            "evaluation",
            "a directory with others, and their boxes in annotations.json (COCO), if you have them",
        ),
        budgets=("latency: {p90: 100 ms}", "quality: {agreement: 0.80}"),
        quantize=("int8-static",),  # other 8 bits are slower than float in convolutions
    ),
    budgets=("latency.p50", "latency.p90", "quality.agreement", "quality.map_drop"),
)
