"""Facts → the piece: each sentence tells a measurement, a cited fact or an analogy."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.artifact import Frozen
from edgeq.explain import analogies
from edgeq.explain.analogies import Analogy
from edgeq.explain.facts import Facts, Told
from edgeq.explain.glossary import METHODS, Cited, variant_words

_TASKS = {
    "text-generation": "a language model: it continues a text, word by word",
    "sentence-embedding": "a search model: it turns a sentence into a list of numbers, so that "
    "sentences of like meaning get like numbers",
    "tensor": "a model that turns given numbers into others, such as an image into its subject",
}


class Part(Frozen):
    """A part of the piece: its title, its paragraphs, then its points if it has some."""

    title: str
    paragraphs: tuple[str, ...]
    points: tuple[str, ...] = ()


class Piece(Frozen):
    """The whole text. sources: of its cited facts, in the order in which they appear."""

    edgeq: int = 1
    kind: str = "explanation"
    title: str
    parts: tuple[Part, ...]
    sources: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it as plain text."""
        lines = [self.title]
        for part in self.parts:
            lines += ["", part.title, *part.paragraphs, *part.points]
        return "\n".join(lines)


@dataclass(frozen=True)
class Written:
    """A piece with what its sentences may rest on, for the linter."""

    piece: Piece
    facts: Facts
    cited: tuple[Cited, ...]
    analogies: tuple[Analogy, Analogy]


def write(facts: Facts) -> Written:
    """The piece for these facts: it reads otherwise for what passed, failed or was not run."""
    name, variant = variant_words(facts.variant, facts.weights, facts.format)
    known = [METHODS[method] for method in facts.methods if method in METHODS]
    cited = (variant, *(fact for _, fact in known))
    opening, closing = _opening(facts), _closing(facts)
    points = (
        _bits_point(facts, name, variant),
        _rounding_point(facts, known),
        _kept_point(facts) if facts.exceptions else _memory_point(facts),
    )
    parts = (
        Part(title="The problem", paragraphs=(_problem(facts),)),
        Part(title="What quantization is", paragraphs=(_idea(facts, opening),)),
        Part(title=_outcome_title(facts), paragraphs=_outcome(facts)),
        Part(title="What was done", paragraphs=(), points=points),
        Part(title="What it costs", paragraphs=(_trade(facts),)),
        Part(title="The intent", paragraphs=(_intent(facts, closing),)),
    )
    titles = {
        "pass": f"{facts.model} fits {facts.device}",
        "fail": f"{facts.model} does not fit {facts.device} yet",
    }
    title = titles.get(facts.status, f"{facts.model} on {facts.device}: not proven yet")
    piece = Piece(title=title, parts=parts, sources=tuple(fact.source for fact in cited))
    return Written(piece, facts, cited, (opening, closing))


def _problem(facts: Facts) -> str:
    start = f"{facts.model} is {_TASKS[facts.task]}. It shall run on {facts.device}."
    over = [each for each in facts.budgets if each.is_over and each.original]
    if over:
        pains = "; ".join(
            f"{each.words} came to {each.original}, and {each.limit} was the limit"
            for each in over[:2]
        )
        return f"{start} As it was trained, it did not fit: {pains}."
    memory = facts.budget("memory.peak", "device.memory")
    more = ""
    if memory is not None and memory.original:
        more = f", and {memory.words} came to {memory.original}"
    return (
        f"{start} As it was trained, it is a download of {facts.original_size}{more}. Every user "
        "pays for that, in storage and in waiting for the download."
    )


def _opening(facts: Facts) -> Analogy:
    failed = {each.budget.partition(".")[0] for each in facts.failed}
    if failed & {"memory", "device"}:
        return analogies.SUITCASE
    return analogies.VIDEO if facts.exceptions else analogies.PHOTO


def _idea(facts: Facts, analogy: Analogy) -> str:
    start = (
        "A model is a very long list of numbers, its weights. Quantization stores each of them "
        f"less exactly, so that it takes fewer bits. {analogy.text}"
    )
    if facts.smaller is None:
        return (
            f"{start} Here it did not pay: {facts.original_size} became {facts.size}, because what "
            "was left as it was makes up most of the file."
        )
    return (
        f"{start} Here, {facts.original_size} became {facts.size}: {facts.smaller} times smaller, "
        f"with {facts.bits} bits for most weights, all that belongs to them included."
    )


def _outcome_title(facts: Facts) -> str:
    titles = {"pass": "Why it works now", "fail": "What still does not fit"}
    return titles.get(facts.status, "What is known so far")


