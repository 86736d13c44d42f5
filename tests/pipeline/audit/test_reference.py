"""A GGUF file and the model that it came from: tokenizer, chat template, layers and widths."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gguf", reason="the gguf package is not installed")
pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")


from edgeq.formats.gguf.header import MetaValue, read_header
from edgeq.pipeline.audit import reference, runs
from edgeq.pipeline.audit.run import audit
from edgeq.pipeline.audit.structure import judge_structure
from tests.support.audited import WREN, changed, what_matters


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


def test_layers_without_attention_have_no_heads(good: Path, tmp_path: Path) -> None:
    path, counts = tmp_path / "m.gguf", np.array([0, 2, 0, 2, 2, 0], "<i4")
    key = "llama.attention.head_count_kv"
    changed(good, path, {key: MetaValue("array", counts, "int32")})
    assert judge_structure(read_header(path), WREN)[0].passed
    counts[1] = 4
    changed(good, path, {key: MetaValue("array", counts, "int32")})
    assert judge_structure(read_header(path), WREN)[0].detail == "2/4 key-value heads, not 2"


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
