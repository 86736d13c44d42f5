"""A language model on onnxruntime: one answer however the text reaches its cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("onnx_ir", reason="the build side is not installed")

import onnx
import torch
import transformers
from tokenizers import Tokenizer

import edgeq
from edgeq.core.artifact import MODEL_FILE, read_artifact, record_files, write_artifact
from edgeq.core.errors import InvalidInput
from edgeq.formats.onnx.decoder import OnnxDecoder
from tests.support import tiny_decoders
from tests.support.decoder_artifacts import WREN, decoder_artifact, float_graph, nearest_codes

PROMPT = "Once upon a time there was"
ROUNDING = 1e-4


@pytest.fixture(scope="module")
def wren_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return float_graph(WREN, tmp_path_factory.mktemp("wren") / "float")


@pytest.fixture(scope="module")
def wren(wren_graph: Path) -> Path:
    """The float32 artifact of wren."""
    return decoder_artifact(WREN, wren_graph, wren_graph.with_name("onnx-float32"))


@pytest.fixture(scope="module")
def int4(wren_graph: Path) -> Path:
    """wren in 4 bits."""
    codes = nearest_codes(wren_graph, "int4-b32")
    return decoder_artifact(WREN, wren_graph, wren_graph.with_name("onnx-int4"), codes)


def tiny_artifact(folder: Path, family: str, **overrides: int) -> tuple[Path, Path]:
    """The model as Hugging Face saves it, and its artifact."""
    source = tiny_decoders.make(folder / "model", family, **overrides)
    graph = float_graph(source, folder / "float")
    return source, decoder_artifact(source, graph, folder / "artifact")


def load(path: Path, context: int | None = None) -> OnnxDecoder:
    model = edgeq.load(path, threads=1, context=context)
    assert isinstance(model, OnnxDecoder)
    return model


def by_transformers(source: Path, ids: np.ndarray) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        return np.asarray(model.eval()(torch.from_numpy(ids)[None]).logits[0])


def random_ids(count: int, vocabulary: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, vocabulary, count)


def test_logits_are_those_of_transformers(wren: Path) -> None:
    model = load(wren)
    ids = random_ids(700, model.vocabulary)  # more than go through in one run
    expected = by_transformers(WREN, ids)
    assert np.abs(model.logits(ids) - expected).max() < ROUNDING
    assert np.abs(model.last_logits(ids, len(ids), 3) - expected).max() < ROUNDING
    assert np.abs(model.prefill(ids) - expected[-1]).max() < ROUNDING


# Where inputs are rounded to 8 bits, the last bit of a sum can tip a code to its neighbour.
@pytest.mark.parametrize(("artifact", "limit"), [("wren", ROUNDING), ("int4", 0.1)])
def test_steps_answer_as_the_whole_text_does(
    artifact: str, limit: float, request: pytest.FixtureRequest
) -> None:
    model = load(request.getfixturevalue(artifact))
    ids = random_ids(60, model.vocabulary)
    whole = model.logits(ids)
    stepped = [model.prefill(ids[:40]), *(model.step(int(token)) for token in ids[40:])]
    assert np.abs(np.stack(stepped) - whole[39:]).max() < limit


def test_a_text_leaves_nothing_behind(wren: Path) -> None:
    model = load(wren)
    ids = random_ids(50, model.vocabulary)
    first = model.logits(ids[:20])
    kept = first.copy()
    model.logits(ids)
    model.prefill(ids[30:])
    assert np.array_equal(first, kept)  # no later run writes into what was given away
    assert np.array_equal(model.logits(ids[:20]), kept)


def test_weights_are_mapped_from_a_prepared_copy(wren: Path, int4: Path) -> None:
    assert load(wren).prepared
    assert load(int4).prepared


def test_generation_takes_the_likeliest_token(wren: Path) -> None:
    model = load(wren)
    ids = model.tokens(PROMPT)
    expected = list(ids)
    for _ in range(12):
        expected.append(int(model.logits(expected)[-1].argmax()))
    text = PROMPT + "".join(model.generate(PROMPT, 12))
    assert text == model.text(expected)


def test_tokens_are_those_of_the_tokenizer(wren: Path) -> None:
    model = load(wren)
    tokenizer = Tokenizer.from_file(str(WREN / "tokenizer.json"))
    for text in (PROMPT, "naïve café — 東京 🦉", "  two  spaces\n\n"):
        assert model.tokens(text) == tokenizer.encode(text).ids
        assert model.text(model.tokens(text, special=False)) == text
    assert model.end_tokens == {1}


def test_a_full_cache_says_so(wren: Path) -> None:
    model = load(wren, context=16)
    ids = random_ids(17, model.vocabulary)
    model.prefill(ids[:15])
    model.step(int(ids[15]))
    with pytest.raises(InvalidInput, match="0 of 16 positions are left"):
        model.step(int(ids[16]))
    with pytest.raises(InvalidInput, match="16 positions are left"):
        model.prefill(ids)
    assert model.prefill(ids[:16]).shape == (model.vocabulary,)


def test_more_positions_than_the_file_has_are_refused(wren: Path) -> None:
    with pytest.raises(InvalidInput, match="1025 positions are requested, and the file was made"):
        load(wren, context=1025)
    assert load(wren).context == 1024


def test_the_cache_is_as_large_as_it_says(wren: Path, tmp_path: Path) -> None:
    assert load(wren).cache_bytes(100) == 2 * 6 * 100 * 2 * 64 * 4
    _, artifact = tiny_artifact(tmp_path, "gemma3_text", max_position_embeddings=512)
    model = load(artifact)
    # One layer in six sees everything; the others keep a window of 16 and 128 positions of room.
    per_position = 2 * tiny_decoders.KV_HEADS * 32 * 4
    assert model.cache_bytes(512) == (512 + 6 * 144) * per_position
    assert model.cache_bytes(100) == 7 * 100 * per_position


@pytest.mark.parametrize(("family", "first"), [("gemma3_text", 60), ("lfm2", 1), ("lfm2", 60)])
def test_layers_remember_what_they_need(tmp_path: Path, family: str, first: int) -> None:
    """A window, or what a convolution reads again, also where fewer tokens came before; and nothing
    of another text."""
    source, artifact = tiny_artifact(tmp_path, family, max_position_embeddings=512)
    model = load(artifact)
    ids = random_ids(300, model.vocabulary)
    model.prefill(ids[::-1])
    expected = by_transformers(source, ids)
    stepped = [model.prefill(ids[:first]), *(model.step(int(token)) for token in ids[first:])]
    assert np.abs(np.stack(stepped) - expected[first - 1 :]).max() < ROUNDING


def test_convolutions_carry_on_a_few_positions(tmp_path: Path) -> None:
    _, artifact = tiny_artifact(tmp_path, "lfm2", conv_L_cache=4)
    cached, kept = 2 * tiny_decoders.KV_HEADS * 64, 3 * tiny_decoders.HIDDEN
    assert load(artifact).cache_bytes(100) == 4 * (2 * 100 * cached + 2 * kept)


def test_a_text_that_outgrows_its_angles_is_computed_again(tmp_path: Path) -> None:
    lengths = {"original_max_position_embeddings": 32, "max_position_embeddings": 128}
    source, artifact = tiny_artifact(tmp_path, "phi3-longrope", **lengths)
    model = load(artifact)
    ids = random_ids(40, model.vocabulary)  # angles change behind 32
    short, long = by_transformers(source, ids[:32]), by_transformers(source, ids)
    assert np.abs(model.prefill(ids[:30]) - short[29]).max() < ROUNDING
    for position in (30, 31):
        found = model.step(int(ids[position]))
        assert np.abs(found - short[position]).max() < ROUNDING
    for position in range(32, 40):
        found = model.step(int(ids[position]))
        assert np.abs(found - long[position]).max() < ROUNDING
    assert np.abs(model.logits(ids) - long).max() < ROUNDING
    assert np.abs(model.prefill(ids[:30]) - short[29]).max() < ROUNDING


def test_a_graph_of_another_maker_is_refused(wren: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(wren, tmp_path / "other")
    graph = onnx.load(tmp_path / "other" / MODEL_FILE, load_external_data=False)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "other" / MODEL_FILE)
    record = read_artifact(wren)
    files = record_files(tmp_path / "other", list(record.files))
    write_artifact(tmp_path / "other", record.model_copy(update={"files": files}))
    with pytest.raises(InvalidInput, match="not a language model with a cache written by edgeq"):
        load(tmp_path / "other")
