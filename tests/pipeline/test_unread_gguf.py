"""Recipes for GGUF files whose architecture edgeq does not read: llama.cpp alone computes them."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")

from edgeq.core.artifact import GGUF_FILE, read_record
from edgeq.core.errors import InvalidInput
from edgeq.core.store import Store
from edgeq.formats.gguf.header import read_header
from edgeq.formats.gguf.inside import importance_inside
from edgeq.formats.gguf.llama_model import LlamaModel
from edgeq.formats.gguf.moments import load_moments, moments_inside, save_moments
from edgeq.formats.gguf.writer import write_gguf
from edgeq.pipeline.allocate.whole_file import candidates, divergence
from edgeq.pipeline.build.build import Built, build
from edgeq.pipeline.plan.plan import Planned, make_plan
from edgeq.quantize.ggml.types import TYPES
from tests.support.commands import run_edgeq

TEXT = Path(__file__).parents[2] / "recipes" / "data" / "wren-calibration.txt"
RECIPE = """
edgeq: 1
name: file
model: {source: ./model.gguf, task: text-generation}
data: {calibration: {path: text.txt}, evaluation: {path: other.txt}}
quantize: QUANTIZE
targets: [{format: FORMAT, devices: [here]}]
workload: {context: 128, prompt: 64, generate: 16}
budgets: {quality: {kl: 5.0}}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EDGEQ_STORE", str(tmp_path / "store"))


def recipe(folder: Path, source: Path, quantize: str, format: str = "gguf") -> Path:
    (folder / "model.gguf").unlink(missing_ok=True)
    (folder / "model.gguf").symlink_to(source)
    text = TEXT.read_text(encoding="utf-8")
    (folder / "text.txt").write_text(text[:16000], encoding="utf-8")
    (folder / "other.txt").write_text(text[-12000:], encoding="utf-8")
    words = RECIPE.replace("QUANTIZE", quantize).replace("FORMAT", format)
    (folder / "recipe.yaml").write_text(words, encoding="utf-8")
    return folder / "recipe.yaml"


def built(planned: Planned) -> list[Built]:
    return build(planned, Store(), lambda step: None)


def lost(source: Path, artifact: Path) -> float:
    """The mean KL on text that nothing was calibrated on."""
    text = TEXT.read_text(encoding="utf-8")[-12000:]
    ids = LlamaModel(source, vocabulary_only=True).tokens(text, False)
    windows = [ids[start : start + 96] for start in range(0, 12 * 96, 96)]
    return divergence(source, artifact / GGUF_FILE, windows, 2).value


