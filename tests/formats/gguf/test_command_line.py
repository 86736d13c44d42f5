"""`edgeq run` of a language model in a GGUF file."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")


from tests.support.commands import Done, run_edgeq
from tests.support.gguf_artifacts import WREN, load, write_file
from tests.support.terminal import edgeq_in_terminal

REPOSITORY = Path(__file__).parents[3]


def edgeq_run(*arguments: str | Path) -> Done:
    return run_edgeq("run", *arguments, store=REPOSITORY / "none", cwd=REPOSITORY)


def test_the_command_line_continues_a_prompt(small: Path) -> None:
    model = load(small, threads=1)
    done = edgeq_run(small, "--prompt", "Once upon a time", "--max-tokens", "12")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(model.generate("Once upon a time", 12)) + "\n"
    assert done.stderr == ""  # nothing but the text where no person reads it
    done = edgeq_run(small, "--prompt", "Once", "--temperature", "1", "--seed", "4", "--json")
    answer = json.loads(done.stdout)
    assert answer["text"] == "".join(model.generate("Once", temperature=1, seed=4))
    assert answer["tokens"] <= 128 and answer["prompt_tokens"] == len(model.tokens("Once"))


def test_a_short_context_is_filled_and_a_typed_number_that_exceeds_it_refused(
    tmp_path: Path,
) -> None:
    source = shutil.copytree(WREN, tmp_path / "short", copy_function=shutil.copyfile)
    config = json.loads((WREN / "config.json").read_bytes())
    (source / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    file = write_file(source, tmp_path / "short.gguf")
    answer = json.loads(edgeq_run(file, "--prompt", "Once upon a time", "--json").stdout)
    assert answer["text"] == "".join(load(file).generate("Once upon a time", answer["tokens"]))
    assert answer["prompt_tokens"] + answer["tokens"] == 64
    done = edgeq_run(file, "--prompt", "Once upon a time", "--max-tokens", "64")
    assert done.returncode == 2 and "and 64 more exceed the 64 positions" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal on Windows")
def test_a_terminal_gets_the_speed_too(small: Path) -> None:
    arguments = ("run", small, "--prompt", "Once upon a time", "--max-tokens", "12")
    shown = " ".join(edgeq_in_terminal(*arguments, cwd=REPOSITORY, NO_COLOR="1").split())
    assert " ".join("".join(load(small).generate("Once upon a time", 12)).split()) in shown
    assert re.search(r"\d+ prompt tokens at [\d.]+ tok/s, first token after [\d.]+ ms", shown)
    assert re.search(r"11 more at [\d.]+ tok/s \(measured here\)", shown)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["a sentence"], "is a language model, which continues a text"),
        (["--prompt", "a", "--max-tokens", "2000"], "exceed the 1024 positions"),
        (["--prompt", "a", "b"], "cannot be combined with sentences"),
        (["--seed", "3"], "are for --prompt only"),
        ([], "--prompt"),
        (["--prompt", ""], "prompt: is empty"),
        (["--prompt", "a", "--seed", "-8"], "seed: -8"),
    ],
)
def test_the_command_line_says_what_to_type(arguments: list[str], named: str, small: Path) -> None:
    done = edgeq_run(small, *arguments)
    assert done.returncode == 2
    assert named in done.stderr
