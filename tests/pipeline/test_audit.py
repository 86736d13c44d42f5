"""`edgeq audit`: what a GGUF file claims, what it holds, and whether the two agree."""

from __future__ import annotations

import functools
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the gguf package is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")

import gguf

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import MetaValue, TensorEntry, read_header
from edgeq.formats.gguf.requantize import quantize_file
from edgeq.formats.gguf.writer import write_gguf
from edgeq.measure.divergence import summarise
from edgeq.measure.scoring import Scores
from edgeq.pipeline.audit import child, reference, runs
from edgeq.pipeline.audit.claims import judge_claim, label_in
from edgeq.pipeline.audit.metadata import judge_metadata
from edgeq.pipeline.audit.records import Audit, Finding, Outcome
from edgeq.pipeline.audit.run import audit
from edgeq.pipeline.audit.structure import judge_structure
from edgeq.pipeline.audit.values import _FLOATS, _SCALES, look
from edgeq.pipeline.audit.verdict import judge_quality, sentence
from edgeq.pipeline.compare.compare import Comparison, Side
from edgeq.quantize.ggml.mixes import MIXES, file_type
from edgeq.quantize.ggml.types import TYPES, nbytes
from edgeq.report.audit import print_audit
from edgeq.report.console import Console
from tests.support.commands import answered, for_a_person, refused
from tests.support.gguf_artifacts import write_file
from tests.support.table_model import Table
from tests.support.tiny_bert import run_edgeq

ROOT = Path(__file__).parents[2]
WREN = ROOT / "recipes" / "wren"
TEXT = ROOT / "recipes" / "data" / "wren-evaluation.txt"
FILE_TYPE = "general.file_type"
WEIGHTS = 5770496  # of wren, its two tied tables counted once


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def wide(folder: Path) -> Path:
    return write_file(WREN, folder / "wren-F32.gguf")


@pytest.fixture(scope="module")
def good(folder: Path, wide: Path) -> Path:
    """The real model in a mix, as llama.cpp quantizes it."""
    quantize_file(wide, folder / "wren-Q4_K_M.gguf", "Q4_K_M")
    return folder / "wren-Q4_K_M.gguf"


