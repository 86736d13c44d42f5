"""Describe what was done in up to three points: technique, purpose and result."""

from __future__ import annotations

from edgeq.core.tasks import task_of
from edgeq.report.explain.facts import ChosenForBudget, ExtraBits, Facts, OpenBudget
from edgeq.report.explain.glossary import RECOVERY, Cited


def bits_point(facts: Facts, name: str, variant: Cited) -> str:
    """Describe the number format and what it saves."""
    takes = "would take" if facts.is_planned else "takes"
    size = facts.size
    if facts.waiting is not None and facts.waiting.least != facts.waiting.most:
        size = f"between {facts.waiting.least} and {facts.waiting.most}"
    result = f"the file {takes} {size} instead of {facts.original_size}"
    return f"Fewer bits: {name}. {variant.text} Result: {result}."


def rounding_point(facts: Facts, known: list[tuple[str, Cited]]) -> str:
    """Describe how weights were rounded, and how near the answers are."""
    names = (
        ", and for the rest ".join(name for name, _ in known) or "as the number format prescribes"
    )
    text = " ".join([f"How weights are rounded: {names}.", *(fact.text for _, fact in known)])
    if facts.recovered is not None:
        text += (
            f" {RECOVERY.text} It takes {facts.recovered.size}, and on text held out from its "
            f"training the predictions came {facts.recovered.nearer} nearer to the original's."
        )
    return f"{text} Result: {_quality(facts)}."


def third_point(facts: Facts) -> str | None:
    """The most informative point besides bits and rounding; None if nothing else is known."""
    if facts.budgeted is not None and facts.waiting is not None:
        return _waiting_point(facts.budgeted, facts.waiting)
    if facts.budgeted is not None:
        return _budget_point(facts, facts.budgeted)
    return _kept_point(facts, facts.exceptions) if facts.exceptions else _memory_point(facts)


def _kept_point(facts: Facts, kept: ExtraBits) -> str:
    if kept.is_small:
        return (
            f"What stays as it was: {kept.kinds}, in {kept.bits} bits instead of {facts.bits}, "
            f"since {kept.why}. Result: {_price(kept)}."
        )
    why = f", since {kept.why}" if kept.why else ""
    have = "will have" if facts.is_planned else "has"
    return (
        f"More bits for a part: {kept.kinds} {have} {kept.bits} bits instead of {facts.bits}{why}. "
        f"Result: {_price(kept)}."
    )


def _price(kept: ExtraBits) -> str:
    """The cost of more bits, and their benefit if it was measured."""
    takes = f"that takes {kept.bytes}, {kept.share} of the file"
    if kept.harm is None:
        return takes
    return (
        f"{takes}. These are {kept.weights} of the weights, and when each part was rounded alone "
        f"to the fewest bits available, {kept.harm} of the harm came from them"
    )


def _budget_point(facts: Facts, budget: ChosenForBudget) -> str:
    asked = f"The budget was {budget.asked}. " if budget.asked else ""
    text = (
        f"Bits for each part: a budget in place of fixed bits. {asked}"
        "Each part was rounded alone to measure its cost, and the best choice within the budget "
        "was computed."
    )
    kept = facts.exceptions
    if kept is not None:
        text += f" {_capital(kept.kinds)} got {kept.bits} bits instead of {facts.bits}: "
        text += f"{_price(kept)}."
    text += " Result: "
    own = facts.same_words or facts.likeness
    if own is None:
        text += "unknown, since quality was not measured"
    elif facts.same_words is not None:
        text += f"in {facts.size}, {own} of the next words stay the same"
    else:
        text += f"in {facts.size}, its answers score {own} for similarity to the original's"
    if own is not None and budget.other_quality is not None:
        text += f"; in {budget.other_size}, {budget.other} comes to {budget.other_quality}"
    text += "."
    if budget.gap is not None:
        text += f" The finished model came within {budget.gap} of the prediction."
    return text


def _waiting_point(budget: ChosenForBudget, waiting: OpenBudget) -> str:
    """Explain a pending budget: what it asks for, and what is unknown."""
    text = f"Bits for each part: a budget in place of fixed bits. The budget is {budget.asked}"
    if waiting.is_spare:
        text += f", more than this model takes with any choice: {waiting.most} is all it can use"
    return (
        f"{text}. The cost of each part is not known yet: when the recipe is built, each is "
        f"rounded alone and measured on the calibration data, and the best choice within the "
        f"budget is computed, built and measured. Result: known once it is built."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _memory_point(facts: Facts) -> str | None:
    memory = facts.memory
    if memory is None:
        return None
    counted = "" if memory.counts_mapped else "; this device counts only what cannot be dropped"
    return (
        "Weights read in place: the file is mapped into memory, not copied. Result: of "
        f"{memory.total} at the most, {memory.mapped} can be dropped by the system at any moment "
        f"and read again, {memory.working} cannot, and {memory.runtime} were there before the "
        f"model, for the program that runs it{counted}."
    )


def _quality(facts: Facts) -> str:
    if facts.is_planned:
        return "known once it is built and compared with the original"
    if facts.same_words is not None:
        return (
            f"at {facts.places} places of a text that it was not calibrated on, it predicts the "
            f"same next word as the original in {facts.same_words} of them"
        )
    if facts.likeness is not None:
        return (
            f"its answers score {facts.likeness} for similarity to the original's, where one "
            f"means identical"
        )
    if facts.part_quality:
        found = [
            f"{each.words}, {each.value} ({each.limit} allowed)" for each in facts.part_quality
        ]
        return f"measured for each model by itself: {'; '.join(found)}"
    return "unknown, since quality was not measured"


def trade(facts: Facts) -> str:
    """Describe what the smaller model costs, and for which tasks that matters."""
    if facts.is_planned:
        return f"The smaller model will not be the same model. {task_of(facts.task).consequence}"
    if facts.other_words is not None:
        return (
            f"The smaller model is not the same model: it would have chosen a different next word "
            f"than the original in {facts.other_words} of the places. It "
            "matters where a single word decides: code, figures, names, quotations. It matters "
            "less for drafts, suggestions and summaries that somebody reads before they are used."
        )
    if facts.moved is not None:
        changed, texts = facts.moved
        return (
            "The smaller model is not the same model. Asked for the nearest sentence, it answers "
            f"differently for {changed} of {texts}. It matters where only the first hit is shown, "
            "or where a fixed threshold decides. It matters less for lists of results that a "
            "person looks through."
        )
    if facts.relabelled is not None:
        changed, texts = facts.relabelled
        return (
            "The smaller model is not the same model. It gives other labels than the original to "
            f"{changed} of {texts}. It matters where a label decides by itself what happens. "
            "It matters less where a person looks at what was sorted."
        )
    if facts.agreement is not None:
        agreement, samples = facts.agreement
        if task_of(facts.task).transcribes:
            return (
                f"The smaller model is not the same model. In {samples}, {agreement} of the words "
                "are those that the original writes. It matters where a word is a command, or a "
                "name or a number. It matters less where a person reads along."
            )
        return (
            "The smaller model is not the same model. Where the original's boxes count as right, "
            f"its boxes on {samples} reach a mean average precision of {agreement}; the "
            "original itself would reach 100 %. It matters where a box by itself decides what "
            "happens. It matters less where a person looks at the image too."
        )
    seen = f"On the evaluation data: {_quality(facts)}."
    if facts.part_quality:
        seen = "How far each is from its original was measured by itself."
    return (
        f"The smaller model is not the same model. {seen} It matters most where close calls are "
        "common."
    )
