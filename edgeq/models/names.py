"""Canonical names for weights, without wrappers' prefixes.

Wrappers of training libraries and of larger models add a prefix: `_orig_mod.`, `module.`,
`language_model.`; a decoder saved without its head has none at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgeq.core.errors import InvalidInput, Problem
from edgeq.models.architectures.experts import of_all_experts, of_expert
from edgeq.quantize.number_formats import Floats


@dataclass(frozen=True)
class ExpertPart:
    """Where the weight of an expert lies in one of all experts, (experts, columns, rows), or a bias
    in (experts, rows): every `parts`-th row from `part`.

    by_rows: it lies in (experts, rows, columns) instead, and its rows are together.
    """

    whole: str
    expert: int
    part: int
    parts: int
    by_rows: bool = False

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """Outputs first."""
        rows, *columns = whole[1:] if self.by_rows else whole[:0:-1]
        return (rows // self.parts, *columns)

    def cut(self, expert: Floats) -> Floats:
        """Its rows of all that the expert has in `whole`, outputs first."""
        if not self.by_rows:
            return expert.T[self.part :: self.parts]
        rows = len(expert) // self.parts
        return expert[self.part * rows : (self.part + 1) * rows]


_TABLE, _HEAD, _BODY = "embed_tokens.weight", "lm_head.weight", "model."
_WRAPPERS = ("_orig_mod.", "module.", "model.", "transformer.", "language_model.", "encoder.")


def decoder_names(stored: Iterable[str], where: str) -> dict[str, str]:
    """The name in the file of every weight of a language model, by its usual name.

    Raises InvalidInput if two prefixes are possible.
    """
    stored = list(stored)
    body = _prefix(stored, _TABLE, where)
    head = _prefix(stored, _HEAD, where)
    names: dict[str, str] = {}
    for name in stored:
        usual = name
        if head is not None and name == head + _HEAD:
            usual = _HEAD
        elif body is not None and name.startswith(body):
            usual = _BODY + name.removeprefix(body)
        if usual in names:
            raise _ambiguous(where, names[usual], name)
        names[usual] = name
    return names


def stacked_names(
    names: Iterable[str], kinds: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """The weights that are stacked in others, by the others' names; kinds: by their endings, which
    are without the number of an expert.
    """
    found = {}
    for name in names:
        whole, *number = of_all_experts(name) or (name,)
        for ending, parts in kinds.items():
            if whole.endswith(f".{ending}"):
                own = (whole.removesuffix(ending) + part for part in parts)
                found[name] = tuple(of_expert(part, *number) if number else part for part in own)
    return found


def expert_parts(
    shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, tuple[str, ...]], by_rows: bool
) -> dict[str, ExpertPart]:
    """Where each expert's weights lie in those of all; kinds, by_rows: as in `Family`."""
    return {
        f"{name.rpartition('.')[0]}.{expert}.{part}": ExpertPart(
            name, expert, place, len(parts), by_rows
        )
        for name, shape in shapes.items()
        for ending, parts in kinds.items()
        if name.endswith(f".{ending}")
        for expert in range(shape[0])
        for place, part in enumerate(parts)
    }


def encoder_names(stored: Iterable[str], where: str) -> dict[str, str]:
    """The same for an encoder, without a wrapper's prefix."""
    names = {name: name for name in stored}
    while True:
        prefix = next(
            (p for p in _WRAPPERS if names and all(name.startswith(p) for name in names)), None
        )
        if prefix is None or (prefix == "encoder." and not _is_wrapped(names)):
            break
        names = {usual.removeprefix(prefix): name for usual, name in names.items()}
    for prefix in ("_orig_mod.", "module."):
        odd = next((name for usual, name in names.items() if usual.startswith(prefix)), None)
        if odd is not None:
            what = f"some weights have the prefix {prefix!r} and others do not, e.g. {odd}"
            raise InvalidInput(Problem(where, what, "save the model again, without the wrapper"))
    return names


def _is_wrapped(names: Iterable[str]) -> bool:
    return any(name.startswith("encoder.embeddings.") for name in names)


def _prefix(stored: Iterable[str], ending: str, where: str) -> str | None:
    """The prefix of the single weight with this ending; None if there is none."""
    found = [n for n in stored if n == ending or n.endswith(f".{ending}")]
    if len(found) > 1:
        raise _ambiguous(where, *found[:2])
    return found[0].removesuffix(ending) if found else None


def _ambiguous(where: str, first: str, second: str) -> InvalidInput:
    what = f"its weights contain one model twice: {first} and {second}"
    return InvalidInput(Problem(where, what, "save the model again with one of them"))
