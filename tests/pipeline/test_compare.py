"""`edgeq compare`: any two language models on a text, and the reference that transformers runs."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the build side is not installed")
pytest.importorskip("torch", reason="the build side is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")

from edgeq.core.errors import InvalidInput, Missing
from edgeq.formats import transformers_model
from edgeq.formats.gguf.requantize import quantize_file
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.measure.same_tokens import beginning, same_tokens
from edgeq.models.huggingface import read_directory
from edgeq.pipeline.compare import compare
from edgeq.pipeline.compare.side_by_side import SideBySide
from tests.support import tiny_decoders
from tests.support.commands import answered, for_a_person, refused, run_edgeq
from tests.support.decoder_artifacts import decoder_artifact, float_graph
from tests.support.gguf_artifacts import write_file

ROOT = Path(__file__).parents[2]
WREN = ROOT / "recipes" / "wren"
TEXT = ROOT / "recipes" / "data" / "wren-evaluation.txt"
FEW: dict[str, Any] = {"window": 64, "windows": 6, "threads": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model as GGUF in float32 and in two mixes."""
    folder = tmp_path_factory.mktemp("files")
    source = write_file(WREN, folder / "wren-F32.gguf")
    for mix in ("Q8_0", "Q4_K_M"):
        quantize_file(source, folder / f"wren-{mix}.gguf", mix)
    return folder


# -- transformers as a runner


@pytest.fixture(scope="module")
def wren() -> transformers_model.TransformersModel:
    return transformers_model.load(WREN, threads=1)


def test_the_runner_gives_what_transformers_gives(
    wren: transformers_model.TransformersModel,
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    own = AutoModelForCausalLM.from_pretrained(WREN, dtype=torch.float32)
    ids = wren.tokens(TEXT.read_text(encoding="utf-8"))[:200]
    with torch.inference_mode():
        wanted = own(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(wren.logits(ids), wanted, atol=2e-5)
    for piece in (1, 7):
        np.testing.assert_allclose(wren.last_logits(ids, len(ids), piece), wanted, atol=2e-5)
    np.testing.assert_allclose(wren.prefill(ids), wanted[-1], atol=2e-5)
    assert (wren.vocabulary, wren.context, wren.end_tokens) == (4096, 1024, {1})
    assert wren.cache_bytes(1024) == 2 * 6 * 2 * 64 * 4 * 1024
    assert wren.text(ids) == TEXT.read_text(encoding="utf-8")[: len(wren.text(ids))]


def test_generation_continues_as_transformers_does(
    wren: transformers_model.TransformersModel,
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    own = AutoModelForCausalLM.from_pretrained(WREN, dtype=torch.float32)
    ids = wren.tokens("The whale")
    wanted = own.generate(torch.tensor([ids]), max_new_tokens=20, do_sample=False)[0, len(ids) :]
    assert "".join(wren.generate("The whale", 20)) == wren.text(wanted.tolist())


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "mistral", "qwen3"])
def test_pieces_through_the_cache_change_nothing(tmp_path: Path, family: str) -> None:
    """Windows are shorter than the text, so a cache that forgets too early would show."""
    model = transformers_model.load(tiny_decoders.make(tmp_path / family, family), threads=1)
    ids = np.random.default_rng(0).integers(0, model.vocabulary, size=60)
    whole = model.logits(ids)
    for piece in (1, 5, 32):
        np.testing.assert_allclose(model.last_logits(ids, len(ids), piece), whole, atol=1e-4)


def copy_of_wren(folder: Path, **changes: Any) -> Path:
    shutil.copytree(WREN, folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"auto_map": {"AutoModel": "code.Model"}}, "code that comes with a model is never run"),
        ({"quantization_config": {"quant_method": "gptq"}}, "already quantized"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "lack|cannot open"),
        ({"model_type": "nothing"}, "does not know the architecture"),
        ({"num_hidden_layers": 7}, r"the weights lack model\.layers\.6"),
        ({"intermediate_size": 512}, "cannot open|another shape"),
    ],
    ids=str,
)
def test_what_is_no_whole_language_model_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        transformers_model.load(copy_of_wren(tmp_path / "m", **changes), threads=1)


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    folder = copy_of_wren(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match="never read"):
        transformers_model.load(folder, threads=1)


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(Missing, match=r"pip install .*\[build\]"):
        transformers_model.load(WREN, threads=1)


