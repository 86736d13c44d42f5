"""How far a GGUF file is from its reference, and the process that measures it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the gguf package is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")


from edgeq.formats.gguf.header import MetaValue, read_header
from edgeq.measure.divergence import summarise
from edgeq.measure.scoring import Scores
from edgeq.pipeline.audit import child, runs
from edgeq.pipeline.audit.claims import judge_claim
from edgeq.pipeline.audit.records import Finding, Outcome
from edgeq.pipeline.audit.run import audit
from edgeq.pipeline.audit.verdict import judge_quality, sentence
from edgeq.pipeline.compare.compare import Comparison, Side
from edgeq.report.audit import print_audit
from edgeq.report.console import Console
from tests.support.audited import TEXT, WREN, changed
from tests.support.table_model import Table


def comparison(kl: float) -> Comparison:
    """A comparison whose every token has this divergence."""
    same = np.full(10, kl)
    scores = Scores(same, same + 3, same + 3, same * 0, same * 0 + 1)
    side = Side(path="x", runtime="r", threads=1)
    found = summarise([scores, scores], 22, (0.0, 0.0))
    return Comparison(**dict(found), a=side, b=side, text="t", windows_in_text=2)


def test_a_distance_no_rounding_explains(good: Path) -> None:
    claim, _, _ = judge_claim(good, read_header(good))
    assert not judge_quality(comparison(0.12), claim)
    (finding,) = judge_quality(comparison(0.13), claim)
    assert finding.matters and "over 0.125; 0.0313 were published for Q4_K_M" in finding.what
    for mix, bits, most in (
        ("Q8_0", 8.5, 0.015),
        ("IQ4_XS", 4.3, 0.15),
        (None, 4.0, 0.15),
        ("F16", 16.0, 0.015),
        ("IQ3_S", 3.4, None),
    ):
        other = claim.model_copy(update={"mix": mix, "bits_per_weight": bits})
        assert not judge_quality(comparison(0.99 * (most or 1)), other)
        assert bool(judge_quality(comparison(1.01 * (most or 1)), other)) is (most is not None)


def test_one_finding_matters_and_two_matter(good: Path) -> None:
    claim, _, _ = judge_claim(good, read_header(good))
    none = Outcome(how="not run", passed=None, detail="")
    finding = Finding(subject="name", matters=True, what="wrong")
    said = [sentence(claim, [finding] * count, none, none, None) for count in (1, 2, 3)]
    assert said == [
        "Not sound: wrong.",
        "Not sound: wrong (and 1 more finding that matters).",
        "Not sound: wrong (and 2 more findings that matter).",
    ]


def test_a_reference_writes_its_own_text() -> None:
    model = Table(ends=frozenset({3}))
    model.tokens = lambda text, special=True: [1]  # type: ignore[method-assign]
    text = child.own_text(model, 200)
    assert 100 < len(text) <= 400
    assert text == child.own_text(model, 200)


def test_quality_on_a_text_of_the_reference_s_own(good: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the build side is not installed")
    pytest.importorskip("transformers", reason="the build side is not installed")
    text = tmp_path / "text"
    asked = {"file": good, "reference": WREN, "text": text, "window": 32, "windows": 3}
    found = child.quality(child.Request(work="quality", write_text=True, **asked))
    assert Comparison.model_validate(found).windows == 3
    assert 60 < len(text.read_text(encoding="utf-8").split()) < 120


def test_without_torch_the_divergence_is_not_run(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch shadowed by a module that cannot be imported."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch', name='torch')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = shutil.copyfile(good, tmp_path / "wren-Q4_K_M.gguf")
    found = audit(path, WREN, TEXT)
    assert found.sound and found.quality is None
    assert found.quality_not_run is not None
    assert found.quality_not_run.startswith("torch: not installed; it is required to run a Hugging")
    assert 'pip install ".[build]"' in found.quality_not_run
    console = Console(record=True, width=80)
    print_audit(found, console)
    assert '".[build]"' in console.export_text()
    assert found.tokenizer.passed


def test_a_model_of_a_short_context_is_opened(good: Path, tmp_path: Path) -> None:
    short = {"llama.context_length": MetaValue("uint32", 40)}
    assert audit(changed(good, tmp_path / "m-Q4_K_M.gguf", short)).loading.passed


# -- the child process


def test_a_crash_in_c_is_a_finding(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that kills its process: here by a module that does so when it is imported."""
    path = shutil.copyfile(good, tmp_path / "m-Q4_K_M.gguf")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "numpy.py").write_text("import os\nos.abort()\n")  # this process has its own
    found = audit(path)
    assert not found.sound
    assert found.loading.passed is False
    assert found.loading.detail == "the process that ran it was killed by SIGABRT"


def test_a_child_that_says_nothing_is_told(good: Path) -> None:
    request = child.Request(work="quality", file=good)
    with pytest.raises(runs.RunFailed, match=r"status 1: .*needs a reference and a text"):
        runs.ask(request, str)
