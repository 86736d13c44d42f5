"""What an audit found, as data."""

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
    """One thing worth knowing about the file."""

    subject: Subject
    matters: bool = Field(
        description="Whether it makes the file other than it claims to be, or worse than it should "
        "be; other findings are only worth knowing."
    )
    what: str


class TensorLine(Frozen):
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...] = Field(description="Rows first.")
    type: str = Field(description="The number format, as ggml names it.")
    bytes: int
    bits_per_weight: float
    claimed_type: str | None = Field(
        description="What the claimed mix gives this tensor; null where no mix is claimed."
    )
    problem: str | None = Field(default=None, description="What is wrong with its values.")


class Claim(Frozen):
    """What the file says it is, against what it holds."""

    in_name: str | None = Field(description="The type or mix that the file's name ends in.")
    recorded: str | None = Field(description="general.file_type, by its name.")
    mix: str | None = Field(description="The mix the tensors were compared with.")
    importance: bool = Field(description="Whether it says that an importance matrix was used.")
    differing: tuple[str, ...] = Field(
        description="Tensors of another type than llama.cpp's quantizer gives them in that mix."
    )
    bits_per_weight: float = Field(description="Of all tensors together.")
    claimed_bits_per_weight: float | None = Field(
        description="What the mix takes for these very tensors; null where no mix is claimed."
    )


class Outcome(Frozen):
    """Whether one check of the audit was made, and what it gave."""

    how: Literal["measured", "not run"]
    passed: bool | None = Field(description="Null where it was not run.")
    detail: str = Field(description="What was compared, or why it was not run.")


class Audit(Frozen):
    """Everything an audit found out about one file."""

    path: str
    bytes: int
    architecture: str | None
    parameters: int = Field(description="Weights of all tensors together.")
    claim: Claim
    findings: tuple[Finding, ...]
    loading: Outcome = Field(description="Opened and run by llama.cpp, in a process of its own.")
    structure: Outcome = Field(
        description="Layers, widths, heads and vocabulary, against the reference's config.json."
    )
    tokenizer: Outcome = Field(
        description="The token of every id, and ids of a set of hard texts, against the reference."
    )
    chat_template: Outcome = Field(description="Against the reference's.")
    quality: Comparison | None = Field(
        description="The file (B) against the reference (A); null where it was not run."
    )
    quality_not_run: str | None = Field(description="Why there is no quality; null where there is.")
    sound: bool = Field(description="No finding matters.")
    verdict: str = Field(description="The audit in one sentence.")
    tensors: tuple[TensorLine, ...]
