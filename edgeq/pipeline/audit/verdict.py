"""The audit in one sentence, and the largest divergence that a file's claim can explain."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.pipeline.audit.records import Claim, Finding, Outcome
from edgeq.pipeline.compare.compare import Comparison

# Mean KL of Llama-3-8B by type, nats: the table in llama.cpp's perplexity README.
_PUBLISHED = {
    "Q8_0": 0.00136,
    "Q6_K": 0.0055,
    "Q5_K_M": 0.0108,
    "Q4_K_M": 0.0313,
    "Q4_0": 0.0719,
    "Q3_K_M": 0.0844,
    "Q2_K": 0.332,
}
_TOO_FAR = 4
"""Allowed factor over the published figure: small models lose more, but not this much more."""
_FLOOR = 0.015  # nats that a runtime's own arithmetic may cost a small model, whatever the type
_MOST_OF_FOUR_BITS = 0.15  # nats, for types of 4 bits and more without a published figure
# Five public Q4_K_M, Q4_K_S and IQ4_XS files of one model of 9 billion weights.
_ONE_LABEL_MIXES = ("Q4_K_M", "Q4_K_S", "IQ4_XS")
_ONE_LABEL = "public 4-bit files of one model span 0.0087 to 0.0353"


def judge_quality(quality: Comparison | None, claim: Claim) -> list[Finding]:
    """Whether the mean KL exceeds what the claimed mix, or else its bits, can explain."""
    if quality is None:
        return []
    published = _PUBLISHED.get(claim.mix or "")
    if published is not None:
        most = max(_TOO_FAR * published, _FLOOR)
        of_what = f"{published:g} were published for {claim.mix} of an 8-billion model"
    elif claim.bits_per_weight >= 4:
        most = _MOST_OF_FOUR_BITS if claim.bits_per_weight < 8 else _FLOOR
        of_what = f"it has {claim.bits_per_weight:.2f} bits per weight"
    else:
        return []
    if quality.kl.mean <= most:
        return []
    what = (
        f"its mean KL from the reference is {quality.kl.mean:.3g} nats, over {most:.3g}; "
        f"{of_what}: rounding alone does not explain it"
    )
    return [Finding(subject="quality", matters=True, what=what)]


def sentence(
    claim: Claim,
    findings: Sequence[Finding],
    structure: Outcome,
    tokenizer: Outcome,
    quality: Comparison | None,
) -> str:
    """Summarize the audit in a sentence: problems first, else the confirmed facts."""
    wrong = [finding for finding in findings if finding.matters]
    if wrong:
        more = len(wrong) - 1
        many = "findings that matter" if more > 1 else "finding that matters"
        also = f" (and {more} more {many})" if more else ""
        return f"Not sound: {wrong[0].what.rstrip('.')}{also}."
    parts = [_made(claim)]
    if any(finding.subject == "structure" for finding in findings):
        parts.append("its layers and widths could not be compared with the reference's")
    elif structure.passed:
        parts.append("it has the reference's layers and widths")
    if tokenizer.passed:
        parts.append("it tokenizes text like the reference")
    if quality is None:
        parts.append("its divergence from its model was not measured")
    else:
        four = f" ({_ONE_LABEL})" if claim.mix in _ONE_LABEL_MIXES else ""
        parts.append(
            f"its mean KL from the reference is {quality.kl.mean:.2g} ± "
            f"{quality.kl.mean_se:.1g} nats{four}"
        )
    return f"Sound: {'; '.join(parts)}."


def _made(claim: Claim) -> str:
    bits = f"{claim.bits_per_weight:.2f} bits per weight"
    if claim.mix is None:
        return f"{bits}, without a claim to compare with"
    if claim.differing:
        count = len(claim.differing)
        tensors = "one tensor" if count == 1 else f"{count} tensors"
        return f"{claim.mix} except for {tensors} with more bits, {bits}"
    return f"every tensor matches llama.cpp's {claim.mix}, {bits}"
