"""Write the explanation: each sentence states a measurement, a cited fact or an analogy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.core.artifact import Frozen
from edgeq.core.tasks import TENSOR, task_of
from edgeq.pipeline.check.verdict import Status
from edgeq.report.explain import analogies
from edgeq.report.explain.analogies import Analogy
from edgeq.report.explain.facts import BudgetOutcome, Facts, Proof
from edgeq.report.explain.glossary import RECOVERY, Cited, method_words, mixed_words, variant_words
from edgeq.report.explain.points import bits_point, rounding_point, third_point, trade

_DONE = {False: "What was done", True: "What will be done"}


class Part(Frozen):
    """A section: its title, its paragraphs, then its list of points, if any."""

    title: str
    paragraphs: tuple[str, ...]
    points: tuple[str, ...] = ()


class Piece(Frozen):
    """The whole text. sources: for its cited facts, in order of appearance."""

    edgeq: int = 1
    kind: str = "explanation"
    title: str
    parts: tuple[Part, ...]
    sources: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole text as plain text."""
        lines = [self.title]
        for part in self.parts:
            lines += ["", part.title, *part.paragraphs, *part.points]
        return "\n".join(lines)


@dataclass(frozen=True)
class Written:
    """A piece with the facts its sentences may use, for the linter."""

    piece: Piece
    facts: Facts
    cited: tuple[Cited, ...]
    analogy: Analogy


def write(facts: Facts) -> Written:
    """Write the piece; the text depends on what passed, failed or was not run."""
    name, variant = _variant(facts)
    known = [words for method in facts.methods if (words := method_words(method))]
    cited = (variant, *(fact for _, fact in known), *([RECOVERY] if facts.recovered else []))
    analogy = _analogy(facts)
    points = [bits_point(facts, name, variant), rounding_point(facts, known), third_point(facts)]
    parts = (
        Part(title="The problem", paragraphs=(_problem(facts),)),
        Part(title="What quantization is", paragraphs=(_idea(facts, analogy),)),
        Part(title=_outcome_title(facts), paragraphs=_outcome(facts)),
        Part(title=_DONE[facts.is_planned], paragraphs=(), points=tuple(filter(None, points))),
        Part(title="What it costs", paragraphs=(trade(facts),)),
    )
    sources = tuple(dict.fromkeys(fact.source for fact in cited))
    piece = Piece(title=_title(facts), parts=parts, sources=sources)
    return Written(piece, facts, cited, analogy)


def _title(facts: Facts) -> str:
    if facts.is_planned:
        return f"{facts.model} on {facts.device}: the plan"
    titles = {
        "pass": f"{facts.model} fits {facts.device}",
        "fail": f"{facts.model} does not fit {facts.device} yet",
    }
    return titles.get(facts.status, f"{facts.model} on {facts.device}: not proven yet")


def _variant(facts: Facts) -> tuple[str, Cited]:
    if facts.budgeted is not None:
        is_open = facts.waiting is not None
        return mixed_words(facts.budgeted.formats, facts.format, is_open=is_open)
    return variant_words(facts.variant, facts.weights, facts.format)


def _problem(facts: Facts) -> str:
    what = task_of(facts.task).explanation
    if facts.parts:
        models = f"{len(facts.parts)} models that ship together, {_listed(facts.parts)}"
        what = models if task_of(facts.task) is TENSOR else f"{what}. It is {models}"
    start = f"{facts.model} is {what}. It is meant to run on {facts.device}."
    before = "As it was trained"
    if facts.is_planned:
        before = f"With {facts.original_bits} bits for every weight"
    if facts.problems:
        would = "would come" if facts.is_planned else "came"
        pains = "; ".join(
            f"{each.words} {would} to {each.original}, and {each.limit} is the limit"
            for each in facts.problems
        )
        fit = "it would not fit" if facts.is_planned else "it did not fit"
        return f"{start} {before}, {fit}: {pains}."
    memory = facts.budget("memory.peak", "device.memory")
    more = ""
    if memory is not None and memory.original:
        more = f", and {memory.words} came to {memory.original}"
    return f"{start} {before}, it is a download of {facts.original_size}{more}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _analogy(facts: Facts) -> Analogy:
    failed = {each.budget.partition(".")[0] for each in facts.failed}
    if failed & {"memory", "device"}:
        return analogies.SUITCASE
    # Scenes of a film are chosen; weights that are merely too small for fewer bits are not.
    is_chosen = facts.exceptions is not None and not facts.exceptions.is_small
    return analogies.VIDEO if is_chosen else analogies.PHOTO


def _idea(facts: Facts, analogy: Analogy) -> str:
    start = (
        "A model is a very long list of numbers, its weights. Quantization stores each of them "
        f"less exactly, so that it takes fewer bits. {analogy.text}"
    )
    if facts.smaller is None:
        return f"{start} Here it does not pay off: {facts.original_size} became {facts.size}."
    if facts.waiting is not None:
        return (
            f"{start} Here, {facts.original_size} would become {facts.waiting.most} at most: at "
            f"least {facts.smaller} times smaller. How many bits each weight takes is not decided "
            "yet."
        )
    become, take = ("would become", "would take") if facts.is_planned else ("became", "take")
    return (
        f"{start} Here, {facts.original_size} {become} {facts.size}: {facts.smaller} times "
        f"smaller. Most weights {take} {facts.bits} bits, all overhead counted, instead of "
        f"{facts.original_bits}."
    )


