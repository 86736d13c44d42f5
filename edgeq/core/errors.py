"""Errors that a user can cause; each states its place, the problem and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

EXIT_PASS = 0
EXIT_BUDGET_FAILED = 1
EXIT_INVALID_INPUT = 2
EXIT_MISSING = 3
EXIT_INCONCLUSIVE = 4
EXIT_FAULT = 70


@dataclass(frozen=True)
class Problem:
    """One problem.

    `where` names the place (`recipes/a.yaml:12:5`, a file, an option), `what` the problem, `remedy`
    the next step (a nearest valid word, a command to type).
    """

    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        return f"{text}\n    {self.remedy}" if self.remedy else text


class LoadedOtherwise(RuntimeWarning):
    """A model was loaded with more memory or time than usual, and the same answers."""


class EdgeqError(Exception):
    """Base of all errors that edgeq raises deliberately; carries one or more distinct problems."""

    exit_code = EXIT_INVALID_INPUT

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        found = (problems,) if isinstance(problems, Problem) else problems
        self.problems = tuple(dict.fromkeys(found))
        super().__init__("\n".join(map(str, self.problems)))


class InvalidInput(EdgeqError):
    """A recipe, a device file, a model or a command line is wrong. Exit status 2."""

    exit_code = EXIT_INVALID_INPUT


class NotComputed(InvalidInput):
    """A model gives no numbers, or its runtime fails: the model's fault, not the request's."""


class Missing(EdgeqError):
    """A required tool, package or device is missing. Exit status 3."""

    exit_code = EXIT_MISSING


def in_one_line(error: EdgeqError, at: str = "") -> str:
    """Problem and remedy in one sentence. at: a place that the reader already knows."""
    parts = []
    for problem in error.problems:
        parts.append(problem.what if problem.where == at else f"{problem.where}: {problem.what}")
        if problem.remedy:
            parts.append(f"next: {problem.remedy}")
    return " ".join("; ".join(parts).split())


def missing_extra(module: str, extra: str, purpose: str) -> Missing:
    """The error for a package of an optional extra that is not installed."""
    return Missing(
        Problem(
            where=module,
            what=f"not installed; it is required to {purpose}",
            remedy=f'in the directory of edgeq, run: pip install ".[{extra}]"',
        )
    )