def changed(
    source: Path,
    path: Path,
    metadata: Mapping[str, MetaValue | None] | None = None,
    data: dict[str, Callable[[bytes], bytes]] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """A copy of a GGUF file with other metadata (None leaves a key out) or tensor bytes."""
    header = read_header(source)
    content = source.read_bytes()
    kept = {key: value for key, value in {**header.metadata, **(metadata or {})}.items() if value}
    entries = [entry for entry in header.tensors.values() if entry.name not in without]

    def chunks(name: str) -> Iterator[bytes]:
        entry = header.tensors[name]
        own = content[entry.offset : entry.offset + entry.nbytes]
        yield (data or {}).get(name, bytes)(own)

    write_gguf(path, kept, [(entry.name, entry.shape, entry.type) for entry in entries], chunks)
    return path


def what_matters(findings: list[Finding] | tuple[Finding, ...]) -> dict[str, str]:
    """The findings that matter, by subject."""
    return {finding.subject: finding.what for finding in findings if finding.matters}


# -- a file that is what it says


def test_a_sound_file(good: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT.read_text(encoding="utf-8")[:3500], encoding="utf-8")
    arguments: list[str | Path] = ["audit", good, "--reference", WREN, "--text", text, "--json"]
    found = Audit.model_validate(answered(run_edgeq(*arguments, store=tmp_path, cwd=tmp_path)))
    assert found.sound
    assert found.verdict.startswith("Sound: every tensor matches llama.cpp's Q4_K_M")
    assert (found.claim.in_name, found.claim.recorded) == ("Q4_K_M", "Q4_K_M")
    assert found.claim.differing == ()
    assert found.claim.bits_per_weight == found.claim.claimed_bits_per_weight
    assert len(found.tensors) == 56
    assert {line.type for line in found.tensors} == {"F32", "Q4_K", "Q6_K"}
    assert all(line.claimed_type == line.type for line in found.tensors)
    weights = sum(math.prod(line.shape) for line in found.tensors)
    assert found.parameters == weights == WEIGHTS
    assert found.loading.passed and "llama.cpp" in found.loading.detail
    assert found.tokenizer.passed and found.chat_template.passed
    assert found.quality is not None and found.quality_not_run is None
    assert 0.002 < found.quality.kl.mean < 0.02
    assert (found.quality.a.path, found.quality.b.path) == (str(WREN), str(good))
    assert f"{found.quality.kl.mean:.2g}" in found.verdict


def test_a_sound_file_for_a_person(good: Path, tmp_path: Path) -> None:
    shown = for_a_person(run_edgeq("audit", good, store=tmp_path, cwd=tmp_path))
    assert "Sound: " in shown
    assert any(line.split()[:2] == ["blk.*.attn_k.weight", "0–5"] for line in shown.splitlines())
    assert shown.count("not run") == 4  # what needs a reference
    assert "its divergence from its model was not measured" in " ".join(shown.split())


@pytest.mark.parametrize("mix", ["Q8_0", "Q2_K", "Q3_K_M", "Q5_K_S", "IQ4_NL", "F16", "BF16"])
def test_every_mix_is_recognised(folder: Path, wide: Path, mix: str) -> None:
    path = folder / f"mix-{mix}.gguf"
    quantize_file(wide, path, mix)
    header = read_header(path)
    claim, findings, _ = judge_claim(path, header)
    assert (claim.in_name, claim.recorded, claim.mix) == (mix, mix, mix)
    assert claim.differing == () and not findings
    total = sum(entry.nbytes for entry in header.tensors.values())
    assert claim.bits_per_weight == pytest.approx(8 * total / WEIGHTS)
    for entry in header.tensors.values():
        seen = look(path, entry)
        assert seen.read and seen.problem is None
    assert not what_matters(judge_metadata(header))


# -- claims


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("model.q4_k_m.gguf", "Q4_K_M"),
        ("x-Q8_0-00001-of-00003.gguf", "Q8_0"),
        ("Q2_K-distilled-IQ3_XXS.gguf", "IQ3_XXS"),
        ("m-UD-Q4_K_XL.gguf", "Q4_K_XL"),
        ("m-fp16.gguf", "F16"),
        ("m.BF16.gguf", "BF16"),
        ("m-f32.gguf", "F32"),
        ("Qwen3-0.6B.gguf", None),
        ("sq4_0x.gguf", None),
        ("model.gguf", None),
    ],
)
def test_labels_in_file_names(name: str, label: str | None) -> None:
    assert label_in(name) == label


def test_every_mix_has_a_label() -> None:
    assert [label_in(f"m-{mix.lower()}.gguf") for mix in MIXES] == list(MIXES)


