"""Compare a file's tokens and chat template with the model's own directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from edgeq.formats.chat import chat_of_directory
from edgeq.formats.gguf.header import Header
from edgeq.formats.gguf.parity import KnownDifferences
from edgeq.formats.gguf.respelled import spellings
from edgeq.formats.gguf.tokens import WORD_START
from edgeq.formats.hard_texts import HARD_TEXTS
from edgeq.formats.tokenizer_pieces import DecoderTokenizer
from edgeq.pipeline.audit.plain import text as text_of
from edgeq.pipeline.audit.records import Finding, Outcome

_SHOWN = 40


def judge_template(own: str | None, directory: Path) -> tuple[Outcome, list[Finding]]:
    """Whether the file's template equals the reference's."""
    wanted = chat_of_directory(directory).template
    if own == wanted:
        detail = "neither has one" if own is None else "the same, character by character"
        return Outcome(how="measured", passed=True, detail=detail), []
    if wanted is None:
        what, matters = "the file has one and the reference has none", False
    elif own is None:
        what, matters = "the reference has one and the file has none", True
    else:
        what, matters = f"they differ: {_difference(own, wanted)}", True
    finding = Finding(subject="chat template", matters=matters, what=what)
    return Outcome(how="measured", passed=False, detail=what), [finding]


def _difference(own: str, wanted: str) -> str:
    pairs = enumerate(zip(own, wanted, strict=False))
    at = next((place for place, (x, y) in pairs if x != y), min(len(own), len(wanted)))
    return (
        f"at character {at} the file has {own[at : at + _SHOWN]!r}, "
        f"the reference {wanted[at : at + _SHOWN]!r}"
    )


def hard_texts(directory: Path | None) -> tuple[str, ...]:
    """Texts for comparing tokenizers, normalized if the reference's tokenizer does that.

    llama.cpp normalizes for no model, so the file's author cannot be blamed for that difference.
    """
    if directory is None:
        return HARD_TEXTS
    known = KnownDifferences(Tokenizer.from_file(str(directory / "tokenizer.json")))
    return tuple(map(known.without, HARD_TEXTS))


def has_known_differences(content: str, directory: Path) -> bool:
    """Whether llama.cpp tokenizes `content` unlike the reference regardless of the file."""
    known = KnownDifferences(Tokenizer.from_file(str(directory / "tokenizer.json")))
    return known.without(content) != content


def judge_table(header: Header, directory: Path) -> list[Finding]:
    """Whether every id of the reference's vocabulary has the same text in the file.

    Tokenizing texts alone does not show it: they may use neither of two swapped tokens. Ids beyond
    the file's vocabulary are covered by the comparison of vocabulary sizes.
    """
    found = header.metadata.get("tokenizer.ggml.tokens")
    if found is None or found.kind != "array":
        return []  # a gap that is reported without a reference
    own = list(found.value)
    is_bert = text_of(header, "tokenizer.ggml.model") == "bert"
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    added = tokenizer.get_added_tokens_decoder()
    wanted = {id: text for text, id in tokenizer.get_vocab(with_added_tokens=True).items()}
    wanted.update({id: token.content for id, token in added.items()})
    wrong = [
        (id, own[id], text)
        for id, text in sorted(wanted.items())
        if id < len(own) and own[id] not in _spellings(text, id in added, is_bert)
    ]
    if not wrong:
        return []
    id, found_text, text = wrong[0]
    verb = "token is not" if len(wrong) == 1 else "tokens are not"
    what = (
        f"{len(wrong)} of {len(own)} {verb} the reference's, the first is {id}: "
        f"{str(found_text)[:_SHOWN]!r}, not {text[:_SHOWN]!r}"
    )
    return [Finding(subject="tokenizer", matters=True, what=what)]


def _spellings(text: str, is_added: bool, is_bert: bool) -> tuple[str, ...]:
    """The spellings of a token that a GGUF file may use: converters differ in two cases."""
    if is_bert:  # the start of a word is marked instead of its continuation
        return text, text[2:] if text.startswith("##") else WORD_START + text
    return (text, text.replace(WORD_START, " ")) if is_added else spellings(text)


def judge_tokens(
    texts: Sequence[str], ids: Sequence[Sequence[int]], around: Sequence[int], directory: Path
) -> tuple[Outcome, list[Finding]]:
    """Whether the file tokenizes `texts` like the reference's tokenizer.json.

    ids: for every text in the file, without special tokens; around: for "a", with them.
    """
    tokenizer = DecoderTokenizer((directory / "tokenizer.json").read_bytes())
    wrong = [
        (text, list(own), wanted)
        for text, own in zip(texts, ids, strict=True)
        if list(own) != (wanted := tokenizer.ids(text, special=False))
    ]
    findings = []
    if wrong:
        text, own, wanted = wrong[0]
        what = (
            f"{len(wrong)} of {len(texts)} texts are tokenized differently from the reference, "
            f"the first {text[:_SHOWN]!r}: {own[:8]}, not {wanted[:8]}"
        )
        findings.append(Finding(subject="tokenizer", matters=True, what=what))
    expected = tokenizer.ids("a")
    if list(around) != expected and not wrong:
        what = f"with special tokens 'a' is {list(around)}, in the reference {expected}"
        findings.append(Finding(subject="tokenizer", matters=True, what=what))
    detail = (
        findings[0].what
        if findings
        else f"the same tokens, and the same ids for {len(texts)} texts"
    )
    return Outcome(how="measured", passed=not findings, detail=detail), findings
