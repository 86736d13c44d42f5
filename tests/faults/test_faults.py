"""A short run of every campaign of `nox -s faults`, and that campaigns see what breaks."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("onnx_ir", reason="the build side is not installed")
pytest.importorskip("asyncssh", reason="the extra 'ssh' is not installed")
pytest.importorskip("jinja2", reason="the extra 'chat' is not installed")
pytest.importorskip("model_signing", reason="the extra 'signing' is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")

import edgeq
from tests.faults import commands, mutants
from tests.faults.campaign import Campaign, Log, Run, carry_out, table, write_table
from tests.faults.files import KINDS, nobody_opens
from tests.support import hostile_bundles, samples
from tests.support.bundles import unchecked_bundle

SHORT = [each for each in (*mutants.campaigns(), *commands.campaigns()) if each.short]


@pytest.mark.parametrize("campaign", SHORT, ids=[each.title for each in SHORT])
def test_nothing_breaks(campaign: Campaign, tmp_path: Path) -> None:
    runs = list(itertools.islice(campaign.run(range(campaign.short), tmp_path), campaign.short))
    assert [run for run in runs if run.broken] == []
    assert [run.seed for run in runs] == list(range(campaign.short))


def test_every_kind_of_file_has_mutants_that_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name, kind in KINDS.items():
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        mutate = kind.mutants(folder)
        made = [mutate(seed) for seed in range(20)]
        assert [mutate(seed) for seed in range(20)] == made
        assert len(set(made)) > 15, name


def test_what_breaks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "file"
    folder.touch()

    def ends(_: Path) -> None:
        raise ZeroDivisionError

    assert "ZeroDivisionError" in mutants._read(ends, folder)
    assert mutants._read(lambda path: None, folder) == ""
    monkeypatch.setattr(mutants, "LONGEST_SECONDS", 1)
    assert "more than 1 s" in mutants._read(lambda path: [None for _ in itertools.count()], folder)


def test_opening_a_file_outside_is_seen_and_a_forgery_itself_is_not_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.touch()
    with nobody_opens(outside):
        outside.stat()
    with pytest.raises(RuntimeError, match="was opened"), nobody_opens(outside):
        outside.read_bytes()
    bundle = unchecked_bundle(samples.tensor_artifact(tmp_path / "a", width=16), tmp_path / "b.zip")
    plain = hostile_bundles.with_record(bundle, tmp_path / "plain.zip", lambda record: None)
    assert edgeq.load(plain).artifact


def test_a_campaign_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    tried: list[int] = []

    def run(seeds: Iterable[int], folder: Path) -> Iterator[Run]:
        for seed in seeds:
            tried.append(seed)
            yield Run(seed, "broken" if seed == 2 else "", 0.5)

    campaign, log = Campaign("trials", "nothing", run, 1, 4), tmp_path / "log.jsonl"
    said: list[str] = []
    carry_out(campaign, Log(log), tmp_path, 0.0, said.append)
    assert tried == [0]
    carry_out(campaign, Log(log), tmp_path, 60.0, said.append)
    assert (tried, said) == ([0, 1, 2, 3], ["trials, seed 2: broken"])
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- faults: begin -->\nformer\n<!-- faults: end -->\nafter\n")
    write_table(page, table([campaign], Log(log).runs))
    assert "| trials | 4 | nothing | 1 | 0.5 s |" in page.read_text()
    assert "former" not in page.read_text() and page.read_text().endswith("after\n")


def test_a_process_that_is_ended_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ending = [sys.executable, "-c", "import os; os.abort()"]

    def start(name: str, seeds: list[int], folder: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(ending, stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(mutants, "_start", start)
    found = list(mutants.run_mutants("arrays", [5, 6], tmp_path))
    assert [(run.seed, run.broken) for run in found] == [
        (5, "its process ended with -6"),
        (6, "its process ended with -6"),
    ]
