"""Language models measured and judged: when to stop, what the times say, what a budget gets."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.devices.catalogue import load_device
from edgeq.devices.profile import Device, InstructionSet
from edgeq.formats.gguf.instructions import lacking
from edgeq.measure.generation import Timing, summarise, time_texts
from edgeq.pipeline.check.verdict import Verdict
from edgeq.report.console import make_console
from edgeq.report.terminal import print_verdict
from tests.support.properties import examples
from tests.support.table_model import VOCABULARY, Table
from tests.support.verdicts import (
    CONDITIONS,
    MIB,
    divergence,
    full_precision,
    language_model,
    line,
    spoken,
    verdict,
)

BUDGETS = {
    "memory": {"peak": "200 MiB"},
    "latency": {"first_token": "300 ms"},
    "speed": {"prompt": "300 tok/s", "generation": "10 tok/s"},
    "quality": {"kl": 0.02, "kl_p99": 0.1, "top1": 0.95, "perplexity": 1.02},
}
SLOWER = full_precision(
    latency=None, generation=spoken(first=0.4, token=0.1), memory=language_model().memory
)


class Clock:
    """Counts up by what each token of the model is said to take."""

    def __init__(self, model: Table, seconds: float) -> None:
        self._model, self._seconds = model, seconds

    def __call__(self) -> float:
        return self._model.runs * self._seconds


PROMPT = np.arange(10, dtype=np.int32) % VOCABULARY


@pytest.mark.parametrize(
    ("seconds", "effort", "texts"),
    [
        (0.001, "quick", 128),  # as many as there may be
        (0.1, "quick", 20),  # 5 runs a text: 10 s
        (10.0, "quick", 6),  # the least that has an interval
        (0.001, "full", 12000),  # 60 s
        (10.0, "full", 64),  # the least of a full pass
    ],
)
def test_when_enough_texts_are_timed(seconds: float, effort: Any, texts: int) -> None:
    model = Table()
    timing = time_texts(model, PROMPT, 4, effort, clock=Clock(model, seconds))
    assert len(timing.first) == len(timing.tokens) == texts
    assert timing.first == pytest.approx([seconds] * texts)
    assert {len(tokens) for tokens in timing.tokens} == {4}
    assert timing.tokens[-1] == pytest.approx([seconds] * 4)


def test_every_text_is_the_same_and_begins_anew() -> None:
    """Ends are passed over, so that all texts are as long."""
    ends = frozenset(range(VOCABULARY))
    model = Table(ends=ends, context=14)
    timing = time_texts(model, PROMPT, 4, "quick", clock=Clock(model, 0.001))
    assert len(timing.tokens) == 128  # a cache of 14 positions holds one text


positive = st.floats(1e-6, 1e3)


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=30), st.integers(1, 2000))
@examples(50)
def test_speeds_are_tokens_by_seconds(times: list[tuple[float, float]], prompt: int) -> None:
    timing = Timing([first for first, _ in times], [[token] * 3 for _, token in times])
    found = summarise(timing, prompt, 0.1, CONDITIONS)
    assert found.first_token_seconds == tuple(timing.first)
    assert len(found.token_seconds) == 3 * len(times)
    for rate, seconds, tokens in (
        (found.prompt_speed, timing.first, prompt),
        (found.generation_speed, [sum(text) for text in timing.tokens], 3),
    ):
        speeds = [tokens / each for each in seconds]
        assert min(speeds) <= rate.tokens_per_second <= max(speeds)
        assert rate.low_tokens_per_second <= rate.tokens_per_second
        high = rate.high_tokens_per_second
        assert high is None or high >= rate.tokens_per_second
        # A median of fewer than six has no interval.
        assert (rate.low_tokens_per_second == 0) == (len(times) < 6)


def test_everything_kept_is_a_pass_with_its_intervals() -> None:
    found = verdict(BUDGETS, measured=language_model(), baseline=SLOWER)
    assert (found.status, found.exit_status) == ("pass", 0)
    generation = line(found, "speed.generation")
    assert generation.value == pytest.approx(20, rel=1e-3)
    assert generation.float_value == pytest.approx(10, rel=1e-3)
    assert generation.low is not None and generation.low < 20
    assert generation.bound == "at least" and generation.margin == pytest.approx(10, rel=1e-2)
    assert line(found, "speed.prompt").value == pytest.approx(640, rel=1e-3)
    first = line(found, "latency.first_token")
    assert first.value == spoken().first_token_p90.seconds
    assert line(found, "quality.kl_p99").value == 0.08


@pytest.mark.parametrize(
    ("group", "key", "bound", "status"),
    [
        ("latency", "first_token", "100 ms", "fail"),
        ("speed", "generation", "30 tok/s", "fail"),
        ("speed", "prompt", "640 tok/s", "inconclusive"),
        ("quality", "kl", 0.005, "fail"),
        ("quality", "kl", 0.011, "inconclusive"),  # 0.01 ± 1.96 · 0.001
        ("quality", "kl", 0.013, "pass"),
        ("quality", "kl_p99", 0.0805, "inconclusive"),
        ("quality", "top1", 0.972, "inconclusive"),
        ("quality", "top1", 0.98, "fail"),
        ("quality", "perplexity", 1.008, "inconclusive"),
        ("quality", "perplexity", 1.001, "fail"),
    ],
)
def test_a_budget_within_the_interval_is_inconclusive(
    group: str, key: str, bound: Any, status: str
) -> None:
    found = verdict({group: {key: bound}}, measured=language_model(), baseline=SLOWER)
    seen = line(found, f"{group}.{key}")
    assert seen.status == status
    assert (seen.remedy == "") == (status == "pass")


def test_a_speed_that_a_remedy_names_is_one_that_is_reached() -> None:
    failed = line(
        verdict({"speed": {"generation": "30 tok/s"}}, measured=language_model(), baseline=SLOWER),
        "speed.generation",
    )
    named = failed.remedy.split("a budget of ")[1]
    again = verdict({"speed": {"generation": named}}, measured=language_model(), baseline=SLOWER)
    assert line(again, "speed.generation").status == "pass"


def test_the_noise_floor_stands_beside_the_divergence() -> None:
    found = verdict({"quality": {"kl": 0.02}}, measured=language_model(), baseline=SLOWER)
    reason = line(found, "quality.kl").reason
    assert reason == "noise floor 2.0e-13 of full precision, 8.4e-05 of its own"
    assert "noise floor 2.0e-13" in " ".join(printed(found).split())


def test_the_cache_is_told_apart_from_the_rest() -> None:
    notes = verdict({}, measured=language_model(), baseline=SLOWER).notes
    assert "of the memory, 6.0 MiB are the KV cache of 1024 positions (allocated)" in notes


def test_no_gain_over_float_is_said_of_prompts_and_of_tokens() -> None:
    slow = language_model(generation=spoken(first=0.5, token=0.1))
    notes = " | ".join(verdict({}, measured=slow, baseline=SLOWER).notes)
    assert "slower than float: p50 to the first token 499.9 ms compared with 399.9 ms" in notes
    assert "not faster than float beyond the noise: p50 a token 100" in notes


GENERIC = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | OPENMP = 1 | REPACK = 1"
NATIVE = f"{GENERIC} | AVX512 = 1 | AVX512_VNNI = 1"
X86: tuple[InstructionSet, ...] = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
)


def test_what_a_build_cannot_use() -> None:
    assert lacking(GENERIC, X86) == ["avx512", "avx512_vnni", "avx_vnni"]
    assert lacking(NATIVE, X86) == []  # byte products in one form stand for the other
    assert lacking(GENERIC, X86[:5]) == []  # an older CPU has no more than this
    assert lacking("", X86) == []
    arm = "CPU : NEON = 1 | ARM_FMA = 1 | DOTPROD = 0 | LLAMAFILE = 1"
    assert lacking(arm, ("neon", "fp16", "dotprod", "i8mm")) == ["fp16", "dotprod", "i8mm"]


def of_build(instructions: str) -> Any:
    """Times of a build of llama.cpp."""
    changes = {"runtime": "llama.cpp of xllamacpp 1", "instructions": instructions}
    return spoken(conditions=CONDITIONS.model_copy(update=changes))


def x86_here(sets: tuple[str, ...] = X86) -> Device:
    """This machine, with the instruction sets of a server's CPU."""
    return load_device("here").model_copy(update={"arch": "x86_64", "instruction_sets": sets})


