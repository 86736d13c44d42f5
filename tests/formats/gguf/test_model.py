"""GGUF files on llama.cpp: the model's own answers, its limits, and errors instead of crashes."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

import edgeq
from edgeq.core.artifact import ARTIFACT_FILE, GGUF_FILE, seal
from edgeq.core.errors import InvalidInput
from edgeq.core.kv_cache import KvType
from edgeq.formats import runtime_cache
from edgeq.formats.gguf.model import GgufEncoder, GgufLanguageModel
from edgeq.measure.scoring import score
from edgeq.places.process import Request, run_worker
from edgeq.quantize.ggml.llama_abi import LogCallback
from edgeq.quantize.ggml.llama_api import library
from edgeq.recipe.budgets import Workload
from tests.support import tiny_bert, tiny_decoders
from tests.support.bundles import unchecked_bundle
from tests.support.commands import Done, run_edgeq
from tests.support.gguf_artifacts import WREN, gguf_artifact, write_file

REPOSITORY = Path(__file__).parents[3]
EVALUATION = REPOSITORY / "recipes" / "data" / "wren-evaluation.txt"
TEXT = EVALUATION.read_text(encoding="utf-8")[:2000]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    return gguf_artifact(WREN, folder / "f32")


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    return gguf_artifact(WREN, folder / "q8", "Q8_0")


def load(path: Path, context: int | None = None, threads: int = 1) -> GgufLanguageModel:
    model = edgeq.load(path, threads=threads, context=context)
    assert isinstance(model, GgufLanguageModel)
    return model


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


FRESH = """
import hashlib, sys
import edgeq
model = edgeq.load(sys.argv[1], threads=1)
ids = model.tokens("The little bird sat in the tree and sang of the long winter.")
print(hashlib.sha256(model.logits(ids).tobytes()).hexdigest())
print("".join(model.generate("The bird", 12)))
loaded = [name for name in ("onnxruntime", "tokenizers", "torch", "gguf", "onnx", "xllamacpp",
                            "transformers") if name in sys.modules]
