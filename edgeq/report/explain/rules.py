"""The style rules of an explanation, and the linter that checks a text against them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from edgeq.quantize.methods import ROUNDING_METHODS
from edgeq.report.explain import analogies
from edgeq.report.explain.piece import Written

_PUFFERY = ("magic", "miracle", "wizard", "secret sauce", "revolution", "game-chang", "blazing",
            "lightning", "effortless", "amazing", "incredible", "unleash", "supercharge",
            "seamless", "cutting-edge", "state-of-the-art", "guarantee")  # fmt: skip
_JARGON = ("affine", "tensor", "kl divergence", "kullback", "divergence", "logit", "nats",
           "perplexity", "cosine", "entropy", "softmax", "hessian", "zero point", "zero-point",
           "gemm", "simd", "percentile", "quantile", "p90", "p99", "matmul", "eigen", "gradient",
           "dequant", "activation", "high-water", "footprint", "anonymous memory",
           "kv cache")  # fmt: skip
_INVENTED = (
    r"\b[Mm]eet [A-Z]",
    r"\b[Ii]magine\b",
    r"\b[Pp]icture this\b",
    r"\b[Oo]nce upon\b",
    r"\b[Oo]ur friend\b",
    r"\bsays? [A-Z][a-z]+,",
    r"\b(?:Alice|Bob|Sarah|John|Maria|Anna|Tom|Priya|Alex)\b",
    r"\b[Ww]hen [A-Z][a-z]+ (?:opened|started|tried|wanted)\b",
)
_LIKENING = re.compile(
    r"\b(?:something like it|just as|think of|is like|as if|the moment at)\b", re.IGNORECASE
)
_NAMES = ("GPTQ", "AWQ", "GGUF", "QLoRA", "ONNX", "INT8", "INT4", "JPEG", "GIF")
_PACE = re.compile(r"\b(?:faster|quicker|times as fast|slower|speed-?up)\b", re.IGNORECASE)
_MIX = re.compile(r"\bi?q\d_(?:k(?:_[sml])?|\d|xs|xxs|nl)\b", re.IGNORECASE)


def problems(written: Written) -> list[str]:
    """List the rules that a piece breaks; empty if it keeps them all."""
    return list(_problems(written))


def _problems(written: Written) -> Iterator[str]:
    text = written.piece.text
    own = _without_names(written, text)
    for word in _PUFFERY:
        if word in own.casefold():
            yield f"promises: {word!r}"
    for word in _JARGON:
        if re.search(rf"\b{re.escape(word)}", own.casefold()):
            yield f"jargon: {word!r}"
    for pattern in _INVENTED:
        found = re.search(pattern, own)
        if found:
            yield f"an invented person or story: {found.group()!r}"
    yield from _analogy_problems(written, own)
    yield from _figure_problems(written, own)
    yield from _name_problems(own)
    pace = _PACE.search(own)
    if pace and not any(
        each.budget.startswith(("latency.", "speed.")) and each.how == "measured" and each.original
        for each in written.facts.budgets
    ):
        yield f"a speed that was not measured: {pace.group()!r}"
    points = [len(part.points) for part in written.piece.parts if part.points]
    if points not in ([2], [3]):
        yield f"what was done has {points} points, not two or three"


def _without_names(written: Written, text: str) -> str:
    """Remove names of recipes and devices, and quotations."""
    facts = written.facts
    for each in facts.budgets:
        text = text.replace(each.remedy or "…", "…")
    kept, budget = facts.exceptions, facts.budgeted
    names = {facts.name, facts.model, facts.device, facts.artifact, *facts.others, *facts.pending}
    if kept is not None:
        names |= {kept.kinds, kept.kinds[:1].upper() + kept.kinds[1:]}
    if budget is not None:
        names.add(budget.other or "")
    for name in sorted(names - {""}, key=len, reverse=True):
        text = text.replace(name, "…")
    return text


def _analogy_problems(written: Written, text: str) -> Iterator[str]:
    own = written.analogy.text
    if text.count(own) != 1:
        yield f"the analogy appears {text.count(own)} times: {own[:40]!r}"
    rest = text
    for known in analogies.ALL:
        rest = rest.replace(known.text, "")
    for method in ROUNDING_METHODS.values():
        rest = rest.replace(method.summary, "")
    found = _LIKENING.search(rest)
    if found:
        yield f"an analogy from nowhere: {found.group()!r}"
    if own not in written.piece.parts[1].paragraphs[0]:
        yield "the analogy is not next to the idea that it explains"


def _figure_problems(written: Written, text: str) -> Iterator[str]:
    """Every number must come from the report, a cited fact or a name."""
    for cited in written.cited:
        text = text.replace(cited.text, "")
    for figure in sorted(_figures(written), key=len, reverse=True):
        text = re.sub(rf"(?<![\d.]){re.escape(figure)}(?![\d]|\.\d)", "", text)
    for name in _NAMES:
        text = text.replace(name, "")
    text = _MIX.sub("", text)
    for found in re.finditer(r"\d[\d.,]*", text):
        around = text[max(0, found.start() - 30) : found.end() + 15]
        yield f"a number from nowhere: {found.group()} in {around!r}"


def _figures(written: Written) -> set[str]:
    """Formatted figures among the facts: every text with a digit."""
    found: set[str] = set()

    def gather(value: object) -> None:
        if isinstance(value, str):
            if any(letter.isdigit() for letter in value):
                found.add(value)
        elif isinstance(value, tuple):
            for item in value:
                gather(item)
        elif dataclasses.is_dataclass(value):
            for field in dataclasses.fields(value):
                gather(getattr(value, field.name))

    gather(written.facts)
    return found


def _name_problems(text: str) -> Iterator[str]:
    for name in _NAMES:
        for found in re.finditer(rf"\b{name}\b", text, re.IGNORECASE):
            if found.group() != name:
                yield f"{found.group()!r} is called {name}"
    for found in _MIX.finditer(text):
        if found.group() != found.group().upper():
            yield f"{found.group()!r} is called {found.group().upper()}"