@pytest.mark.parametrize("kind", ["foreign", "mixture"])
def test_codes_for_its_inputs_lose_less_than_the_nearest(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source: Path = request.getfixturevalue(kind)
    words = "{default: [int4-b32, {weights: int4-b32, method: nearest}, Q3_K_M]}"
    planned = make_plan(recipe(tmp_path, source, words), weights=True)
    by_name = {each.artifact.variant: each.path for each in built(planned)}
    losses = {name: lost(source, path) for name, path in by_name.items()}
    assert losses["int4-b32"] < 0.9 * losses["int4-b32-nearest"]
    before, sizes = read_header(source), {a.variant.name: a for a in planned.plan.artifacts}
    for name, path in by_name.items():
        file = path / GGUF_FILE
        after, record = read_header(file), read_record(path)
        assert 0 <= file.stat().st_size - sizes[name].download_bytes < 512  # names a matrix
        for key in before.metadata.keys() - {"general.file_type"}:
            assert np.array_equal(np.asarray(after.get(key)), np.asarray(before.get(key)))
        for tensor, entry in after.tensors.items():
            assert record.tensors[tensor].bytes == entry.nbytes
            if entry.type is before.tensors[tensor].type:
                assert stored(file, tensor) == stored(source, tensor)
    experts = [name for name in before.tensors if "_exps" in name]
    used = read_record(by_name["int4-b32"]).tensors
    assert all(used[name].method == "gptq" for name in experts)


def stored(path: Path, name: str) -> bytes:
    entry = read_header(path).tensors[name]
    with path.open("rb") as file:
        file.seek(entry.offset)
        return file.read(entry.nbytes)


def test_moments_are_those_of_each_weights_own_inputs(mixture: Path) -> None:
    """Their diagonals are llama.cpp's importance, which its own tool gives too."""
    header = read_header(mixture)
    names = candidates(header)
    windows = [list(range(start, start + 48)) for start in (5, 200, 400)]
    wanted = importance_inside(mixture, names, windows, "text", 1, str)
    stacks = {name: header.tensors[name].shape for name in names}
    columns = {n: (shape[0] if len(shape) > 2 else 1, shape[-1]) for n, shape in stacks.items()}
    found = dict(moments_inside(mixture, columns, windows, 1, str))
    assert found.keys() == wanted.sums.keys()
    for name, moments in found.items():
        weights = np.atleast_2d(np.asarray(wanted.weights(name)))
        for expert, (own, power) in enumerate(zip(moments, weights, strict=True)):
            if own is None:
                assert np.atleast_1d(wanted.counts[name])[expert] == 0
            else:
                np.testing.assert_allclose(own.power, power, rtol=1e-4, atol=1e-7)
                assert np.abs(own.seen - np.diag(own.power)).max() > 0


def test_stored_moments_are_the_same(mixture: Path, tmp_path: Path) -> None:
    shapes = {name: each.shape for name, each in read_header(mixture).tensors.items()}
    columns = {
        name: (shape[0] if len(shape) > 2 else 1, shape[-1])
        for name, shape in shapes.items()
        if name.startswith("blk.1.") and len(shape) > 1
    }
    windows = [[5, 6], [5, 6]]
    found = dict(moments_inside(mixture, columns, windows, 1, str))
    assert any(None in moments for moments in found.values())
    save_moments(found.items(), tmp_path)
    wanted = list(found)[1:]
    read = dict(load_moments(tmp_path, wanted))
    assert list(read) == wanted
    for name, moments in read.items():
        for own, before in zip(moments, found[name], strict=True):
            assert (own is None) == (before is None)
            assert own is None or before is None or np.array_equal(own.seen, before.seen)
    shared = {id(found[name]) for name in wanted}
    assert len({id(moments) for moments in read.values()}) == len(shared) < len(wanted)


def test_a_budget_chooses_a_type_for_each_tensor(mixture: Path, tmp_path: Path) -> None:
    limit = mixture.stat().st_size // 7
    path = recipe(tmp_path, mixture, f"{{fit: {{size: {limit} B}}}}")
    (found,) = built(make_plan(path, weights=True))
    assert 0.9 * limit < found.artifact.bytes <= limit
    header = read_header(found.path / GGUF_FILE)
    types = {header.tensors[name].type.name for name in candidates(header)}
    assert len(types) > 1 and {"F32"}.isdisjoint(types)
    assert 0 < lost(mixture, found.path) < 1


def test_moments_are_collected_once_for_all_trials(mixture: Path, tmp_path: Path) -> None:
    limit = mixture.stat().st_size // 7
    steps: list[str] = []
    path = recipe(tmp_path, mixture, f"{{fit: {{size: {limit} B, method: gptq}}}}")
    (fitted,) = build(make_plan(path, weights=True), Store(), steps.append)
    assert len([step for step in steps if step.endswith("moments: pass 1 of 1, window 1")]) == 1
    assert "gptq" in {each.method for each in read_record(fitted.path).tensors.values()}


def test_what_is_as_small_already_is_not_rounded_again(foreign: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, foreign, "{default: Q4_0}")
    (first,) = built(make_plan(path, weights=True))
    coarse = first.path / GGUF_FILE
    planned = make_plan(recipe(tmp_path, coarse, "{default: [Q8_0, Q2_K]}"), weights=True)
    notes = [note for artifact in planned.plan.artifacts for note in artifact.advice]
    assert any("already quantized" in note for note in notes)
    same, smaller = built(planned)
    header = read_header(coarse)
    assert all(
        stored(same.path / GGUF_FILE, name) == stored(coarse, name) for name in header.tensors
    )
    tensors = read_header(smaller.path / GGUF_FILE).tensors
    assert tensors["blk.0.ffn_up.weight"].type is TYPES["Q2_K"]


@pytest.mark.parametrize(
    ("words", "format", "said"),
    [
        ("{default: int8-b32}", "onnx", "onnx cannot be made of this file: the architecture"),
        ("{default: {weights: int4-b32, recover: {rank: 4}}}", "gguf", "can be trained"),
        ("{default: {weights: int4-b32, method: learned}}", "gguf", "can be trained"),
    ],
)
def test_what_needs_a_graph_of_the_model_is_refused(
    words: str, format: str, said: str, foreign: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=said) as refused:
        make_plan(recipe(tmp_path, foreign, words, format))
    (problem,) = refused.value.problems
    assert "recipe.yaml:" in problem.where and problem.remedy


def test_not_a_number_is_refused(foreign: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    content = bytearray(foreign.read_bytes())
    at = read_header(foreign).tensors["blk.1.ffn_up.weight"].offset
    content[at : at + 4] = np.float32("nan").tobytes()
    broken.write_bytes(content)
    with pytest.raises(InvalidInput, match="NaN"):
        make_plan(recipe(tmp_path, broken, "{default: Q8_0}"))


def test_tokens_that_are_parts_of_characters_stay_as_they_are(
    foreign: Path, tmp_path: Path
) -> None:
    """In llama.cpp's kinds of vocabularies that edgeq does not write, tokens may be bytes."""
    header = read_header(foreign)
    key = "tokenizer.ggml.tokens"
    texts = [str(text) for text in header.get(key)]
    texts[-1] = "\udcff"  # the byte 0xFF, as a reader keeps it
    tokens = replace(header.metadata[key], value=texts)
    arrays = {
        name: np.fromfile(foreign, np.uint8, entry.nbytes, offset=entry.offset)
        for name, entry in header.tensors.items()
    }
    specs = [(name, entry.shape, entry.type) for name, entry in header.tensors.items()]
    odd = tmp_path / "odd.gguf"
    write_gguf(odd, header.metadata | {key: tokens}, specs, lambda name: iter([arrays[name]]))
    (artifact,) = built(make_plan(recipe(tmp_path, odd, "{default: [Q4_K_M]}"), weights=True))
    made = read_header(artifact.path / GGUF_FILE)
    assert [str(text) for text in made.get(key)] == texts


def test_it_is_checked_bundled_and_run_by_commands(
    mixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe(tmp_path, mixture, "{default: Q8_0}")
    monkeypatch.setenv("EDGEQ_COMPARE_CPUS", "none")
    run = partial(run_edgeq, store=tmp_path / "store", cwd=tmp_path)
    done = run("bundle", path, "--device", "here", "--out", "out.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "quality reference: llama.cpp" in " ".join(done.stdout.split())
    said = run("run", "out.zip", "--prompt", "the whale", "--max-tokens", "4")
    assert said.returncode == 0 and said.stdout.strip()
    done = run("compare", "model.gguf", "out.zip", "--text", "other.txt", "--window", "64")
    assert done.returncode == 0 and "KL divergence" in done.stdout
    done = run("recommend", path, "--device", "here")
    assert done.returncode == 0, done.stderr
    done = run("compare", path, "model.gguf", "--text", "other.txt", "--window", "64")
    assert done.returncode == 0, done.stderr
    assert re.search(r"nats: mean +0 ", done.stdout), done.stdout
