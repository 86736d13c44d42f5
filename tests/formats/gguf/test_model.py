"""GGUF files on llama.cpp: the model's own answers, its limits, and errors instead of crashes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")

from tokenizers import Tokenizer

import edgeq
from edgeq.core.artifact import GGUF_FILE
from edgeq.core.errors import InvalidInput
from edgeq.formats import runtime_cache
from edgeq.formats.gguf.model import GgufLanguageModel
from edgeq.places.process import Request, run_worker
from edgeq.quantize.ggml.llama_api import library
from edgeq.recipe.budgets import Workload
from tests.support.bundles import unchecked_bundle
from tests.support.gguf_artifacts import WREN, load

REPOSITORY = Path(__file__).parents[3]


EVALUATION = REPOSITORY / "recipes" / "data" / "wren-evaluation.txt"


TEXT = EVALUATION.read_text(encoding="utf-8")[:2000]


@pytest.fixture(scope="module")
def wren(plain: Path) -> GgufLanguageModel:
    return load(plain)


def test_token_ids_are_the_tokenizers(wren: GgufLanguageModel) -> None:
    tokenizer = Tokenizer.from_file(str(WREN / "tokenizer.json"))
    for text in (TEXT, "", " ", "鳥 é ̈ 🐦‍⬛", "<|eos|> 12345\n\n\t", "a\0b"):
        ids = wren.tokens(text)
        assert ids == tokenizer.encode(text).ids
        assert wren.text(ids) == text.replace("<|eos|>", "")  # control tokens stand for no text
    assert wren.vocabulary == tokenizer.get_vocab_size()
    assert 1 in wren.end_tokens and 0 not in wren.end_tokens


def test_float32_logits_are_those_of_transformers(wren: GgufLanguageModel) -> None:
    torch = pytest.importorskip("torch", reason="the build side is not installed")
    transformers = pytest.importorskip("transformers", reason="the build side is not installed")
    ids = wren.tokens(TEXT)[:300]  # more than llama.cpp is given at once
    reference = transformers.AutoModelForCausalLM.from_pretrained(WREN, dtype=torch.float32)
    with torch.no_grad():
        wanted = reference(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(wren.logits(ids), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["plain", "small"])
def test_one_answer_however_the_text_reaches_the_cache(
    precision: str, request: pytest.FixtureRequest
) -> None:
    """8-bit products of activations turn tiny differences into steps of a rounding."""
    model = load(request.getfixturevalue(precision))
    rounding = {"plain": 1e-4, "small": 0.3}[precision]
    ids = model.tokens(TEXT)[:70]
    whole = model.logits(ids)
    assert whole.dtype == np.float32 and whole.shape == (70, model.vocabulary)
    np.testing.assert_allclose(model.last_logits(ids, len(ids), 7), whole, rtol=0, atol=rounding)
    last = model.prefill(ids[:50])
    np.testing.assert_allclose(last, whole[49], rtol=0, atol=rounding)
    for position, token in enumerate(ids[50:], start=50):
        last = model.step(token)
        np.testing.assert_allclose(last, whole[position], rtol=0, atol=rounding)
    np.testing.assert_array_equal(model.logits(ids), whole)


def test_what_is_streamed_is_the_text_of_the_likeliest_tokens(small: Path) -> None:
    model = load(small)
    ids = model.tokens("Once upon a time")
    wanted: list[int] = []
    scores = model.prefill(ids)
    while len(wanted) < 25 and int(scores.argmax()) not in model.end_tokens:
        wanted.append(int(scores.argmax()))
        scores = model.step(wanted[-1])
    pieces = list(model.generate("Once upon a time", 25))
    assert "".join(pieces) == model.text(wanted)
    assert len(pieces) > 5
    drawn = ["".join(model.generate("Once", 25, temperature=1.0, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_context_is_what_was_asked_for(small: Path) -> None:
    assert load(small).context == 1024  # what it was trained for
    model = load(small, context=20)
    assert len(model.logits([5] * 20)) == 20
    for call in (model.logits, model.prefill):
        with pytest.raises(InvalidInput, match="21 tokens do not fit: 20 of 20"):
            call([5] * 21)
    model.prefill([5] * 20)
    with pytest.raises(InvalidInput, match="0 of 20 positions are left"):
        model.step(5)
    with pytest.raises(InvalidInput, match="trained for 1024"):
        load(small, context=1025)
    contexts: tuple[Any, ...] = (0, -1, 1.5)
    for context in contexts:
        with pytest.raises(InvalidInput, match="number of positions"):
            edgeq.load(small, context=context)


def test_a_bundle_is_unpacked_once(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "wren.zip"
    unchecked_bundle(small, out)
    wanted = load(small).logits([1, 2, 3])
    for _ in range(2):
        np.testing.assert_array_equal(load(out).logits([1, 2, 3]), wanted)
    (place,) = (tmp_path / "cache" / "unpacked").glob("*/model.gguf")
    assert place.read_bytes() == (small / GGUF_FILE).read_bytes()
    place.write_bytes(b"GGUF")  # damaged: it is unpacked again
    np.testing.assert_array_equal(load(out).logits([1, 2, 3]), wanted)
    content = bytearray(out.read_bytes())
    content[len(content) // 2] ^= 1
    out.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"model\.gguf: was changed"):
        edgeq.load(out)


def test_what_is_unpacked_and_long_unused_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_cache, "KEEP", 250)
    places = [tmp_path / name for name in ("old", "new", "kept")]
    for age, place in enumerate(places):
        place.mkdir()
        (place / "model").write_bytes(bytes(100))
        os.utime(place, (age, age))
    runtime_cache.drop_unused(places[2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "new"]


def test_damaged_files_are_an_error(small: Path, tmp_path: Path) -> None:
    content = (small / GGUF_FILE).read_bytes()
    for name, damaged in (
        ("cut", content[: len(content) // 2]),
        ("header", content[:1000]),
        ("empty", b""),
        ("other", b"PK" + content[2:]),
        ("architecture", content.replace(b"llama", b"lamal", 1)),
    ):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(damaged)
        with pytest.raises(InvalidInput, match=f"{name}.gguf"):
            edgeq.load(path)


def test_verbs_of_other_models_say_what_to_use(wren: GgufLanguageModel) -> None:
    with pytest.raises(InvalidInput, match=r"is a language model: no embed\(\)"):
        wren.embed(["a"])


WORK = Workload(context=64, prompt=16, generate=4)


def request(work: str, artifact: Path, **more: object) -> Request:
    return Request(work=work, artifact=artifact, threads=1, workload=WORK, text=TEXT, **more)


def test_the_passes_of_a_language_model(small: Path, plain: Path, tmp_path: Path) -> None:
    held = run_worker(request("memory", small))
    assert (held["context"], held["runs"]) == (64, 64)
    assert held["cache_bytes"] == load(small, context=64).cache_bytes(64)
    assert held["high_water_bytes"] >= held["ran"]["resident_bytes"]
    assert held["inputs"] == "prompt 60, generate 4, context 64 in f16"
    assert held["instructions"] == library().system
    timed = run_worker(request("latency", small))
    assert len(timed["first"]) == len(timed["tokens"]) >= 6
    assert {len(tokens) for tokens in timed["tokens"]} == {4}
    assert timed["runtime"].startswith("llama.cpp of ")
    corpus = {"corpus": EVALUATION, "samples": 4, "reference": plain}
    found = run_worker(request("quality", small, **corpus))["divergence"]
    same = run_worker(request("quality", plain, **corpus))["divergence"]
    assert abs(same["kl"]["mean"]) < 1e-12 < found["kl"]["mean"] < 1e-3
    assert (same["same_top1"], same["windows"], same["window"]) == (1, 4, 64)


def test_a_workload_the_model_cannot_hold_is_refused_with_the_reason(small: Path) -> None:
    with pytest.raises(InvalidInput, match="trained for 1024"):
        run_worker(
            Request(
                work="memory",
                artifact=small,
                workload=Workload(context=2048, prompt=16, generate=4),
            )
        )


@given(st.integers(-(2**70), 2**70))
def test_ids_of_no_token_never_reach_the_library(wren: GgufLanguageModel, token: int) -> None:
    if 0 <= token < wren.vocabulary:
        token += wren.vocabulary
    for verb in (wren.piece, lambda token: wren.text([0, token])):
        with pytest.raises(InvalidInput, match="token ids"):
            verb(token)
