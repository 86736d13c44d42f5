"""The facts behind an explanation, formatted for a reader: one artifact on one device."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.core.budgets import BUDGETS
from edgeq.core.errors import Problem
from edgeq.pipeline.check.verdict import Status

_DEVICE_LIMITS = {
    "device.memory": "its share of the memory allowed to one app",
    "device.answers": "the similarity of its answers on that processor to those here",
}


def budget_words() -> dict[str, str]:
    """Map every line that a verdict can have to a description in plain words."""
    return _DEVICE_LIMITS | {budget.name: budget.words for budget in BUDGETS.values()}


@dataclass(frozen=True)
class BudgetOutcome:
    """One budget, formatted for a reader. original: the full-precision value, None if not measured.

    value: None if nothing was measured. remedy: what to try, empty for a pass.
    """

    budget: str
    limit: str
    value: str | None
    original: str | None
    is_over: bool
    status: Status
    how: str
    missing: str | None
    remedy: str

    @property
    def words(self) -> str:
        """A description of the budget; its key if the package that added it is gone."""
        known = budget_words()
        if self.budget in known:
            return known[self.budget]
        part, _, budget = self.budget.partition(".")
        return f"{part}: {known[budget]}" if budget in known else self.budget


@dataclass(frozen=True)
class ExtraBits:
    """Weights that were given more bits than most.

    why: the reason in their record. is_small: whether they are too small to be worth quantizing
    further. weights: their share of all weights. harm: their share of the loss if every part had
    the fewest bits, from measuring each alone; None if that was not measured.
    """

    kinds: str
    why: str
    is_small: bool
    bits: str
    bytes: str
    share: str
    weights: str
    harm: str | None


@dataclass(frozen=True)
class ChosenForBudget:
    """A budget that number formats were chosen for, and the outcome.

    asked: None if only the result is recorded. formats: the formats used, fewest bits first. gap:
    how far the measured loss is from the predicted one, None without a prediction. other,
    other_size, other_quality: the artifact of the same file format nearest in size, None without
    one.
    """

    asked: str | None
    formats: str
    gap: str | None
    other: str | None
    other_size: str | None
    other_quality: str | None


@dataclass(frozen=True)
class OpenBudget:
    """A budget whose number formats are not chosen yet: the range of file sizes.

    least, most: its size with the fewest bits everywhere, and with the most bits allowed. is_spare:
    whether the size asked for is more than this model takes with any choice.
    """

    least: str
    most: str
    is_spare: bool


@dataclass(frozen=True)
class Shares:
    """The parts of the peak memory of a run; the three parts add up to `total`.

    mapped: file pages, which the system can drop. working: everything else that loading and running
    allocated. runtime: present before the model was loaded. counts_mapped: whether the device's
    system counts `mapped` against its limit.
    """

    mapped: str
    working: str
    runtime: str
    total: str
    counts_mapped: bool


@dataclass(frozen=True)
class Recovered:
    """A low-rank adapter added to the rounded weights: its size, and what it recovered.

    nearer: the relative reduction of the divergence from the original on held-out calibration text.
    """

    size: str
    nearer: str


@dataclass(frozen=True)
class Proof:
    """The comparison of the imported model with the original, before it was quantized.

    difference, allowed: None if they were not compared.
    """

    reference: str
    difference: str | None
    allowed: str | None


@dataclass(frozen=True)
class Facts:
    """Everything an explanation can use. Figures are text, as they will be shown.

    is_planned: whether nothing was built yet, and figures are computed from the plan. pending:
    artifacts whose number formats are chosen for a budget when they are built. waiting: set if this
    artifact is one of them; size and bits are then the maximum. parts: the models that ship
    together, if it is not one alone. refused: why artifacts cannot be built.
    """

    name: str
    model: str
    task: str
    device: str
    artifact: str
    format: str
    variant: str
    weights: str
    status: Status
    size: str
    original_size: str
    smaller: str | None
    budgets: tuple[BudgetOutcome, ...]
    bits: str
    methods: tuple[str, ...]
    exceptions: ExtraBits | None
    budgeted: ChosenForBudget | None
    recovered: Recovered | None
    memory: Shares | None
    same_words: str | None
    other_words: str | None
    places: str | None
    likeness: str | None
    moved: tuple[str, str] | None
    others: tuple[str, ...]
    parts: tuple[str, ...] = ()
    relabelled: tuple[str, str] | None = None
    agreement: tuple[str, str] | None = None
    """How far a detector's boxes or a recogniser's words agree, and on how many samples."""
    proof: Proof | None = None
    original_bits: str = "32"
    is_planned: bool = False
    pending: tuple[str, ...] = ()
    waiting: OpenBudget | None = None
    refused: tuple[Problem, ...] = ()

    def budget(self, *names: str) -> BudgetOutcome | None:
        """The first of these budgets that the recipe has and that has a value."""
        found = {each.budget: each for each in self.budgets if each.value is not None}
        return next((found[name] for name in names if name in found), None)

    @property
    def part_quality(self) -> tuple[BudgetOutcome, ...]:
        """The budgets of quality that single parts have."""
        known = [each for each in self.budgets if each.value is not None]
        return tuple(each for each in known if ".quality." in each.budget)

    @property
    def failed(self) -> tuple[BudgetOutcome, ...]:
        """The budgets that failed."""
        return self.with_status("fail")

    @property
    def problems(self) -> tuple[BudgetOutcome, ...]:
        """The budgets that the original misses."""
        return tuple(each for each in self.budgets if each.is_over and each.original)

    def with_status(self, status: Status) -> tuple[BudgetOutcome, ...]:
        """The budgets with this status."""
        return tuple(each for each in self.budgets if each.status == status)
