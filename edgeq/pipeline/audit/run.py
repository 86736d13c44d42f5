"""`edgeq audit`: whether a GGUF file is what it claims to be, and of good quality."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.temporary import TemporaryFolder
from edgeq.core.terms import Progress
from edgeq.formats.gguf.header import Header, read_header
from edgeq.measure.divergence import DEFAULT_WINDOWS
from edgeq.models.huggingface import read_directory
from edgeq.pipeline.audit import reference as against
from edgeq.pipeline.audit import runs
from edgeq.pipeline.audit.child import Request
from edgeq.pipeline.audit.claims import judge_claim
from edgeq.pipeline.audit.metadata import is_language_model, judge_metadata
from edgeq.pipeline.audit.plain import text as text_of
from edgeq.pipeline.audit.plain import whole
from edgeq.pipeline.audit.records import Audit, Finding, Outcome, TensorLine
from edgeq.pipeline.audit.structure import judge_structure
from edgeq.pipeline.audit.values import look
from edgeq.pipeline.audit.verdict import judge_quality, sentence
from edgeq.pipeline.compare.compare import Comparison
from edgeq.recipe.text_files import read_text
from edgeq.recipe.windows import DEFAULT_WINDOW

_OWN_WINDOW, _OWN_WINDOWS = 128, 8
"""Windows of the text that a reference writes if none is given; few, since generation is slow."""


def audit(
    path: Path,
    reference: Path | None = None,
    text: Path | None = None,
    progress: Progress = lambda step: None,
) -> Audit:
    """Audit the GGUF file at `path`.

    reference: the Hugging Face directory it was made from. text: the text for the KL divergence, by
    default one that the reference writes itself. Raises InvalidInput for a malformed file, before
    any C code reads it, for an importance matrix, and for an invalid reference or text.
    """
    header = read_header(path)
    if text_of(header, "general.type") == "imatrix":
        what = "is an importance matrix, not a model"
        raise InvalidInput(Problem(str(path), what, "audit the model that was quantized with it"))
    if reference is not None:
        read_directory(reference, "--reference")
    elif text is not None:
        what = "is used only to compare with a reference"
        raise InvalidInput(Problem("--text", what, "give --reference DIR, too"))
    if text is not None:
        read_text(text)
    claim, findings, lines = judge_claim(path, header)
    findings += judge_metadata(header)
    lines, broken = _look_at_weights(header, lines, progress)
    findings += broken
    checks = _Checks(path, header, reference, progress)
    for check in (checks.structure_of_both, checks.open, checks.tokens, checks.template):
        findings += check()
    quality, reason, cut_otherwise = checks.quality(text)
    findings += [*cut_otherwise, *judge_quality(quality, claim)]
    return Audit(
        path=str(path),
        bytes=header.file_bytes,
        architecture=text_of(header, "general.architecture"),
        parameters=sum(math.prod(line.shape) for line in lines),
        claim=claim,
        findings=tuple(findings),
        loading=checks.loading,
        structure=checks.structure,
        tokenizer=checks.tokenizer,
        chat_template=checks.chat_template,
        quality=quality,
        quality_not_run=reason,
        sound=not any(finding.matters for finding in findings),
        verdict=sentence(claim, findings, checks.structure, checks.tokenizer, quality),
        tensors=tuple(lines),
    )


def _look_at_weights(
    header: Header, lines: list[TensorLine], progress: Progress
) -> tuple[list[TensorLine], list[Finding]]:
    """Check every tensor's values; one finding for each kind of problem."""
    seen: dict[tuple[str, bool], list[str]] = {}
    looked: list[TensorLine] = []
    for index, line in enumerate(lines):
        progress(f"read tensor {index + 1} of {len(lines)}")
        values = look(header.path, header.tensors[line.name])
        if values.problem is not None:
            # an all-zero bias is harmless; an all-zero matrix is not
            matters = not values.all_zero or len(line.shape) > 1
            said = f"{line.name} ({line.type}): {values.problem}"
            seen.setdefault((values.sort, matters), []).append(said)
            line = line.model_copy(update={"problem": values.problem})
        looked.append(line)
    findings = []
    for (sort, matters), texts in seen.items():
        more = f", and {len(texts) - 1} other tensors {sort}" if len(texts) > 1 else ""
        findings.append(Finding(subject="weights", matters=matters, what=f"{texts[0]}{more}"))
    return looked, findings


def _not_run(reason: str) -> Outcome:
    return Outcome(how="not run", passed=None, detail=reason)


def _failed(reason: str) -> Outcome:
    return Outcome(how="measured", passed=False, detail=reason)