# -- the tokenizer


@pytest.mark.parametrize("style", ["sentencepiece", "gemma", "llama3", "qwen2", "gpt2"])
def test_pieces_put_together_are_the_text(style: str) -> None:
    tokenizer = tiny_decoders.tokenizer_of(style)
    own = DecoderTokenizer(tokenizer.to_str().encode())
    text = "Naïve  café\n\n日本語 🦜 ½ <0x0A> 1,234"
    joined = b"".join(map(own.piece, own.ids(text))).decode()
    assert joined.removeprefix(" " if style == "sentencepiece" else "") == text
    special = set(own.ids("a")) - set(own.ids("a", special=False))
    assert all(own.piece(token) == b"" for token in special)
    assert own.piece(tokenizer.get_vocab_size() + 1) == b""


def test_text_that_is_none_is_refused() -> None:
    own = DecoderTokenizer((WREN / "tokenizer.json").read_bytes())
    with pytest.raises(InvalidInput, match="lone surrogate"):
        own.ids("\ud800")
    with pytest.raises(InvalidInput, match="is a int"):
        own.ids(1)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="cannot be used"):
        DecoderTokenizer(b"{}")


# -- two models


def test_formats_of_the_same_weights_are_as_one(files: Path, tmp_path: Path) -> None:
    """Hugging Face, GGUF and ONNX in float32: what is left is rounding."""
    onnx = decoder_artifact(WREN, float_graph(WREN, tmp_path / "graph"), tmp_path / "onnx")
    for other in (files / "wren-F32.gguf", onnx):
        found = compare.compare(WREN, other, TEXT, **FEW)
        assert abs(found.kl.mean) < 1e-9
        assert found.same_top1 > 0.999
        assert found.perplexity.ratio == pytest.approx(1, abs=1e-5)
        assert abs(found.noise_floor) < 1e-9


def test_fewer_bits_are_further_away(files: Path) -> None:
    """The order, and the size, of the distances of this model that are known from llama.cpp."""
    q8, q4 = (
        compare.compare(WREN, files / f"wren-{mix}.gguf", TEXT, **{**FEW, "windows": 24})
        for mix in ("Q8_0", "Q4_K_M")
    )
    assert 0.0001 < q8.kl.mean < 0.0004
    assert 0.004 < q4.kl.mean < 0.009
    assert q4.kl.median < q4.kl.mean < q4.kl.p90 < q4.kl.p95 < q4.kl.p99 < q4.kl.p999 < q4.kl.max
    assert q8.rms_dp < q4.rms_dp
    assert q4.same_top1 < q8.same_top1 < 1
    assert q8.candidate_noise_floor < q8.kl.mean
    assert q8.tokens == 24 * 31 and q8.windows_in_text > 400


def test_the_same_comparison_gives_the_same_bits(files: Path) -> None:
    once, again = (compare.compare(WREN, files / "wren-Q8_0.gguf", TEXT, **FEW) for _ in range(2))
    assert once == again


def test_other_tokenizers_are_refused_with_the_first_difference(tmp_path: Path) -> None:
    folder = copy_of_wren(tmp_path / "m")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-600]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InvalidInput, match=r"differently from .*wren: token \d+, after '.*', is"):
        compare.compare(WREN, folder, TEXT, **FEW)
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|bos|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [0], "tokens": ["<|bos|>"]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InvalidInput, match=r"puts token 0 before a text, and .*wren puts no token"):
        compare.compare(WREN, folder, TEXT, **FEW)
    own = compare.compare(folder, folder, TEXT, **FEW)
    assert own.kl.max == 0  # every window begins with the token now
    model = compare.open_language_model(folder)
    assert beginning(model) == 0
    first, ids = same_tokens((model, model), (folder, folder), "a whale")
    assert (first, ids[0], ids[1:]) == (0, 0, model.tokens("a whale", special=False))


def test_other_vocabularies_are_refused(tmp_path: Path) -> None:
    wide = tiny_decoders.make(tmp_path / "q", "qwen2", vocab_size=740)
    other = tiny_decoders.make(tmp_path / "r", "qwen2")
    with pytest.raises(InvalidInput, match="720 tokens, and the reference 740"):
        compare.compare(wide, other, TEXT, window=16, windows=2, threads=1)


