"""Budgets of time: runs until they are decided, at a stated error, and what disturbs them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgeq.devices.catalogue import load_device
from edgeq.measure.disturbance import disturbance
from edgeq.measure.forecast import foretell
from edgeq.measure.generation import targets, time_texts
from edgeq.measure.latency import time_runs
from edgeq.measure.order_statistics import quantile
from edgeq.measure.records import Latency
from edgeq.measure.sequential import Limit, needed, settle, tails
from edgeq.pipeline.check.judge import judge
from edgeq.pipeline.check.subject import Subject
from edgeq.recipe.budgets import Budgets
from tests.support import verdicts
from tests.support.table_model import VOCABULARY, Table
from tests.support.verdicts import CONDITIONS, full_precision, latency, line, measurement


class Runs:
    """Times drawn from a list, on a clock that they drive."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.samples: list[float] = []
        self.now = 0.0
        self._seconds = itertools.cycle(seconds)

    def take(self) -> None:
        self.samples.append(next(self._seconds))
        self.now += self.samples[-1]

    def settled(self, *limits: Limit, first: int = 6) -> tuple[int, ...]:
        for _ in range(first):
            self.take()
        return settle(self.samples, limits, self.take, "quick", lambda: self.now)


def decided(runs: Runs, limit: Limit, looks: tuple[int, ...]) -> str:
    found = quantile(runs.samples, limit.q, tails(limit.q, looks))
    if found.high_seconds is not None and found.high_seconds <= limit.seconds:
        return "kept"
    return "missed" if found.low_seconds > limit.seconds else "open"


@pytest.mark.parametrize("seconds", [0.3, 1.0, 5.0, 14.0])
def test_a_slow_model_gets_the_runs_that_its_p90_needs(seconds: float) -> None:
    """What ended before after 10 s, for ever without an upper end."""
    runs, limit = Runs([seconds]), Limit(0.9, 1.1 * seconds)
    looks = runs.settled(limit)
    assert decided(runs, limit, looks) == "kept"
    assert len(runs.samples) == needed(0.9) == 39


def test_a_budget_far_away_needs_six_runs() -> None:
    runs, limit = Runs([5.0, 5.1]), Limit(0.9, 0.5)
    assert decided(runs, limit, runs.settled(limit)) == "missed"
    assert len(runs.samples) == 6
    runs, limit = Runs([5.0, 5.1]), Limit(0.5, 6.0)
    assert decided(runs, limit, runs.settled(limit)) == "kept"
    assert len(runs.samples) == 6


def test_a_pass_ends_though_nothing_is_decided() -> None:
    runs, limit = Runs([1.0, 1.0, 3.0, 3.0]), Limit(0.5, 2.0)
    looks = runs.settled(limit)
    assert decided(runs, limit, looks) == "open"
    assert 60 <= runs.now <= 75


def test_a_time_that_equals_the_limit_keeps_it_and_does_not_miss_it() -> None:
    runs, limit = Runs([1.0]), Limit(0.9, 1.0)
    looks = runs.settled(limit)
    assert (decided(runs, limit, looks), looks) == ("kept", (6, 39))


@pytest.mark.parametrize(
    ("seconds", "limit", "looks"),
    [
        ([1.0, 3.0], Limit(0.5, 2.0), (6, 9, 14, 21, 32, 36)),  # after 60 s, of which 12 are before
        ([2.0] * 9 + [3.0], Limit(0.9, 2.5), (6, 39)),  # 60 s are over before 39 runs
        ([200.0], Limit(0.9, 250.0), (6, 9)),  # 10 min are over
    ],
)
def test_a_pass_ends_when_its_time_is_over(
    seconds: list[float], limit: Limit, looks: tuple[int, ...]
) -> None:
    runs = Runs(seconds)
    assert runs.settled(limit) == looks
    assert len(runs.samples) == looks[-1]
    assert decided(runs, limit, looks) == "open"


def test_the_looks_together_err_as_often_as_stated() -> None:
    """At its very limit a budget is decided wrongly in at most 2.5 % on each side."""
    generator = np.random.default_rng(0)
    trials = 400
    words = []
    for _ in range(trials):
        runs = Runs(generator.exponential(size=3000).tolist())
        limit = Limit(0.9, float(-np.log(0.1)))
        words.append(decided(runs, limit, runs.settled(limit)))
        # Nothing ends early but by the interval that decides in the end.
        assert words[-1] != "open" or runs.now > 60
    most = 0.025 * trials + 3 * np.sqrt(0.025 * 0.975 * trials)
    assert words.count("kept") <= most
    assert words.count("missed") <= most