class _Checks:
    """The checks that need a reference or a runtime; each stores its outcome."""

    def __init__(
        self, path: Path, header: Header, reference: Path | None, progress: Progress
    ) -> None:
        self._path, self._header = path, header
        self._reference, self._progress = reference, progress
        self._texts = against.hard_texts(reference)
        self._reply: dict[str, Any] | None = None
        no_reference = _not_run("no reference was given")
        self.loading = self.structure = self.tokenizer = self.chat_template = no_reference

    def structure_of_both(self) -> list[Finding]:
        """Whether the file has the reference's layers and widths."""
        if self._reference is None:
            return []
        self.structure, findings = judge_structure(self._header, self._reference)
        return findings

    def open(self) -> list[Finding]:
        """Whether llama.cpp opens and runs the file."""
        parts = whole(self._header, "split.count") or 1
        if parts > 1:
            self.loading = _not_run(f"it is one part of {parts}")
            return []
        if not self._header.tensors:
            self.loading = _not_run("it holds no weights")
            return []
        if not is_language_model(self._header):
            self.loading = _not_run("it is not a language model")
            return []
        try:
            reply = runs.tokens_of(self._path, self._texts, self._progress)
        except runs.RunFailed as error:
            reason = self._reason(error)
            if error.missing:
                self.loading = _not_run(reason)
                return []
            self.loading = _failed(reason)
            return [Finding(subject="loading", matters=True, what=reason)]
        self._reply = reply if reply["language_model"] else None
        finite = reply.get("finite", True)
        detail = reply["runtime"] if finite else "its predictions are NaN or infinite"
        self.loading = Outcome(how="measured", passed=finite, detail=detail)
        return [] if finite else [Finding(subject="loading", matters=True, what=detail)]

    def tokens(self) -> list[Finding]:
        """Whether the file tokenizes text like the reference."""
        if self._reference is None:
            return []
        findings = against.judge_table(self._header, self._reference)
        if self._reply is None:
            self.tokenizer = _not_run("the file was not opened")
        else:
            self.tokenizer, cut_otherwise = against.judge_tokens(
                self._texts, self._reply["ids"], self._reply["around"], self._reference
            )
            findings += cut_otherwise
        if findings:
            self.tokenizer = _failed(findings[0].what)
        return findings

    def template(self) -> list[Finding]:
        """Whether the file has the reference's chat template."""
        if self._reference is None:
            return []
        own = text_of(self._header, "tokenizer.chat_template")
        self.chat_template, findings = against.judge_template(own, self._reference)
        return findings

    def quality(self, text: Path | None) -> tuple[Comparison | None, str | None, list[Finding]]:
        """The KL divergence from the reference, or why there is none and any finding in that."""
        if self._reference is None:
            return None, "no reference was given", []
        if self._reply is None:
            return None, "the file was not opened", []
        with TemporaryFolder() as folder:
            own = text is None
            request = Request(
                work="quality",
                file=self._path.absolute(),
                reference=self._reference.absolute(),
                text=Path(folder) / "text" if text is None else text.absolute(),
                write_text=own,
                window=_OWN_WINDOW if own else DEFAULT_WINDOW,
                windows=_OWN_WINDOWS if own else DEFAULT_WINDOWS,
            )
            try:
                found = Comparison.model_validate(runs.ask(request, self._progress))
            except runs.RunFailed as error:
                return None, self._reason(error), self._cut_otherwise(error, request)
        given = {"a": self._reference, "b": self._path}
        sides = {
            name: getattr(found, name).model_copy(update={"path": str(path)})
            for name, path in given.items()
        }
        used = "what the reference writes itself" if text is None else str(text)
        return found.model_copy(update={**sides, "text": used}), None, []

    def _cut_otherwise(self, error: runs.RunFailed, request: Request) -> list[Finding]:
        """The finding behind a KL pass that did not start since the models tokenize the text
        differently.
        """
        assert request.text is not None and self._reference is not None
        if not error.other_tokens or self.tokenizer.passed is False:
            return []
        reason = self._reason(error)
        if against.has_known_differences(read_text(request.text), self._reference):
            what = f"{reason}; on this text llama.cpp does so whatever a file says"
            return [Finding(subject="tokenizer", matters=False, what=what)]
        self.tokenizer = _failed(reason)
        return [Finding(subject="tokenizer", matters=True, what=reason)]

    def _reason(self, error: runs.RunFailed) -> str:
        """The error's message, without the name of the audited file."""
        return str(error).removeprefix(f"{self._path.absolute()}: ")
