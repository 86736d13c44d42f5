"""The rules for mixes against what llama.cpp's quantizer chose, recorded and live."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from edgeq.core.errors import InvalidInput
from edgeq.formats.gguf.header import read_header
from edgeq.quantize.ggml.mixes import (
    MIXES,
    file_order,
    file_type,
    is_quantized,
    mix_types,
    needs_importance,
)
from edgeq.quantize.ggml.words import GgufMix
from tests.support.mix_cases import CASES, PYTHON, Case, ask, interpreter, job

WAYS = ("without", "with")


@functools.cache
def recorded() -> dict[str, Any]:
    """See tests/data/make_llama_mixes.py."""
    held: dict[str, Any] = json.loads(
        Path(__file__).parents[1].joinpath("data").joinpath("llama_mixes.json").read_text()
    )
    return held


def _ours(case: Case, mix: str, way: str) -> dict[str, str]:
    types = mix_types(mix, case.tensors, case.facts, way == "with")
    return {name: type.name for name, type in types.items()}


@pytest.mark.parametrize("name", CASES)
def test_types_are_what_llama_cpp_chose(name: str) -> None:
    case, answers = CASES[name], recorded()["cases"][name]
    legend, compared = recorded()["types"], 0
    for way in WAYS:
        for mix, letters in (answers["without"] | answers[way]).items():
            if f"{mix} {way}" in answers["refused"]:
                continue
            wanted = zip(case.tensors, letters, strict=True)
            assert _ours(case, mix, way) == {x: legend[letter] for (x, _), letter in wanted}, mix
            compared += 1
    assert compared + len(answers["refused"]) == 2 * len(MIXES)


@pytest.mark.parametrize("name", CASES)
def test_llama_cpp_refused_what_needs_importance_and_nothing_else(name: str) -> None:
    case = CASES[name]
    needs = set()
    for mix in MIXES:
        types = mix_types(mix, case.tensors, case.facts, False)
        if any(needs_importance(mix, x, type) for x, type in types.items()):
            needs.add(f"{mix} without")
    assert set(recorded()["cases"][name]["refused"]) == needs


def test_types_do_not_depend_on_the_order_of_tensors() -> None:
    case = CASES["llama"]
    shuffled = random.Random(0).sample(case.tensors, len(case.tensors))
    for mix in MIXES:
        types = mix_types(mix, shuffled, case.facts, True)
        assert list(types) == [name for name, _ in shuffled]
        assert types == mix_types(mix, case.tensors, case.facts, True)


def test_every_mix_of_a_recipe_is_known() -> None:
    assert set(get_args(GgufMix)) <= set(MIXES)


def test_an_unknown_mix_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Q4_K_XL"):
        mix_types("Q4_K_XL", CASES["llama"].tensors, CASES["llama"].facts, False)


def test_file_types_are_those_of_llama_cpp() -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")
    names = {"F32": "ALL_F32", "MXFP4_MOE": "MOSTLY_MXFP4_MOE"}
    known = {
        mix: getattr(gguf.LlamaFileType, names.get(mix, f"MOSTLY_{mix}"), None) for mix in MIXES
    }
    assert {mix: file_type(mix) for mix in known if known[mix] is not None} == {
        mix: int(number) for mix, number in known.items() if number is not None
    }
    assert sum(number is not None for number in known.values()) >= len(MIXES) - 1


def test_order_is_by_layer_then_name() -> None:
    names = [
        "token_embd.weight",
        "blk.10.a.weight",
        "blk.2.b.weight",
        "blk.2.a.weight",
        "output.weight",
    ]
    assert file_order(names) == [names[4], names[0], names[3], names[2], names[1]]


@pytest.mark.parametrize(
    ("name", "shape", "quantized"),
    [
        ("blk.0.attn_q.weight", (8, 8), True),
        ("blk.0.attn_q.bias", (8, 8), False),
        ("blk.0.attn_q.weight", (8,), False),
        ("blk.0.attn_q.weight", (1, 8), False),
        ("blk.0.ffn_up_exps.weight", (4, 1, 8), True),
        ("blk.0.attn_q_norm.weight", (8, 8), False),
        ("blk.0.ffn_gate_inp.weight", (8, 8), False),
        ("position_embd.weight", (8, 8), False),
        ("token_types.weight", (2, 8), False),
        ("rope_freqs.weight", (8,), False),
    ],
)
def test_what_mixes_touch(name: str, shape: tuple[int, ...], quantized: bool) -> None:
    assert is_quantized(name, shape) is quantized


LIVE = ("llama-tied-shared", "llama-576", "qwen2", "bert", "phi3", "gemma2", "mixtral")


def test_live_llama_cpp_chooses_the_same(tmp_path: Path) -> None:
    python = interpreter()
    if python is None:
        pytest.skip(f"no llama-cpp-python here, and {PYTHON} names no interpreter that has it")
    jobs, wanted = [], []
    for name in LIVE:
        case = CASES[name]
        source = case.write(tmp_path / f"{name}.gguf")
        importance: dict[str, Any] = dict(case.importance(0))
        np.savez(tmp_path / f"{name}.npz", **importance)
        for mix in ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_S", "Q6_K", "Q4_0", "IQ4_XS", "F16"):
            for way in WAYS:
                more = {"importance": str(tmp_path / f"{name}.npz")} if way == "with" else {}
                jobs.append(job(source, tmp_path / f"{name}-{mix}-{way}.gguf", mix, **more))
                wanted.append(_ours(case, mix, way))
    for task, answer, types in zip(jobs, ask(python, jobs), wanted, strict=True):
        assert answer["failure"] == ""
        tensors = read_header(Path(task["destination"])).tensors
        assert {name: entry.type.name for name, entry in tensors.items()} == types
        assert list(tensors) == file_order(types)
