"""Classifiers of images: an image gets one of several labels, or some of them."""

from __future__ import annotations

from edgeq.core.tasks.task import FirstRecipe, Task

IMAGE_CLASSIFICATION = Task(
    name="image-classification",
    noun="an image classifier",
    summary="image to a label.",
    explanation="a classifier: it sorts images into categories, such as cat and dog",
    consequence="The check counts the images that get another label. That matters where a label "
    "decides by itself what happens; less where a person looks at what was sorted.",
    takes="images",
    classifies=True,
    architectures=("ForImageClassification", "ForImageClassificationWithTeacher"),
    auto_class="AutoModelForImageClassification",
    optimum_task="image-classification",
    verb="classify",
    metrics=("agreement", "accuracy", "accuracy_drop", "macro_f1", "f1_drop", "top5", "top5_drop"),
    first_recipe=FirstRecipe(
        formats=("onnx",),
        calibration=("calibration", "a directory with a hundred or more images of your app"),
        evaluation=(
            "evaluation",
            "a directory with two hundred or more others, in a subdirectory for each label",
        ),
        budgets=("latency: {p90: 100 ms}", "quality: {agreement: 0.98}"),
        quantize=("int8-static",),  # other 8 bits are slower than float in convolutions
    ),
    budgets=(
        *("latency.p50", "latency.p90"),
        *("quality.agreement", "quality.accuracy_drop", "quality.f1_drop", "quality.top5_drop"),
    ),
)
