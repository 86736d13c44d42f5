"""What a GGUF file claims to be, and whether its tensors agree."""

from __future__ import annotations

import functools
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf", reason="the gguf package is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")


from edgeq.formats.gguf.header import MetaValue, read_header
from edgeq.formats.gguf.requantize import quantize_file
from edgeq.formats.gguf.writer import write_gguf
from edgeq.pipeline.audit.claims import judge_claim, label_in
from edgeq.pipeline.audit.metadata import judge_metadata
from edgeq.pipeline.audit.records import Audit
from edgeq.pipeline.audit.values import look
from edgeq.quantize.ggml.mixes import MIXES, file_type
from edgeq.quantize.ggml.types import TYPES, nbytes
from tests.support.audited import FILE_TYPE, TEXT, WEIGHTS, WREN, changed, what_matters
from tests.support.commands import answered, for_a_person, run_edgeq


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