@pytest.mark.parametrize("bound", ["1 tok/s", "10000 tok/s"])
def test_times_of_a_generic_build_are_not_the_devices(bound: str) -> None:
    """Neither a pass, where the bound is kept, nor a failure, where it is not."""
    budgets = {"speed": {"generation": bound}, "latency": {"first_token": "1 s"}}
    measured = language_model(generation=of_build(GENERIC))
    found = verdict(budgets, measured=measured, baseline=SLOWER, device=x86_here())
    speed, first = line(found, "speed.generation"), line(found, "latency.first_token")
    for seen in (speed, first):
        assert (seen.status, seen.how, seen.value) == ("not run", "not run", None)
        assert "is built without avx512, avx512_vnni, avx_vnni, which this CPU has" in seen.reason
        assert "EDGEQ_LLAMA=llama_cpp, without `library` in an address" in seen.remedy
    assert "20 tok/s is a lower bound, not this device's" in speed.reason
    assert "is an upper bound" in first.reason
    assert found.measurement.generation is not None
    assert found.measurement.generation.conditions.instructions == GENERIC
    assert found.exit_status == 3


def test_times_of_a_build_that_uses_all_the_device_has_count() -> None:
    budgets = {"speed": {"generation": "10 tok/s"}}
    for build, sets in ((NATIVE, X86), (GENERIC, X86[:5]), ("", X86)):
        measured = language_model(generation=of_build(build))
        found = verdict(budgets, measured=measured, baseline=SLOWER, device=x86_here(sets))
        assert line(found, "speed.generation").status == "pass"