@pytest.mark.parametrize("q", [0.5, 0.9])
@pytest.mark.parametrize("sizes", [(6, 39, 59, 89), (128, 192, 288), (10, 15), (6,)])
def test_what_is_spent_at_all_looks_is_what_there_is(q: float, sizes: tuple[int, ...]) -> None:
    for side, chance in ((0, 1 - q), (1, q)):
        spent = [
            tails(q, sizes[: end + 1])[side]
            for end in range(len(sizes))
            if chance ** sizes[end] <= 0.025 * 2 / 3
        ]
        assert sum(spent) <= 0.025 + 1e-12
        halves = [2 / 3, *(1 / 3 / 2**look for look in range(1, len(spent)))]
        assert spent == pytest.approx([0.025 * part for part in halves[: len(spent)]])


def test_without_budgets_nothing_is_looked_at() -> None:
    runs = Runs([0.1])
    timing = time_runs(runs.take, "quick", clock=lambda: runs.now)
    assert timing.looks == ()
    assert tails(0.9, ()) == (0.025, 0.025)


def test_a_language_model_generates_no_more_than_its_speed_needs() -> None:
    """39 prompts for the first token, but text behind 6 alone."""
    model = Table()
    prompt = np.arange(10, dtype=np.int32) % VOCABULARY
    wanted = targets({"first_token": 20.0, "generation": 0.01, "prompt": 0.1}, 10, 4)
    timing = time_texts(model, prompt, 4, "quick", wanted, lambda: 10.0 * model.runs)
    assert len(timing.first) == 39
    assert len(timing.tokens) == 6


def test_how_long_it_takes_is_said() -> None:
    slow = verdicts.spoken(first=5.0, token=0.1)
    said = foretell({"first_token": 6.0, "generation": 5.0}, slow)
    assert said == "at least 39 prompts for its budgets of time, about 4 min"
    assert foretell({"p90": 0.1}, latency(p50=0.5)).startswith("at least 39 runs")
    assert foretell({}, slow) == foretell({"p90": 1.0}, None) == ""


def disturbed(**changes: Any) -> Latency:
    return latency().model_copy(update={"conditions": CONDITIONS.model_copy(update=changes)})


BUSY: dict[str, dict[str, Any]] = {
    "busy machine: other programs used 1.2 of 2 CPUs, load average 0.5 on 2 CPUs": {
        "cpus": 2,
        "others": 1.2,
    },
    "busy machine: load average 5.0 on 2 CPUs": {"cpus": 2, "load_average": 5.0},
    "the CPU's frequency changed between 1800 and 3000 MHz": {"megahertz": (1800.0, 3000.0)},
}


@pytest.mark.parametrize("words", BUSY)
def test_a_busy_machine_is_said_and_decides_nothing_near_the_budget(words: str) -> None:
    times = disturbed(**BUSY[words])
    near, far = (f"{1000 * factor * times.p90.seconds} ms" for factor in (1.1, 4))
    for budget, status in ((near, "inconclusive"), (far, "pass")):
        found = verdicts.verdict({"latency": {"p90": budget}}, measured=measurement(latency=times))
        p90 = line(found, "latency.p90")
        assert p90.status == status
        assert words in p90.reason
    quiet = verdicts.verdict({"latency": {"p90": near}})
    assert line(quiet, "latency.p90").status == "pass"


@pytest.mark.parametrize(
    ("conditions", "is_busy"),
    [
        ({"cpus": 2}, False),
        ({"cpus": 4, "others": 0.4}, False),
        ({"cpus": 4, "others": 0.41}, True),
        ({"cpus": 4, "load_average": 6.0}, False),
        ({"cpus": 4, "load_average": 6.1}, True),
        ({"megahertz": (2700.0, 3000.0)}, False),
        ({"megahertz": (2699.0, 3000.0)}, True),
    ],
)
def test_a_machine_is_busy_from_a_tenth_of_its_cpus_on(
    conditions: dict[str, Any], is_busy: bool
) -> None:
    found = disturbance(CONDITIONS.model_copy(update=conditions), [])
    assert (found.too_long > 1) == (found.too_short > 1) == bool(found.words) == is_busy


