"""The results of an audit, as data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.pipeline.compare.compare import Comparison

Subject = Literal[
    "name",
    "weights",
    "metadata",
    "structure",
    "tokenizer",
    "chat template",
    "loading",
    "quality",
]


class Finding(Frozen):
    """A finding about the file."""

    subject: Subject
    matters: bool = Field(
        description="Whether it contradicts the file's claim or makes the file worse than it "
        "should be; other findings are informative only."
    )
    what: str


class TensorLine(Frozen):
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...] = Field(description="Shape, rows first.")
    type: str = Field(description="The number format by ggml's name.")
    bytes: int
    bits_per_weight: float
    claimed_type: str | None = Field(
        description="The type that the claimed mix gives this tensor; null if no mix is claimed."
    )
    problem: str | None = Field(default=None, description="The problem with its values, if any.")


class Claim(Frozen):
    """The file's claim, compared with its content."""

    in_name: str | None = Field(description="The type or mix stated in the file's name.")
    recorded: str | None = Field(description="general.file_type by name.")
    mix: str | None = Field(description="The mix the tensors were compared with.")
    importance: bool = Field(description="Whether it states that an importance matrix was used.")
    differing: tuple[str, ...] = Field(
        description="Tensors whose type differs from the one that llama.cpp's quantizer gives "
        "them in that mix."
    )
    bits_per_weight: float = Field(description="Bits per weight over all tensors.")
    claimed_bits_per_weight: float | None = Field(
        description="Bits per weight of the mix for the same tensors; null if no mix is claimed."
    )


class Outcome(Frozen):
    """Whether one check of the audit was made, and its result."""

    how: Literal["measured", "not run"]
    passed: bool | None = Field(description="Null if it was not run.")
    detail: str = Field(description="The comparison, or why it was not run.")


class Audit(Frozen):
    """All results of an audit of one file."""

    path: str
    bytes: int
    architecture: str | None
    parameters: int = Field(description="Number of weights in all tensors.")
    claim: Claim
    findings: tuple[Finding, ...]
    loading: Outcome = Field(description="Opened and run by llama.cpp, in a process of its own.")
    structure: Outcome = Field(
        description="Layers, widths, heads and vocabulary, compared with the reference's "
        "config.json."
    )
    tokenizer: Outcome = Field(
        description="The token of every id, and the ids of a set of hard texts, compared with the "
        "reference."
    )
    chat_template: Outcome = Field(description="The chat template, compared with the reference's.")
    quality: Comparison | None = Field(
        description="The file (B) compared with the reference (A); null if it was not run."
    )
    quality_not_run: str | None = Field(description="Why there is no quality; null if there is.")
    sound: bool = Field(description="No finding matters.")
    verdict: str = Field(description="The audit in one sentence.")
    tensors: tuple[TensorLine, ...]
