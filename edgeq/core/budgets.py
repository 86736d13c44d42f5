"""Every budget that a recipe can set; packages add budgets by an entry point `edgeq.budgets`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.registry import Registry
from edgeq.core.tasks import task_of
from edgeq.core.terms import Pass
from edgeq.core.validation_messages import suggest

Section = Literal["memory", "latency", "speed", "size", "quality", "placement"]
Unit = Literal[
    "bytes",
    "seconds",
    "tokens/s",
    "cosine",
    "correlation × 100",
    "relative error",
    "share",
    "nats",
    "ratio",
]
Bound = Literal["at most", "at least"]


@dataclass(frozen=True)
class Budget:
    """One limit that a recipe can set, written there as `section: {key: limit}`.

    words: what it limits, in plain words, for the explanation. measured_by: the pass that measures
    it; None for a property of the files. tasks: those it is measured for, in addition to tasks that
    list it among their own budgets; None for all. needs_compute_units: whether it exists only for
    runtimes that choose between compute units. summary: the description in the recipe's schema.
    read: reads its value from the measurements of an artifact; edgeq reads its own in
    `pipeline/check/readings.py`.

    >>> BUDGETS.named("latency.p90").unit
    'seconds'
    """

    section: Section
    key: str
    unit: Unit
    bound: Bound
    words: str
    measured_by: Pass | None = None
    tasks: tuple[str, ...] | None = None
    needs_compute_units: bool = False
    summary: str = ""
    read: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        for word, words in ((self.section, Section), (self.unit, Unit), (self.bound, Bound)):
            if word not in get_args(words):
                what = f"{word!r} must be one of the values that verdicts support"
                remedy = suggest(word, get_args(words))
                raise InvalidInput(Problem(f"the budget {self.name!r}", what, remedy))

    @property
    def name(self) -> str:
        """The key in verdicts: `memory.peak`."""
        return f"{self.section}.{self.key}"

    @property
    def is_upper(self) -> bool:
        """Whether the value must be at most the limit."""
        return self.bound == "at most"

    def is_measured_for(self, task: str) -> bool:
        """Whether it is measured for models of this task."""
        return self.tasks is None or task in self.tasks or self.name in task_of(task).budgets


def _memory(key: str, words: str) -> Budget:
    return Budget("memory", key, "bytes", "at most", words, "memory")


def _latency(key: str, words: str) -> Budget:
    return Budget("latency", key, "seconds", "at most", words, "latency", tasks=())


def _speed(key: str, words: str) -> Budget:
    return Budget("speed", key, "tokens/s", "at least", words, "latency", tasks=())


def _quality(key: str, unit: Unit, bound: Bound, words: str) -> Budget:
    return Budget("quality", key, unit, bound, words, "quality", tasks=())


def _placement(key: str, words: str) -> Budget:
    return Budget("placement", key, "share", "at least", words, "latency", needs_compute_units=True)


BUDGETS: Registry[Budget] = Registry(
    "budget",
    "edgeq.budgets",
    Budget,
    (
        _memory("peak", "memory while it runs"),
        _memory("growth", "the memory it adds to an app"),
        _latency("p50", "the typical time of one run"),
        _latency("p90", "the time nine in ten runs stay within"),
        _latency("first_token", "the wait for the first word"),
        _speed("prompt", "the speed at which it reads"),
        _speed("generation", "the speed at which it writes"),
        _speed("sustained", "the speed at which it still writes after minutes"),
        Budget("size", "download", "bytes", "at most", "the download"),
        _quality(
            "cosine",
            "cosine",
            "at least",
            "the similarity of its answers to the original's",
        ),
        _quality(
            "spearman",
            "correlation × 100",
            "at least",
            "its agreement with human scores",
        ),
        _quality("error", "relative error", "at most", "the error of its answers"),
        _quality(
            "top1",
            "share",
            "at least",
            "the share of first choices that stay the same",
        ),
        _quality(
            "agreement",
            "share",
            "at least",
            "the agreement of its answers with the original's",
        ),
        _quality(
            "map_drop",
            "share",
            "at most",
            "the precision of its boxes that it loses",
        ),
        _quality(
            "wer_rise",
            "share",
            "at most",
            "the share of words that it gets wrong in addition",
        ),
        _quality(
            "accuracy_drop",
            "share",
            "at most",
            "the share of right labels that it loses",
        ),
        _quality(
            "f1_drop",
            "share",
            "at most",
            "the balance of right and complete labels (F1) that it loses",
        ),
        _quality(
            "top5_drop",
            "share",
            "at most",
            "the share of right labels among its five likeliest that it loses",
        ),
        _quality(
            "order",
            "share",
            "at least",
            "the share of found texts that keep their order",
        ),
        _quality(
            "ndcg_drop",
            "share",
            "at most",
            "the quality of the first ten results that it loses",
        ),
        _quality(
            "mrr_drop",
            "share",
            "at most",
            "how early the first right result comes that it loses",
        ),
        _quality(
            "kl",
            "nats",
            "at most",
            "the distance of its predictions from the original's",
        ),
        _quality(
            "kl_p99",
            "nats",
            "at most",
            "the distance of its worst predictions from the original's",
        ),
        _quality(
            "perplexity",
            "ratio",
            "at most",
            "its difficulty with a text, as a multiple of the original's",
        ),
        _quality(
            "multiple_choice_drop",
            "share",
            "at most",
            "the share of right answers to questions that it loses",
        ),
        _placement("npu", "the share of its work on the Neural Engine"),
        _placement("gpu", "the share of its work on the graphics processor"),
    ),
)
register_budget = BUDGETS.register