def test_disturbances_add_up() -> None:
    first, *_, last = BUSY
    conditions = {**BUSY[first], **BUSY[last]}
    found = disturbance(CONDITIONS.model_copy(update=conditions), [])
    assert found.words == f"{first}; {last}"
    assert (found.too_long, found.too_short) == pytest.approx((2.5, 3000 / 1800))


def test_without_a_load_average_there_is_none_in_the_words() -> None:
    alone = {"cpus": 2, "others": 1.2, "load_average": None}
    found = disturbance(CONDITIONS.model_copy(update=alone), [])
    assert found.words == "busy machine: other programs used 1.2 of 2 CPUs"


@pytest.mark.parametrize(
    ("medians", "spread", "words"),
    [
        ((0.03, 0.072, 0.021), 0.002, "21.0 ms and 72.0 ms in one check"),
        ((0.010, 0.0112), 0.0001, ""),  # 12 % apart
        ((0.010, 0.020), 0.2, ""),  # either interval holds both
    ],
)
def test_references_disagree_if_time_and_interval_do(
    medians: tuple[float, ...], spread: float, words: str
) -> None:
    times = [full_precision(latency=latency(p50=p50, spread=spread)) for p50 in medians]
    assert disturbance(CONDITIONS, times).words.endswith(words)
    assert bool(disturbance(CONDITIONS, times).words) == bool(words)


HALF_SPEED = {"megahertz": (1500.0, 3000.0)}  # a time may be twice or half what it should be


@pytest.mark.parametrize(
    ("by", "status"),
    [(2, "pass"), (1.9, "inconclusive"), (0.5, "inconclusive"), (0.49, "fail")],
)
def test_how_far_from_a_budget_a_disturbed_figure_decides(by: float, status: str) -> None:
    times = disturbed(**HALF_SPEED)
    for budget, value in (("p50", times.p50.seconds), ("p90", times.p90.seconds)):
        found = verdicts.verdict(
            {"latency": {budget: by * value}}, measured=measurement(latency=times)
        )
        assert line(found, f"latency.{budget}").status == status
    spoken = verdicts.spoken(conditions=CONDITIONS.model_copy(update=HALF_SPEED))
    speed = 1 / spoken.token_p50.seconds
    found = verdicts.verdict(
        {"speed": {"generation": speed / by}}, measured=verdicts.language_model(generation=spoken)
    )
    assert line(found, "speed.generation").status == status


def test_full_precision_that_disagrees_with_itself_is_said() -> None:
    """Its time was 72 ms beside one artifact and 21 ms beside another."""
    here = load_device("here")
    beside = [full_precision(latency=latency(p50=p50)) for p50 in (0.072, 0.021)]
    for references, status in ((beside, "inconclusive"), (beside[:1], "pass")):
        subject = Subject(
            "int8-dynamic", measurement(), beside[0], here, {}, references=tuple(references),
            recipe="my recipe.yaml",
        )  # fmt: skip
        budgets = Budgets.model_validate({"latency": {"p90": "20 ms"}})
        p90 = line(judge(subject, here, budgets), "latency.p90")
        assert p90.status == status
    assert disturbance(CONDITIONS, beside).too_short == pytest.approx(72 / 21, rel=0.1)
    assert disturbance(CONDITIONS, beside[:1]).words == ""
    writers = [
        verdicts.language_model(generation=verdicts.spoken(first=first)) for first in (0.72, 0.21)
    ]
    found = disturbance(CONDITIONS, writers)
    assert found.too_long == found.too_short == pytest.approx(72 / 21)
    assert disturbance(CONDITIONS, [full_precision(latency=None), *writers[:1]]).words == ""
    command = "edgeq check 'my recipe.yaml' --artifact onnx-int8-dynamic --device here"
    assert subject.command(here) == command


def test_a_remedy_for_more_runs_can_be_typed() -> None:
    found = verdicts.verdict({"latency": {"p90": f"{1000 * latency().p90.seconds} ms"}})
    remedy = line(found, "latency.p90").remedy
    assert "`edgeq check RECIPE --artifact onnx-int8-dynamic --device here --full`" in remedy
