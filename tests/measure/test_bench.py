"""What a check refuses before it measures anything, and what it says of where it measured."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")

from edgeq.core.errors import InvalidInput
from edgeq.measure.bench import Bench
from edgeq.measure.inputs import Evaluation
from edgeq.places.place import Here, Surroundings
from edgeq.recipe.budgets import Workload
from tests.support import samples
from tests.support.decoder_artifacts import WREN, decoder_artifact, float_graph
from tests.support.gguf_artifacts import gguf_artifact

TEXT = Path(__file__).parents[2] / "recipes" / "data" / "wren-evaluation.txt"


def bench(artifact: Path, evaluation: Evaluation, context: int, steps: list[str]) -> Bench:
    return Bench(
        artifact,
        evaluation,
        place=Here(),
        effort="quick",
        progress=steps.append,
        folder=artifact.parent,
        workload=Workload(context=context, prompt=8, generate=4),
    )


@pytest.fixture(scope="module", params=["gguf", "onnx"])
def artifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    if request.param == "gguf":
        return gguf_artifact(WREN, folder / "artifact")
    return decoder_artifact(WREN, float_graph(WREN, folder / "graph"), folder / "artifact")


@pytest.mark.parametrize(
    ("letters", "samples", "said"),
    [
        (100, None, "less than one window of 64"),
        (2000, 10**6, "windows of 64 tokens, 1000000 are requested"),
    ],
)
def test_a_text_that_is_too_short_is_refused_before_anything_is_run(
    artifact: Path, letters: int, samples: int | None, said: str, tmp_path: Path
) -> None:
    corpus, steps = tmp_path / "corpus.txt", list[str]()
    corpus.write_text(TEXT.read_text(encoding="utf-8")[:letters], encoding="utf-8")
    with pytest.raises(InvalidInput, match=said):
        bench(artifact, Evaluation(corpus, samples), 64, steps)
    assert steps == []


def test_a_context_that_is_too_large_ends_the_first_pass(artifact: Path) -> None:
    steps = list[str]()
    with pytest.raises(InvalidInput, match="2048 positions are requested"):
        bench(artifact, Evaluation(TEXT), 2048, steps)
    assert len(steps) == 1


class Older(Here):
    passes = frozenset(("memory",))

    def surroundings(self) -> Surroundings:
        return super().surroundings()._replace(warnings=("onnxruntime is 1.26.0 there",))


def test_another_version_of_a_runtime_is_among_the_conditions(tmp_path: Path) -> None:
    artifact = samples.sentence_artifact(tmp_path / "artifact")
    evaluation = tmp_path / "texts.txt"
    evaluation.write_text("a b\nc d\n", encoding="utf-8")
    seen, _ = Bench(
        artifact,
        Evaluation(evaluation),
        place=Older(),
        effort="quick",
        progress=lambda step: None,
        folder=tmp_path,
        workload=Workload(),
    ).measure(artifact)
    assert seen.memory is not None
    assert seen.memory.conditions.warnings == ("onnxruntime is 1.26.0 there",)