print(loaded)
"""


def fresh(program: str, *arguments: str | Path, **environment: str) -> list[str]:
    """What a new process prints; nothing may be on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_fresh_process_gives_the_same_bits_and_loads_nothing_else(small: Path) -> None:
    """llama.cpp's own words are kept from the standard streams."""
    first, again = fresh(FRESH, small), fresh(FRESH, small / GGUF_FILE)
    assert first == again
    assert first[-1] == "[]"


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


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The lines llama.cpp writes meanwhile."""
    lines: list[str] = []
    listening = LogCallback(lambda level, text, user: lines.append(text.decode()))
    llama = library()
    llama.lib.llama_log_set(listening, None)
    yield lines
    llama.lib.llama_log_set(llama._log.callback, None)


def allocated(lines: list[str]) -> float:
    """MiB that llama.cpp says it has allocated for keys and values, and for other states."""
    buffers = [line for line in lines if "KV buffer size" in line or "RS buffer size" in line]
    sizes = [line.split("size =")[1].split("MiB")[0] for line in buffers]
    assert sizes
    return sum(map(float, sizes))


@pytest.mark.parametrize("context", [20, 256, 257, 1000])
@pytest.mark.parametrize("precision", ["plain", "small"])
def test_cache_bytes_are_what_is_allocated(
    precision: str, context: int, request: pytest.FixtureRequest, said: list[str]
) -> None:
    model = load(request.getfixturevalue(precision), context=context)
    model.prefill([1, 2, 3])
    assert model.cache_bytes(context) == allocated(said) * 2**20
    assert model.cache_type == {"plain": "f32", "small": "f16"}[precision]


@pytest.mark.parametrize(("kv", "most"), [("q8_0", 1e-3), ("q4_0", 0.1)])
def test_a_record_names_the_type_of_the_cache(
    kv: KvType, most: float, small: Path, tmp_path: Path, said: list[str]
) -> None:
    """llama.cpp says what it allocated; a text read from it is scored a little differently."""
    path = gguf_artifact(WREN, tmp_path / kv, "Q8_0", kv)
    model = load(path, context=300)
    found = model.last_logits(list(range(300)), 100)
    assert model.cache_bytes(300) / 2**20 == pytest.approx(allocated(said), abs=0.01)
    assert any(f"K ({kv})" in line and f"V ({kv})" in line for line in said)
    usual = load(small, context=300).logits(list(range(300)))[-100:]
    assert 0 < score(usual, found, [0] * 100).kl.mean() < most


def test_a_record_with_an_unknown_type_of_cache_is_refused(small: Path, tmp_path: Path) -> None:
    record = json.loads((small / ARTIFACT_FILE).read_bytes())
    del record["digest"]
    (tmp_path / ARTIFACT_FILE).write_bytes(seal({**record, "settings": {"kv": "q9_9"}}))
    with pytest.raises(InvalidInput, match="'f32', 'f16', 'q8_0' or 'q4_0'"):
        load(tmp_path)


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "gpt_oss", "qwen3"])
def test_windowed_layers_keep_their_window(family: str, tmp_path: Path, said: list[str]) -> None:
    """Of windowed layers where llama.cpp keeps fewer positions, and where it keeps all."""
    pytest.importorskip("transformers", reason="the build side is not installed")
    longer = {"max_position_embeddings": 2048, "num_hidden_layers": 7}
    source = tiny_decoders.make(tmp_path / "model", family, **longer)
    model = load(write_file(source, tmp_path / "a.gguf", "Q8_0"), context=2048)
    model.prefill([1, 2, 3])
    assert model.cache_bytes(2048) / 2**20 == pytest.approx(allocated(said), abs=0.01)


def test_convolutions_carry_on_a_few_positions(tmp_path: Path, said: list[str]) -> None:
    """Token by token as the whole text, and the memory that llama.cpp allocates for it."""
    pytest.importorskip("transformers", reason="the build side is not installed")
    layers = ["conv"] * 15 + ["full_attention"]
    wide = {"layer_types": layers, "num_hidden_layers": 16, "conv_L_cache": 8}
    source = tiny_decoders.make(tmp_path / "model", "lfm2", **wide)
    model = load(write_file(source, tmp_path / "a.gguf", "F32"))
    ids = np.random.default_rng(0).integers(3, model.vocabulary, 40)
    model.prefill(ids[::-1])
    assert model.cache_bytes(model.context) / 2**20 == pytest.approx(allocated(said), abs=0.01)
    expected = model.logits(ids)
    stepped = [model.prefill(ids[:1]), *(model.step(int(token)) for token in ids[1:])]
    assert np.abs(np.stack(stepped) - expected).max() < 1e-4 < np.abs(expected).max()


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


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"EDGEQ_LLAMA": "llama"}, "'llama' is not a known build of llama.cpp"),
        ({"HIDE": "xllamacpp llama_cpp"}, 'pip install ".[gguf]"'),
        ({"EDGEQ_LLAMA": "llama_cpp", "HIDE": "llama_cpp"}, "llama_cpp"),
    ],
)
def test_without_llama_cpp_the_package_is_named(
    environment: dict[str, str], named: str, small: Path
) -> None:
    program = (
        "import importlib.util, os, sys\n"
        "from pathlib import Path\n"
        "find, hidden = importlib.util.find_spec, os.environ.get('HIDE', '').split()\n"
        "importlib.util.find_spec = lambda name: None if name in hidden else find(name)\n"
        "import edgeq\n"
        "from edgeq.core.errors import Missing\n"
        "try:\n    edgeq.load(sys.argv[1])\n"
        "except Missing as error:\n    print(error)\n"
    )
    assert named in "\n".join(fresh(program, small, **environment))


def test_another_version_is_never_called() -> None:
    """Its structures may be laid out otherwise: a call would write past them."""
    program = (
        "import importlib.metadata\n"
        "version = importlib.metadata.version\n"
        "importlib.metadata.version = lambda n: '1.0' if n == 'xllamacpp' else version(n)\n"
        "from edgeq.core.errors import Missing\n"
        "from edgeq.quantize.ggml.llama_api import library\n"
        "try:\n    library()\n"
        "except Missing as error:\n    print(error)\n"
    )
    (what, remedy) = fresh(program, EDGEQ_LLAMA="xllamacpp")
    assert "version 1.0 is installed" in what
    assert 'pip install "xllamacpp==' in remedy


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls by the rules of x86-64")
def test_structures_have_the_librarys_size() -> None:
    """What the library writes of its defaults ends where the structure ends, but for padding.

    By those rules a large structure is returned to where a hidden first argument points.
    """
    lib = library().lib
    for name in ("llama_context_default_params", "llama_model_default_params"):
        function = getattr(lib, name)
        params = function.restype
        room = (ctypes.c_uint8 * 512)(*[0xAA] * 512)
        function.restype, function.argtypes = None, [ctypes.c_void_p]
        try:
            function(room)
        finally:
            function.restype, function.argtypes = params, []
        written = 512 - len(bytes(room)) + len(bytes(room).rstrip(b"\xaa"))
        assert -(-written // 8) * 8 == ctypes.sizeof(params)


@pytest.fixture(scope="module")
def bert(folder: Path) -> Path:
    pytest.importorskip("transformers", reason="the build side is not installed")
    from transformers import BertModel

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = ["[PAD]", *(f"[unused{i}]" for i in range(99)), *special[1:]]  # BERT's own places
    words += tiny_bert.VOCABULARY[4:]
    tokenizer = Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)]
    )
    tokenizer.add_special_tokens(special)
    model = BertModel(tiny_bert.config(vocab_size=len(words)))
    source = tiny_bert.save_bert(folder / "bert", model=model)
    tiny_bert.write_head(source, "mean")
    tokenizer.save(str(source / "tokenizer.json"))
    return source


def test_a_sentence_encoder_gives_the_vectors_of_transformers(bert: Path, folder: Path) -> None:
    import torch
    import transformers

    model = edgeq.load(gguf_artifact(bert, folder / "bert-f32"), threads=1)
    assert isinstance(model, GgufEncoder)
    texts = [tiny_bert.sentence(seed, 1 + 3 * seed) for seed in range(6)] + [""]
    vectors = model.embed(texts)
    reference = transformers.BertModel.from_pretrained(bert)
    tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
    tokenizer.no_padding()
    for text, vector in zip(texts, vectors, strict=True):
        tokenizer.enable_truncation(model.max_tokens)
        ids = tokenizer.encode(text).ids
        assert model.tokens(text) == ids
        with torch.no_grad():
            mean = reference(torch.tensor([ids])).last_hidden_state[0].mean(0)
        # llama.cpp looks GELU up in a table of float16.
        np.testing.assert_allclose(vector, mean / mean.norm(), rtol=0, atol=2e-3)
        outputs = model.run(model.tokenize(text))
        np.testing.assert_array_equal(outputs["sentence_embedding"][0], vector)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    for call in (lambda: model.logits([1]), lambda: model.generate("a")):
        with pytest.raises(InvalidInput, match=r"is a sentence encoder: no .*\n    use embed\(\)"):
            call()
    with pytest.raises(InvalidInput, match="is a str"):
        model.embed("a text")
    with pytest.raises(InvalidInput, match="omit it"):
        edgeq.load(folder / "bert-f32", context=8)


@pytest.mark.parametrize(
    "feeds",
    [
        {},
        {"input_ids": np.array([1, 2])},
        {"input_ids": np.array([[0.5]])},
        {"input_ids": np.zeros((1, 0), np.int64)},
        {"input_ids": np.array([[-1]])},
        {"input_ids": np.array([[1]]), "other": np.array([1])},
    ],
)
def test_inputs_an_encoder_does_not_take_are_refused(
    feeds: dict[str, np.ndarray], bert: Path, folder: Path
) -> None:
    path = folder / "bert.gguf"
    model = edgeq.load(path if path.exists() else write_file(bert, path))
    with pytest.raises(InvalidInput, match="input_ids"):
        model.run(feeds)


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
    folder: Path,
) -> None:
    source = shutil.copytree(WREN, folder / "short", copy_function=shutil.copyfile)
    config = json.loads((WREN / "config.json").read_bytes())
    (source / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    file = write_file(source, folder / "short.gguf")
    answer = json.loads(edgeq_run(file, "--prompt", "Once upon a time", "--json").stdout)
    assert answer["text"] == "".join(load(file).generate("Once upon a time", answer["tokens"]))
    assert answer["prompt_tokens"] + answer["tokens"] == 64
    done = edgeq_run(file, "--prompt", "Once upon a time", "--max-tokens", "64")
    assert done.returncode == 2 and "and 64 more exceed the 64 positions" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal on Windows")
def test_a_terminal_gets_the_speed_too(small: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    arguments = ["run", str(small), "--prompt", "Once upon a time", "--max-tokens", "12"]
    with subprocess.Popen(
        [sys.executable, "-m", "edgeq", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1"},
    ):
        os.close(theirs)
        read = b""
        with contextlib.suppress(OSError):  # the other end closes
            while piece := os.read(ours, 1 << 16):
                read += piece
    os.close(ours)
    shown = " ".join(read.decode().split())
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