def test_what_cannot_be_compared_is_refused(tmp_path: Path, files: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("too short")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    file = files / "wren-Q8_0.gguf"
    cases: tuple[tuple[Path, Path, dict[str, Any], str], ...] = (
        (file, short, {}, "at least two windows of 256"),
        (file, binary, {}, "byte 0: not UTF-8 text"),
        (file, tmp_path / "none.txt", {}, "no such file"),
        (file, TEXT, {"windows": 1}, "gives no standard error"),
        (
            file,
            TEXT,
            {"window": 2048, "threads": 1},
            "--window: 2048 tokens do .* for 1024",
        ),
        (tmp_path / "none.gguf", TEXT, {}, "does not exist"),
        (tmp_path, TEXT, {}, "holds no artifact"),
    )
    for b, text, options, said in cases:
        with pytest.raises(InvalidInput, match=said):
            compare.compare(WREN, b, text, **options)


def test_reading_a_directory_needs_no_runtime() -> None:
    """What decides between the formats is in the directory alone."""
    assert compare.is_huggingface(WREN)
    assert read_directory(WREN, "here").tokenizer.is_file()
    assert importlib.util.find_spec("xllamacpp") is not None


def test_two_files_need_no_torch(files: Path) -> None:
    code = (
        "import sys; from edgeq.pipeline.compare.compare import compare; from pathlib import Path; "
        f"compare(Path({str(files / 'wren-F32.gguf')!r}), Path({str(files / 'wren-Q8_0.gguf')!r}), "
        f"Path({str(TEXT)!r}), window=32, windows=2, threads=1); "
        "print(sorted({'torch', 'transformers', 'onnx', 'onnx_ir'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the command


def test_the_command_in_json(files: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = ["compare", WREN, files / "wren-Q8_0.gguf", "--text", TEXT]
    arguments += ["--windows", "4", "--window", "64"]
    found = answered(run_edgeq(*arguments, "--json", store=tmp_path, cwd=tmp_path))
    assert set(found["kl"]) == {"mean", "mean_se", "median", "p90", "p95", "p99", "p999", "max"}
    assert set(found["perplexity"]) == {"a", "b", "ratio"}
    assert {"same_top1", "noise_floor", "tokens"} <= set(found)
    assert found["tokens"] == 4 * 31
    assert found["perplexity"]["ratio"] == pytest.approx(
        found["perplexity"]["b"] / found["perplexity"]["a"]
    )
    assert found["how"] == "measured"
    assert "llama.cpp" in found["b"]["runtime"]


def test_the_command_for_a_person(files: Path, tmp_path: Path) -> None:
    same = files / "wren-F32.gguf"
    arguments: list[str | Path] = ["compare", same, same, "--text", TEXT, "--windows", "2"]
    arguments += ["--window", "64"]
    shown = for_a_person(run_edgeq(*arguments, store=tmp_path, cwd=tmp_path))
    assert "KL divergence, nats: mean" in shown
    assert "noise floor" in shown
    assert "62 tokens" in shown
    assert "at the level of rounding noise" in " ".join(shown.split())
    done = run_edgeq("compare", WREN, "none.gguf", "--text", TEXT, store=tmp_path, cwd=tmp_path)
    assert "none.gguf" in refused(done, 2)


def test_answers_side_by_side(files: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = ["compare", files / "wren-F32.gguf", files / "wren-Q4_K_M.gguf"]
    arguments += ["--prompt", "The whale", "--max-tokens", "24"]
    done = run_edgeq(*arguments, "--json", store=tmp_path, cwd=tmp_path)
    found = SideBySide.model_validate(answered(done))
    for spoken, file in ((found.a, "wren-F32.gguf"), (found.b, "wren-Q4_K_M.gguf")):
        model = compare.open_language_model(files / file)
        assert spoken.text == "".join(model.generate("The whale", 24))
    shown = for_a_person(run_edgeq(*arguments, store=tmp_path, cwd=tmp_path))
    assert ("▶" in shown) == ("They diverge at token" in shown) == (found.parting is not None)