def test_a_failed_pass_is_a_failure_with_its_reason() -> None:
    reason = "the quality pass was killed by SIGKILL"
    broken = language_model(language=None, failures={"quality": reason})
    found = verdict(BUDGETS, measured=broken, baseline=SLOWER)
    for budget in ("quality.kl", "quality.kl_p99", "quality.perplexity", "quality.top1"):
        assert (line(found, budget).status, line(found, budget).value) == ("fail", None)
        assert reason in line(found, budget).reason


def printed(found: Verdict) -> str:
    output = io.StringIO()
    print_verdict(found, make_console(output))
    return output.getvalue()


def verdicts() -> Iterator[Verdict]:
    near = language_model(
        language=divergence(kl=0.0195, ratio=1.0195),
        generation=spoken(first=0.2995, token=0.0999),
        memory=language_model().memory,
    )
    for measured in (language_model(), near, language_model(generation=of_build(GENERIC))):
        for device in (x86_here(), load_device("pi5-8gb"), load_device("iphone-14")):
            yield verdict(BUDGETS, measured=measured, baseline=SLOWER, device=device)


def test_the_table_is_plain_and_80_columns_wide_where_piped() -> None:
    for found in verdicts():
        text = printed(found)
        assert text.isascii()
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80, text
        assert all(one.budget in text for one in found.lines)


def test_json_of_a_verdict_is_read_back() -> None:
    for found in verdicts():
        assert Verdict.model_validate_json(found.model_dump_json()) == found
    assert found.measurement.memory is not None
    assert found.measurement.memory.cache_bytes == 6 * MIB