def test_a_name_that_the_tensors_do_not_keep(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "wren-Q8_0.gguf"
    shutil.copyfile(good, path)
    shown = for_a_person(run_edgeq("audit", path, store=tmp_path, cwd=tmp_path), 1)
    said = " ".join(shown.split())
    assert "Not sound: its name says Q8_0, its general.file_type Q4_K_M" in said
    assert "of 56 tensors do not have the type that llama.cpp gives them in Q8_0" in said
    assert "claimed" in shown


def _only(held: dict[str, bytes], name: str) -> list[bytes]:
    return [held[name]]


def test_one_tensor_with_fewer_bits(good: Path, tmp_path: Path) -> None:
    """As a careless maker would save a few bytes; more bits are no deceit."""
    header = read_header(good)
    name = "blk.0.ffn_down.weight"
    assert header.tensors[name].type.name == "Q4_K"
    for type, matters in (("Q3_K", True), ("Q5_K", False)):
        types = {other: entry.type for other, entry in header.tensors.items()}
        types[name] = TYPES[type]
        specs = [(other, header.tensors[other].shape, types[other]) for other in types]
        empty = {other: bytes(nbytes(types[other], shape)) for other, shape, _ in specs}
        path = tmp_path / f"{type}-Q4_K_M.gguf"
        write_gguf(path, header.metadata, specs, functools.partial(_only, empty))
        claim, findings, _ = judge_claim(path, read_header(path))
        assert claim.differing == (name,)
        assert [finding.matters for finding in findings] == [matters]
        assert f"{name} {type} (not Q4_K)" in findings[0].what


@pytest.mark.parametrize(
    ("name", "metadata", "said"),
    [
        ("m-Q4_K_XL.gguf", {}, "Q4_K_XL is not one of llama.cpp's own mixes"),
        ("m.gguf", {FILE_TYPE: None}, "neither the file's name nor"),
        ("m.gguf", {FILE_TYPE: MetaValue("uint32", 999)}, "unknown type 999 is not one of"),
        ("m.gguf", {"split.count": MetaValue("uint16", 3)}, "one part of 3"),
        ("m.gguf", {"llama.block_count": None}, "the metadata lack what Q4_K_M depends on"),
        (
            "m.gguf",
            {
                "general.architecture": MetaValue("string", "falcon"),
                "falcon.block_count": MetaValue("uint32", 6),
                "falcon.attention.head_count": MetaValue("uint32", 4),
            },
            "rules of its own for falcon",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_held_to_a_mix_is_only_noted(
    good: Path, tmp_path: Path, name: str, metadata: dict[str, Any], said: str
) -> None:
    path = changed(good, tmp_path / name, metadata)
    claim, findings, lines = judge_claim(path, read_header(path))
    assert claim.mix is None and claim.claimed_bits_per_weight is None
    assert any(said in finding.what for finding in findings)
    assert not [finding for finding in findings if finding.matters]
    assert all(line.claimed_type is None for line in lines)


@pytest.mark.parametrize("name", ["q4.gguf", "wren-Q4_K.gguf"])
def test_a_vague_name_leaves_the_claim_to_the_record(good: Path, tmp_path: Path, name: str) -> None:
    path = changed(good, tmp_path / name)
    claim, findings, _ = judge_claim(path, read_header(path))
    assert claim.mix == "Q4_K_M" and claim.differing == () and not findings
    lying = changed(good, path, {FILE_TYPE: MetaValue("uint32", file_type("Q4_0"))})
    claim, findings, _ = judge_claim(lying, read_header(lying))
    assert claim.mix == "Q4_0" and "llama.cpp gives them in Q4_0" in findings[0].what
    silent = changed(good, path, {FILE_TYPE: None})
    claim, findings, _ = judge_claim(silent, read_header(silent))
    assert claim.mix is None and "is not one of llama.cpp's own mixes" in findings[0].what


def test_a_vague_name_of_other_bits_than_the_record(good: Path, tmp_path: Path) -> None:
    path = changed(good, tmp_path / "iq2.gguf")
    claim, findings, _ = judge_claim(path, read_header(path))
    assert claim.mix == "Q4_K_M"
    assert what_matters(findings)["name"] == "its name says IQ2, its general.file_type Q4_K_M"


# -- metadata


@pytest.mark.parametrize(
    ("metadata", "matters", "said"),
    [
        ({"general.architecture": None}, True, "general.architecture is missing"),
        ({"llama.context_length": None}, True, "llama.context_length is missing"),
        ({"llama.attention.head_count": None}, True, "llama.attention.head_count is missing"),
        ({"llama.rope.freq_base": None}, False, "10000 is assumed"),
        ({"llama.block_count": MetaValue("uint32", 7)}, True, "7 layers, and has 6"),
        ({"tokenizer.ggml.tokens": None}, True, "it has no vocabulary"),
        ({"tokenizer.ggml.pre": None}, True, "tokenizer.ggml.pre is missing"),
        ({"tokenizer.ggml.pre": MetaValue("string", "default")}, False, "is 'default'"),
        ({"tokenizer.ggml.merges": None}, True, "tokenizer.ggml.merges is missing"),
        ({"tokenizer.ggml.eos_token_id": None}, True, "an answer may never end"),
        ({"tokenizer.ggml.bos_token_id": None}, False, "bos_token_id is missing"),
        ({"tokenizer.ggml.eos_token_id": MetaValue("uint32", 4096)}, True, "not one of the 4096"),
        ({"tokenizer.ggml.eos_token_id": MetaValue("string", "x")}, True, "not one of the 4096"),
        ({"general.license": None}, False, "general.license is missing"),
        ({"tokenizer.chat_template": None}, False, "no chat template"),
        (
            {"tokenizer.ggml.token_type": MetaValue("array", np.ones(3, "<i4"), "int32")},
            True,
            "4096 tokens, but 3 entries",
        ),
        (
            {"tokenizer.ggml.tokens": MetaValue("array", ["a", "b"], "string")},
            True,
            "the vocabulary has 2 tokens, and the embedding 4096",
        ),
        ({"quantize.imatrix.file": MetaValue("string", "x")}, False, "its calibration text"),
    ],
    ids=str,
)
def test_holes_in_metadata(
    good: Path, tmp_path: Path, metadata: dict[str, Any], matters: bool, said: str
) -> None:
    found = judge_metadata(read_header(changed(good, tmp_path / "m.gguf", metadata)))
    assert [finding.matters for finding in found if said in finding.what] == [matters]


def test_few_bits_without_an_importance_matrix_are_noted(folder: Path, wide: Path) -> None:
    quantize_file(wide, folder / "few.gguf", "Q2_K")
    found = judge_metadata(read_header(folder / "few.gguf"))
    assert any("fewer than 4 bits" in finding.what for finding in found)


def test_a_file_of_another_kind_is_not_asked_for_a_vocabulary(good: Path, tmp_path: Path) -> None:
    adapter = {"general.type": MetaValue("string", "adapter"), "tokenizer.ggml.tokens": None}
    path = changed(good, tmp_path / "m-Q4_K_M.gguf", adapter)
    found = audit(path)
    assert found.sound
    assert (found.loading.how, found.loading.detail) == ("not run", "it is not a language model")


def test_a_vocabulary_alone_is_named_so(good: Path, tmp_path: Path) -> None:
    path = changed(good, tmp_path / "vocabulary.gguf", without=tuple(read_header(good).tensors))
    found = audit(path)
    assert what_matters(found.findings) == {
        "metadata": "it holds a vocabulary and no weights: it is not a model"
    }
    assert (found.loading.how, found.loading.detail) == ("not run", "it holds no weights")


def test_bytes_behind_the_last_tensor_are_noticed(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "more.gguf"
    assert not any("last tensor" in found.what for found in judge_metadata(read_header(good)))
    for more, what in ((b"x", "a byte follows"), (bytes(4096), "4,096 bytes follow")):
        path.write_bytes(good.read_bytes() + more)
        (found,) = (f for f in judge_metadata(read_header(path)) if "last tensor" in f.what)
        assert found.what.startswith(what) and not found.matters


# -- values of weights


def entry_of(path: Path, type: str, blocks: np.ndarray) -> TensorEntry:
    """A file of nothing but blocks, and a tensor that is them."""
    path.write_bytes(blocks.tobytes())
    shape = (len(blocks), TYPES[type].block)
    return TensorEntry("t", shape, TYPES[type], 0, blocks.nbytes, path)


READABLE = (*_SCALES, *_FLOATS, "BF16", "IQ1_M")
SCALED = [kind.name for kind in gguf.GGMLQuantizationType if kind.name in READABLE]


@pytest.mark.parametrize("name", SCALED)
def test_scales_are_where_they_are_looked_for(tmp_path: Path, name: str) -> None:
    """Against the gguf package's dequantizer, on blocks of random bytes and on quantized zeros."""
    type = TYPES[name]
    kind = gguf.GGMLQuantizationType[name]
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (4000, type.block_bytes)).astype(np.uint8)
    with np.errstate(all="ignore"):
        try:
            values = gguf.quants.dequantize(blocks, kind)
        except NotImplementedError:
            pytest.skip(f"the gguf package cannot read {name}")
    seen = look(tmp_path / "t", entry_of(tmp_path / "t", name, blocks))
    broken = ~np.isfinite(values).all(1)
    assert seen.not_finite == broken.sum()
    assert broken.any()  # so there was something to find
    assert (
        seen.problem
        == f"{broken.sum()} {'weights' if type.block == 1 else 'blocks'} are NaN or infinite"
    )
    nothing = np.zeros((8, type.block_bytes), np.uint8)
    seen = look(tmp_path / "t", entry_of(tmp_path / "t", name, nothing))
    assert seen.problem == "all its weights are zero"


def test_scales_that_are_powers_of_two(tmp_path: Path) -> None:
    """MXFP4 has no zero scale, and one that is no number (OCP Microscaling, E8M0)."""
    blocks = np.full((100, 17), 120, np.uint8)
    assert look(tmp_path / "t", entry_of(tmp_path / "t", "MXFP4", blocks)).problem is None
    blocks[7, 0] = 255
    found = look(tmp_path / "t", entry_of(tmp_path / "t", "MXFP4", blocks)).problem
    assert found == "1 block is NaN or infinite"


def test_a_ratio_of_scales_is_told_whole(tmp_path: Path) -> None:
    blocks = np.full((100, 17), 20, np.uint8)  # MXFP4: 2^-107
    blocks[7, 0] = 127
    found = look(tmp_path / "t", entry_of(tmp_path / "t", "MXFP4", blocks)).problem
    assert found == "its largest scale is over 2^107 times the median one"


def test_scales_that_cannot_be(tmp_path: Path) -> None:
    scales = np.full(5000, 0.01, "<f2")
    blocks = np.zeros((5000, 18), np.uint8)
    blocks[:, :2] = scales.view(np.uint8).reshape(-1, 2)
    assert look(tmp_path / "t", entry_of(tmp_path / "t", "Q4_0", blocks)).problem is None
    blocks[7, :2] = np.array([1000.0], "<f2").view(np.uint8)
    found = look(tmp_path / "t", entry_of(tmp_path / "t", "Q4_0", blocks)).problem
    assert found is not None and "times the median" in found
    floats = np.ones((40, 4), np.uint8)
    floats[3] = np.array([1e6], "<f4").view(np.uint8)
    found = look(tmp_path / "t", entry_of(tmp_path / "t", "F32", floats)).problem
    assert found is not None and "beyond the range of float16" in found


def test_broken_weights_matter(good: Path, tmp_path: Path) -> None:
    def nan(own: bytes) -> bytes:
        return own[: 144 * 100] + np.array([np.nan], "<f2").tobytes() + own[144 * 100 + 2 :]

    data = {
        "blk.2.ffn_up.weight": nan,
        "blk.1.attn_k.weight": lambda own: bytes(len(own)),
        "blk.0.attn_norm.weight": lambda own: bytes(len(own)),
    }
    path = changed(good, tmp_path / "m-Q4_K_M.gguf", data=data)
    found = audit(path)
    assert not found.sound
    said = {finding.what: finding.matters for finding in found.findings}
    assert said["blk.2.ffn_up.weight (Q4_K): 1 block is NaN or infinite"]
    assert said["blk.1.attn_k.weight (Q4_K): all its weights are zero"]
    assert not said["blk.0.attn_norm.weight (F32): all its weights are zero"]
    # Rounding activations to 8 bits swallows a NaN: predictions alone would not have shown it.
    assert found.loading.passed


# -- tokenizer and chat template


def reference_with(folder: Path, **settings: Any) -> Path:
    """The reference with another tokenizer_config.json."""
    shutil.copytree(WREN, folder)
    file = folder / "tokenizer_config.json"
    file.chmod(0o644)
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def test_chat_templates(tmp_path: Path) -> None:
    one = reference_with(tmp_path / "one", chat_template="{{ x }}")
    several = [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]
    many = reference_with(tmp_path / "n", chat_template=several)
    assert reference.judge_template("d", many)[0].passed
    for own, directory, passed, matters, said in (
        (None, WREN, True, [], "neither has one"),
        ("{{ x }}", one, True, [], "the same"),
        (None, one, False, [True], "the reference has one and the file has none"),
        ("{{ x }}", WREN, False, [False], "the file has one and the reference has none"),
        ("{{ y }}", one, False, [True], "at character 3 the file has 'y }}'"),
    ):
        outcome, findings = reference.judge_template(own, directory)
        assert outcome.passed is passed and said in outcome.detail
        assert [finding.matters for finding in findings] == matters
    (one / "chat_template.jinja").write_text("jinja")
    assert reference.judge_template("jinja", one)[0].passed


def test_another_tokenizer_is_found(good: Path, tmp_path: Path) -> None:
    pre = {"tokenizer.ggml.pre": MetaValue("string", "llama-bpe")}
    path = changed(good, tmp_path / "m-Q4_K_M.gguf", pre)
    said = refused_reference(path, WREN)
    assert "texts are tokenized differently from the reference" in said["tokenizer"]
    bos = {"tokenizer.ggml.add_bos_token": MetaValue("bool", True)}
    said = refused_reference(changed(good, tmp_path / "n-Q4_K_M.gguf", bos), WREN)
    assert "with special tokens 'a' is [0, 66], in the reference [66]" in said["tokenizer"]


def test_two_tokens_that_changed_places_are_found(good: Path, tmp_path: Path) -> None:
    """No hard text uses either of them."""
    directory = swapped_reference(tmp_path / "reference", 1000, 1001)
    tokens = read_header(good).metadata["tokenizer.ggml.tokens"].value
    (finding,) = reference.judge_table(read_header(good), directory)
    assert finding.matters
    first = f"2 of 4096 tokens are not the reference's, the first is 1000: {tokens[1000]!r}"
    assert finding.what == f"{first}, not {tokens[1001]!r}"
    assert not reference.judge_table(read_header(good), WREN)
    added = swapped_reference(tmp_path / "added", 0, 1)
    assert "2 of 4096 tokens" in reference.judge_table(read_header(good), added)[0].what


def test_a_text_that_is_cut_otherwise_matters(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Met only where the divergence is taken: the other checks are shut off."""
    pytest.importorskip("torch", reason="the build side is not installed")
    pytest.importorskip("transformers", reason="the build side is not installed")
    directory = swapped_reference(tmp_path / "reference", 1000, 1001)
    path = shutil.copyfile(good, tmp_path / "wren-Q4_K_M.gguf")
    token = read_header(good).metadata["tokenizer.ggml.tokens"].value[1000]
    text = tmp_path / "text.txt"
    text.write_text(f"{token.replace('Ġ', ' ')} " * 2000, encoding="utf-8")
    with monkeypatch.context() as patched:
        patched.setattr(reference, "judge_table", lambda header, directory: [])
        found = audit(path, directory, text)
    assert not found.sound and found.quality is None and found.tokenizer.passed is False
    assert "tokenizes the text differently" in what_matters(found.findings)["tokenizer"]
    found = audit(path, directory, text)
    subjects = [finding.subject for finding in found.findings if finding.matters]
    assert subjects == ["tokenizer"] and "4096 tokens are not" in found.verdict


def swapped_reference(folder: Path, one: int, other: int) -> Path:
    """The reference with two ids of its vocabulary changed."""
    shutil.copytree(WREN, folder)
    file = folder / "tokenizer.json"
    file.chmod(0o644)
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    swap = {one: other, other: one}
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {text: swap.get(id, id) for text, id in vocabulary.items()}
    for token in tokenizer["added_tokens"]:
        token["id"] = swap.get(token["id"], token["id"])
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


# -- layers and widths


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"num_hidden_layers": 5}, "6 layers, not 5"),
        ({"hidden_size": 512}, "256 hidden values, not 512"),
        ({"num_attention_heads": 8}, "4 heads, not 8"),
        ({"num_key_value_heads": 4}, "2 key-value heads, not 4"),
        ({"intermediate_size": 700}, "768 feed-forward values, not 700"),
        ({"vocab_size": 4000}, "4096 rows of the vocabulary, not 4000"),
    ],
    ids=str,
)
def test_another_structure_matters(
    good: Path, tmp_path: Path, setting: dict[str, int], said: str
) -> None:
    outcome, findings = judge_structure(read_header(good), configured(tmp_path / "r", **setting))
    assert outcome.passed is False and outcome.detail == said
    assert said in what_matters(findings)["structure"]


def test_layers_that_each_have_their_own_width(good: Path, tmp_path: Path) -> None:
    path, values = tmp_path / "m.gguf", np.full(6, 768, "<i4")
    key = "llama.feed_forward_length"
    changed(good, path, {key: MetaValue("array", values, "int32")})
    assert judge_structure(read_header(path), WREN)[0].passed
    values[2] = 700
    changed(good, path, {key: MetaValue("array", values, "int32")})
    outcome, _ = judge_structure(read_header(path), WREN)
    assert outcome.detail == "700/768 feed-forward values, not 768"


def test_an_unknown_architecture_is_told(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no torch', name='torch')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = shutil.copyfile(good, tmp_path / "wren-Q4_K_M.gguf")
    found = audit(path, configured(tmp_path / "r", model_type="falcon_h1"))
    assert found.structure.how == "not run"
    assert "its layers and widths could not be compared with the reference's" in found.verdict
    (finding,) = [finding for finding in found.findings if finding.subject == "structure"]
    assert "the architecture 'falcon_h1' is not supported" in finding.what
    known = audit(path, WREN)
    assert known.structure.passed and "it has the reference's layers and widths" in known.verdict


def configured(folder: Path, **settings: Any) -> Path:
    """The reference with another config.json."""
    shutil.copytree(WREN, folder)
    file = folder / "config.json"
    file.chmod(0o644)
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def refused_reference(path: Path, directory: Path) -> dict[str, str]:
    """What matters in the tokenizer of a file against a reference; no KL is taken."""
    texts = reference.hard_texts(directory)
    reply = runs.tokens_of(path, texts, str)
    outcome, findings = reference.judge_tokens(texts, reply["ids"], reply["around"], directory)
    assert outcome.passed is False
    return what_matters(findings)


# -- quality


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


# -- the command


def test_what_is_asked_wrongly_is_refused(good: Path, tmp_path: Path) -> None:
    for arguments, said in (
        ([good, "--text", TEXT], "--reference DIR"),
        ([good, "--reference", tmp_path], "config.json"),
        ([good, "--reference", WREN, "--text", tmp_path / "none"], "no such file"),
        ([tmp_path / "none.gguf"], "does not exist"),
        ([tmp_path], "is not a file"),
    ):
        assert said in refused(run_edgeq("audit", *arguments, store=tmp_path, cwd=tmp_path), 2)


def test_the_command_needs_no_torch(good: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from edgeq.pipeline.audit.run import audit; from pathlib import Path; "
        f"found = audit(Path({str(good)!r})); assert found.sound; "
        "heavy = {'torch', 'transformers', 'onnx', 'onnx_ir', 'xllamacpp'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_importance_matrix_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    write_gguf(path, {"general.type": MetaValue("string", "imatrix")}, [], lambda name: ())
    said = refused(run_edgeq("audit", path, store=tmp_path, cwd=tmp_path), 2)
    assert "is an importance matrix, not a model" in " ".join(said.split())


def test_a_malformed_header_is_an_error_not_a_finding(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(InvalidInput, match="would end at byte"):
        audit(path)
