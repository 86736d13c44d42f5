"""Speech recognisers: a recording becomes the text that is spoken in it."""

from __future__ import annotations

from edgeq.core.tasks.task import FirstRecipe, Task

SPEECH_RECOGNITION = Task(
    name="speech-recognition",
    noun="a speech recogniser",
    summary="a recording to its text.",
    explanation="a speech recogniser: it writes down what is said in a recording",
    consequence="The check counts the words that are recognised otherwise. That matters for names "
    "and numbers, and where a word is a command; less where a person reads along.",
    takes="audio",
    transcribes=True,
    architectures=("ForCTC",),
    optimum_task="automatic-speech-recognition",
    verb="transcribe",
    metrics=("agreement", "wer", "wer_rise"),
    agreement="of the words are those that the original writes",
    first_recipe=FirstRecipe(
        formats=("onnx",),
        calibration=("calibration", "a directory with a hundred or more .wav files of your app"),
        evaluation=(
            "evaluation",
            "a directory with forty or more .wav files that are used for nothing else, and their "
            "texts in transcripts.tsv if known",
        ),
        budgets=("latency: {p90: 1 s}", "quality: {agreement: 0.90}"),
        otherwise=("int8-static",),  # nets of convolutions
    ),
    budgets=("latency.p50", "latency.p90", "quality.agreement", "quality.wer_rise"),
)