def _outcome(facts: Facts) -> tuple[str, ...]:
    kept = [each for each in facts.budgets if each.status == "pass" and each.budget in _TOLD]
    if len(kept) > 1:  # a recipe's own budgets say more than the device's limit
        kept = [each for each in kept if each.budget != "device.memory"]
    paragraphs = []
    if facts.failed:
        missed = "; ".join(map(_missed, facts.failed))
        paragraphs.append(f"{facts.artifact} is what came nearest, and it fails: {missed}.")
        # One next step is enough; the report has them all.
        remedies = [each.remedy for each in facts.failed if each.remedy]
        if remedies:
            paragraphs.append(f"What the report says to try next: {remedies[0]}.")
    if kept:
        leads: dict[str, str] = {
            "pass": f"{facts.artifact} keeps its budgets",
            "fail": "What it does keep",
        }
        lead = leads.get(facts.status, f"What {facts.artifact} is seen to keep")
        paragraphs.append(f"{lead}: {'; '.join(map(_seen, kept))}.")
    if facts.open:
        names = ", ".join(each.words for each in facts.open)
        paragraphs.append(
            f"Nobody has seen on the device itself: {names}. Until somebody has, that is no pass."
        )
    if any(each.how == "emulated" for each in kept):
        paragraphs.append(
            "What is marked as emulated was seen on a stand-in for the device, not on it."
        )
    return tuple(paragraphs)


_TOLD = ("device.memory", "memory.peak", "latency.p90", "latency.first_token",
         "speed.generation", "size.download")  # fmt: skip


def _seen(each: Told) -> str:
    how = "" if each.how == "measured" else f", {each.how}"
    before = f", {each.original} before" if each.original else ""
    return f"{each.words} is {each.value} (limit {each.limit}{before}{how})"


def _missed(each: Told) -> str:
    if each.value is None:
        return f"{each.words} could not be taken, since the run broke off"
    missing = f", {each.missing} too far" if each.missing else ""
    return f"{each.words} is {each.value} where {each.limit} is the limit{missing}"


def _bits_point(facts: Facts, name: str, variant: Cited) -> str:
    result = f"the file has {facts.size} instead of {facts.original_size}"
    return f"Fewer bits: {name}. {variant.text} It protects the download. Result: {result}."


def _rounding_point(facts: Facts, known: list[tuple[str, Cited]]) -> str:
    names = " and ".join(name for name, _ in known) or "rounding"
    what = " ".join(fact.text for _, fact in known)
    return f"Careful rounding: {names}. {what} It protects the answers. Result: {_quality(facts)}."


def _kept_point(facts: Facts) -> str:
    kept = facts.exceptions
    assert kept is not None  # who calls has asked
    return (
        f"More bits where they count: {kept.kinds} kept {kept.bits} bits instead of {facts.bits}. "
        "It protects what every answer passes through. Result: they take "
        f"{kept.bytes}, {kept.share} of the file."
    )


def _memory_point(facts: Facts) -> str:
    start = "Weights read in place: the file is mapped into memory, not copied. It protects the "
    start += "other apps. Result: "
    if facts.mapped is None or facts.held is None:
        return f"{start}not seen here, since memory was not measured."
    return (
        f"{start}{facts.mapped} of what it uses can be dropped by the system at any moment and "
        f"read again; {facts.held} cannot."
    )


def _quality(facts: Facts) -> str:
    if facts.same_words is not None:
        return (
            f"at {facts.places} places of a text that it had not been fitted to, it expects the "
            f"same next word as the original in {facts.same_words} of them"
        )
    if facts.likeness is not None:
        return f"its answers are {facts.likeness} like the original's, where identical is one"
    return "not seen here, since quality was not measured"


def _trade(facts: Facts) -> str:
    if facts.other_words is not None:
        return (
            "The smaller model is not the same model: where the text was to go on, it would have "
            f"chosen another word than the original in {facts.other_words} of the places. It "
            "matters where a single word decides: code, figures, names, quotations. It matters "
            "less for drafts, suggestions and summaries that somebody reads before they are used."
        )
    if facts.moved is not None:
        changed, texts = facts.moved
        return (
            f"The smaller model is not the same model. Of {texts} sentences, {changed} have "
            "another nearest sentence than before. It matters where only the first hit is shown, "
            "or where a fixed threshold decides. It matters less for lists of results that a "
            "person looks through."
        )
    return (
        "The smaller model is not the same model. What that does to your task, the evaluation data "
        f"say: {_quality(facts)}. It matters most where close calls are common."
    )


def _closing(facts: Facts) -> Analogy:
    if facts.failed:
        return analogies.REPACK if _opening(facts) != analogies.SUITCASE else analogies.EDITOR
    return analogies.EDITOR if facts.exceptions else analogies.ENGINE


def _intent(facts: Facts, analogy: Analogy) -> str:
    if facts.failed:
        end = "The report says what each part takes, so the next choice is not a guess."
    elif facts.open:
        end = "What was seen so far is in the report; what was not seen is said, and not promised."
    else:
        end = "Every figure above was read off in that way, and the report says how."
    return f"{analogy.text} {end}"
