"""No file ends the process that loads it: another one opens it first."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")

import edgeq
from edgeq.core.errors import EdgeqError, InvalidInput
from edgeq.formats.gguf import trial
from tests.support.gguf_artifacts import WREN, write_file
from tests.support.gguf_mutants import GgufMutants

MUTANTS = 16
CASE = Path(__file__).parents[4] / "shared" / "cases" / "hostile" / "duplicate-or-range-1.gguf"

# Loads every file in a fork, as a user's process would, and prints how each ended.
HOST = """
import os, sys
import edgeq
from edgeq.core.errors import EdgeqError
import edgeq.formats.gguf.model
for path in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            model = edgeq.load(path, threads=1)
            list(model.generate("The bird", max_tokens=2))
            code = 0
        except EdgeqError:
            code = 2
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            code = 70
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

# Imported in the child alone: has it open a file for ever.
BUSY = """
import sys

def busy(frame, event, argument):
    while frame.f_code.co_name == "_use":
        pass

sys.setprofile(busy)
sys.path.remove(__file__.rpartition("/")[0])
del sys.modules["numpy"]
import numpy
"""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_file(WREN, tmp_path_factory.mktemp("gguf") / "wren.gguf", "Q4_0")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_no_mutant_ends_the_process_that_loads_it(good: Path, tmp_path: Path) -> None:
    mutants = GgufMutants(good)
    seeds = random.Random(15).sample(range(10**6), MUTANTS)
    paths = [tmp_path / f"{seed}.gguf" for seed in seeds]
    for seed, path in zip(seeds, paths, strict=True):
        path.write_bytes(mutants.mutant(seed))
    command = [sys.executable, "-c", HOST, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ended = dict(zip(seeds, done.stdout.split(), strict=True))
    assert {seed: code for seed, code in ended.items() if code not in ("0", "2")} == {}, done.stderr


def test_the_seen_case_is_refused_by_the_key_that_is_wrong() -> None:
    if not CASE.exists():
        pytest.skip(f"{CASE} is not here")
    with pytest.raises(InvalidInput, match=r"tokenizer\.ggml\.tokens: has a token twice"):
        edgeq.load(CASE)


def test_what_ends_the_other_process_is_said(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "numpy.py").write_text("import os\nos.abort()\n")  # in the child alone
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(InvalidInput, match="is killed by SIGABRT"):
        edgeq.load(good)


def test_a_file_that_keeps_the_processor_busy_is_refused_on_any_machine(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "numpy.py").write_text(BUSY)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(trial, "_SECONDS", 1.0)
    begun = os.times()
    with pytest.raises(InvalidInput, match=r"is killed by SIG(XCPU|KILL)"):
        edgeq.load(good)
    assert os.times().children_user - begun.children_user < 10


def test_a_file_is_tried_once_until_it_changes(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copyfile(good, tmp_path / "a.gguf"))
    started: list[Any] = []
    run = subprocess.run

    def counted(*arguments: Any, **options: Any) -> Any:
        started.append(arguments)
        return run(*arguments, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    edgeq.load(path)
    edgeq.load(path)
    assert len(started) == 1
    os.utime(path, ns=(0, 0))
    edgeq.load(path)
    assert len(started) == 2


def test_what_the_other_process_refuses_is_refused_in_its_words(good: Path, tmp_path: Path) -> None:
    content = good.read_bytes().replace(b"blk.0.attn_norm.weight", b"blk.0.attn_gorm.weight")
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(EdgeqError, match=r"attn_norm"):
        edgeq.load(tmp_path / "a.gguf")