def _outcome_title(facts: Facts) -> str:
    if facts.is_planned:
        return "What is expected"
    titles = {"pass": "What fits now", "fail": "What still does not fit"}
    return titles.get(facts.status, "What is known so far")


def _outcome(facts: Facts) -> tuple[str, ...]:
    return _expected(facts) if facts.is_planned else _found(facts)


def _expected(facts: Facts) -> tuple[str, ...]:
    """Explain a plan: computed figures, budgets likely to be missed, and what is not known yet."""
    known = [each for each in facts.budgets if each.value is not None]
    paragraphs = _solved(facts)
    if len(known) > 1:
        known = [each for each in known if each.budget != "device.memory" or each.missing]
    missed = [each for each in known if each.missing]
    within = [each for each in known if not each.missing]
    if missed:
        misses = "; ".join(map(_missed, missed))
        paragraphs.append(
            f"By calculation, {facts.artifact} would not stay within every limit: {misses}."
        )
    if within:
        rest = "; ".join(f"{e.words}, {e.value} (limit {e.limit})" for e in within)
        lead = (
            "Limits that it would keep" if missed else f"By calculation, {facts.artifact} has room"
        )
        paragraphs.append(f"{lead}: {rest}.")
    unknown = ", ".join(each.words for each in facts.budgets if each.value is None)
    if unknown:
        paragraphs.append(f"Known only once it is built and measured: {unknown}.")
    if facts.pending:
        names = " and ".join(facts.pending)
        sets = "sets" if facts.waiting is not None else "also sets"
        paragraphs.append(
            f"The recipe {sets} a budget in place of bits, for {names}: how many bits each part "
            f"gets is decided when it is built."
        )
    paragraphs.append(
        "Nothing has been built or run yet: these are estimates, and an estimate is not a pass."
    )
    return tuple(paragraphs)


def _found(facts: Facts) -> tuple[str, ...]:
    kept = [each for each in facts.budgets if each.status == "pass" and each.budget in _REPORTED]
    if len(kept) > 1:  # a recipe's own budgets are more informative than the device's limit
        kept = [each for each in kept if each.budget != "device.memory"]
    paragraphs = _solved(facts)
    if facts.failed:
        missed = "; ".join(map(_missed, facts.failed))
        paragraphs.append(f"{facts.artifact} came nearest, and it is not enough: {missed}.")
        # One next step is enough; the report has them all.
        remedies = [each.remedy for each in facts.failed if each.remedy]
        if remedies:
            paragraphs.append(f"The report suggests: {remedies[0]}.")
    if kept:
        leads: dict[str, str] = {
            "pass": f"{facts.artifact} stays within every limit",
            "fail": "The limits that it does keep",
        }
        lead = leads.get(facts.status, f"The limits that {facts.artifact} was measured to keep")
        paragraphs.append(f"{lead}: {'; '.join(map(_seen, kept))}.")
    paragraphs += _open(facts)
    if any(each.how == "emulated" for each in kept):
        paragraphs.append(
            "Results marked as emulated come from a stand-in for the device, not from the device "
            "itself."
        )
    if facts.proof is not None:
        paragraphs.append(_proven(facts.proof))
    return tuple(paragraphs)


def _proven(proof: Proof) -> str:
    """Say what the model was compared with before it was quantized."""
    if proof.difference is None:
        return (
            f"The model was read by {proof.reference}, and that reading was not compared with the "
            f"original."
        )
    return (
        f"Before anything was quantized, the model as it was read was compared with the original, "
        f"run by {proof.reference}: their largest difference was {proof.difference}, where "
        f"{proof.allowed} is float rounding."
    )


_SOLVED: dict[Status, str] = {
    "pass": "solved",
    "fail": "not solved",
    "inconclusive": "not decided",
    "not run": "not proven yet",
}


def _solved(facts: Facts) -> list[str]:
    """Say whether each problem named at the start is solved."""
    results = []
    for each in facts.problems:
        word = _SOLVED[each.status]
        if facts.is_planned and each.value is not None:
            word = f"{'not ' if each.missing else ''}solved, by calculation"
        results.append(f"{each.words}, {word}{f' ({each.value})' if each.value else ''}")
    return [f"What did not fit: {'; '.join(results)}."] if results else []


def _open(facts: Facts) -> list[str]:
    """List what was not run, and what was measured but is inconclusive."""
    unseen, undecided = facts.with_status("not run"), facts.with_status("inconclusive")
    sentences = []
    if unseen:
        names = ", ".join(each.words for each in unseen)
        sentences.append(
            f"Not measured on the device yet: {names}. Until it is, that is not a pass."
        )
    if undecided:
        names = ", ".join(each.words for each in undecided)
        sentences.append(f"Measured, and still open: {names}. That is not a pass.")
        remedies = [each.remedy for each in undecided if each.remedy]
        sentences += [f"The report suggests: {remedies[0]}."] if remedies else []
    return sentences


_REPORTED = ("device.memory", "memory.peak", "latency.p90", "latency.first_token",
         "speed.generation", "size.download")  # fmt: skip


def _seen(each: BudgetOutcome) -> str:
    how = "" if each.how == "measured" else f", {each.how}"
    before = f", {each.original} before" if each.original else ""
    return f"{each.words} is {each.value} (limit {each.limit}{before}{how})"


def _missed(each: BudgetOutcome) -> str:
    if each.value is None:
        return f"{each.words} could not be measured, since the run was interrupted"
    missing = f", {each.missing} too far" if each.missing else ""
    return f"{each.words} is {each.value} where {each.limit} is the limit{missing}"
