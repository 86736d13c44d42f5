"""`edgeq report` of a real language model: built, measured, written, bundled and written again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq.report.explain.measured import facts_of
from edgeq.report.explain.piece import Piece, write
from edgeq.report.explain.rules import problems
from edgeq.report.page.record import Report, read_report
from tests.support.commands import run_edgeq

for _package in ("gguf", "xllamacpp", "jinja2", "vl_convert"):
    pytest.importorskip(_package, reason="the extras [gguf,report] are not installed")
ROOT = Path(__file__).parents[2]
RECIPE = """
edgeq: 1
name: wren
model: {source: ./wren, task: text-generation, licence: apache-2.0}
data: {evaluation: {path: evaluation.txt}}
quantize: {default: int8}
targets: [{format: gguf, devices: [here]}]
workload: {context: 32, prompt: 8, generate: 2}
budgets: {size: {download: 7 MiB}, quality: {kl: 0.05}}
"""


@dataclass(frozen=True)
class Made:
    """A folder with a recipe, its store and the page of its artifact."""

    folder: Path
    store: Path

    @property
    def page(self) -> Path:
        return self.folder / "report.html"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(ROOT / "recipes" / "wren", folder / "wren")
    text = (ROOT / "recipes" / "data" / "wren-evaluation.txt").read_text(encoding="utf-8")
    (folder / "evaluation.txt").write_text(text[:3000], encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    store = tmp_path_factory.mktemp("store")
    done = run_edgeq("report", "recipe.yaml", "-o", "report.html", store=store, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "report.html: " in done.stdout
    return Made(folder, store)


def test_the_page_holds_what_was_measured(made: Made) -> None:
    report = read_report(made.page)
    assert [artifact.record.name for artifact in report.artifacts] == ["gguf-int8-b32"]
    assert report.command == "edgeq report recipe.yaml --out report.html"
    for measured, baseline in report.measurements():
        assert measured.language is not None
        assert measured.generation is not None
        assert baseline.generation is not None
        found = measured.language.divergence
        assert found.histogram is not None
        assert found.histogram.below + sum(found.histogram.counts) == found.tokens
        assert [place.kl for place in found.worst] == sorted(
            (place.kl for place in found.worst), reverse=True
        )
        assert found.worst[0].kl == found.kl.max
        for place in found.worst:
            assert sum(c.reference for c in place.candidates) <= 1 + 1e-9
            assert place.follows in [c.text for c in place.candidates]
    text = made.page.read_text(encoding="utf-8")
    for artifact in report.artifacts:
        assert artifact.sha256 in text
        assert all(file.sha256 in text for file in artifact.record.files.values())


def test_a_real_report_is_explained_by_the_rules(made: Made) -> None:
    written = write(facts_of(read_report(made.page)))
    assert problems(written) == []
    done = run_edgeq("explain", "report.html", "--json", store=made.store, cwd=made.folder)
    assert done.returncode == 0, done.stderr
    assert Piece.model_validate_json(done.stdout) == written.piece


def test_what_was_measured_is_not_measured_again(made: Made) -> None:
    done = run_edgeq("report", "recipe.yaml", "--json", store=made.store, cwd=made.folder)
    assert done.returncode == 0, done.stderr
    assert Report.model_validate_json(done.stdout) == read_report(made.page)


def test_a_bundle_tells_what_was_seen_when_it_was_made(made: Made) -> None:
    arguments = ("recipe.yaml", "--out", "wren.zip")
    done = run_edgeq("bundle", *arguments, store=made.store, cwd=made.folder)
    assert done.returncode == 0, done.stderr
    done = run_edgeq("report", "wren.zip", "-o", "bundle.html", store=made.store, cwd=made.folder)
    assert done.returncode == 0, done.stderr
    own = read_report(made.folder / "bundle.html")
    whole = read_report(made.page)
    assert own.verdicts == whole.verdicts
    assert own.artifacts[0].sha256 == whole.artifacts[0].sha256
    assert own.recipe == RECIPE
    # `here` was that machine, whose profile no bundle holds.
    assert own.devices[0].chip is None
    assert own.devices[0].limits == whole.devices[0].limits[:1]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["recipe.yaml"], 2, ["--out", "--json"]),
        (["recipe.yaml", "-o", "nowhere/report.html"], 2, ["nowhere"]),
        (["recipe.yaml", "-o", "report.html", "--device", "no-such"], 2, ["no-such"]),
        (["missing.yaml", "-o", "report.html"], 2, ["missing.yaml"]),
    ],
)
def test_what_cannot_be_reported(
    made: Made, arguments: list[str], status: int, words: list[str]
) -> None:
    before = made.page.read_bytes()
    done = run_edgeq("report", *arguments, store=made.store, cwd=made.folder)
    assert done.returncode == status
    assert all(word in done.stderr for word in words)
    assert made.page.read_bytes() == before
    assert not list(made.folder.glob(".*partial"))
