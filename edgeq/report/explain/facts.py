"""The facts that the piece tells, in figures for a reader: one artifact on one device."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.core.budgets import BUDGETS
from edgeq.pipeline.check.verdict import Status

_DEVICE_LIMITS = {
    "device.memory": "what it uses of the memory allowed to one app",
    "device.answers": "the likeness of its answers on that processor to those here",
}


def budget_words() -> dict[str, str]:
    """Map every line that a verdict can have to what it is about, in plain words."""
    return _DEVICE_LIMITS | {budget.name: budget.words for budget in BUDGETS.values()}


@dataclass(frozen=True)
class Told:
    """One budget in figures for a reader. original: of full precision, None where not measured.

    value: None where nothing was seen. remedy: what to try, empty for a pass.
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
        """What the budget is about; its key where the package that added it is gone."""
        return budget_words().get(self.budget, self.budget)


@dataclass(frozen=True)
class Kept:
    """Weights that were left with more bits than most.

    why: what their record says. is_small: whether they have too few numbers for less. weights:
    their share of all weights. harm: their share of what the model would lose if every part had
    the fewest bits, by the measurement of each alone; None where that never ran.
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
class Budgeted:
    """A budget that number formats were chosen for, and what that bought.

    asked: None where only the result tells of it. formats: which, from the fewest bits. gap: how
    far the measured loss is from the foreseen one, None without any. other, other_size,
    other_quality: of the artifact of the same format that is nearest in size, None without one.
    """

    asked: str | None
    formats: str
    gap: str | None
    other: str | None
    other_size: str | None
    other_quality: str | None


@dataclass(frozen=True)
class Waiting:
    """A budget whose number formats are not chosen yet: what the file can become.

    least, most: its size with the fewest bits everywhere, and with the most that is allowed.
    is_spare: whether the size asked for is more than this model takes with any choice.
    """

    least: str
    most: str
    is_spare: bool


@dataclass(frozen=True)
class Shares:
    """What made up the memory of a run at its most; the three parts add up to `total`.

    mapped: of files, which the system can drop. held: what loading and running took beside.
    runtime: what was there before the model. counts_mapped: whether the device's system counts
    the first.
    """

    mapped: str
    held: str
    runtime: str
    total: str
    counts_mapped: bool


@dataclass(frozen=True)
class Recovered:
    """A low-rank adapter beside the rounded weights: what it takes, and what it gave back.

    nearer: by what share predictions on held-back calibration text came nearer to the original's.
    """

    size: str
    nearer: str


@dataclass(frozen=True)
class Facts:
    """What the piece tells. Figures are texts as they will stand there.

    is_planned: whether nothing was built yet, and figures are computed from the plan. pending:
    artifacts whose number formats are chosen for a budget when they are built. waiting: of this
    artifact if it is one of them; size and bits are then the most that it can take.
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
    budgets: tuple[Told, ...]
    bits: str
    methods: tuple[str, ...]
    exceptions: Kept | None
    budgeted: Budgeted | None
    recovered: Recovered | None
    memory: Shares | None
    same_words: str | None
    other_words: str | None
    places: str | None
    likeness: str | None
    moved: tuple[str, str] | None
    others: tuple[str, ...]
    original_bits: str = "32"
    is_planned: bool = False
    pending: tuple[str, ...] = ()
    waiting: Waiting | None = None

    def budget(self, *names: str) -> Told | None:
        """The first of these budgets that the recipe has and something was seen of."""
        found = {each.budget: each for each in self.budgets if each.value is not None}
        return next((found[name] for name in names if name in found), None)

    @property
    def failed(self) -> tuple[Told, ...]:
        """The budgets that were missed."""
        return self.with_status("fail")

    @property
    def problems(self) -> tuple[Told, ...]:
        """The budgets that the original misses."""
        return tuple(each for each in self.budgets if each.is_over and each.original)

    def with_status(self, status: Status) -> tuple[Told, ...]:
        """The budgets that got this word."""
        return tuple(each for each in self.budgets if each.status == status)
