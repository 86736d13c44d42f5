"""Budgets that an artifact must keep, and the workload of a language model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from edgeq.core.artifact import Frozen
from edgeq.core.budgets import Budget
from edgeq.core.kv_cache import QUANTIZED, KvType
from edgeq.core.units import Bytes, Fraction, Seconds, TokensPerSecond
from edgeq.core.validation_messages import refuse
from edgeq.recipe.registered_budgets import WithRegistered
from edgeq.recipe.windows import DEFAULT_WINDOW


def _check_spearman(value: Any) -> Any:
    if isinstance(value, int | float) and 0 < abs(value) <= 1:
        what = f"Spearman correlation is given × 100, so {value} would be almost no bound"
        raise refuse(what, f"write e.g. 'spearman: {value * 100:g}'")
    return value


class Workload(Frozen):
    """An app's use of a language model; memory and speed are measured on it."""

    context: int = Field(
        default=1024,
        ge=2,
        description="Context positions that are allocated; memory is measured with them.",
    )
    kv: KvType | Literal["auto"] | None = Field(
        default=None,
        description="GGUF: the type of the KV cache; q8_0 and q4_0 take 53 % and 28 % of f16, and "
        "quality is measured with them, on windows as long as the context. auto: the most precise "
        "one with which the estimated memory keeps memory.peak and quantize.fit's memory; for a "
        "fit not below q8_0, weights get fewer bits first. By default f16, and f32 for float32.",
        examples=["q8_0"],
    )
    prompt: int = Field(
        default=128, ge=1, description="Tokens in the prompt, for the time to the first token."
    )
    generate: int = Field(default=32, ge=1, description="Tokens generated after it.")

    @property
    def window(self) -> int:
        """Tokens per window for measuring quality.

        A quantized cache loses more the more is read from it: windows then fill the context.
        """
        if self.kv == "auto" or self.kv in QUANTIZED:
            return self.context
        return min(DEFAULT_WINDOW, self.context)


class MemoryBudget(Frozen):
    """Memory of one process; judged as the device's system counts it."""

    peak: Bytes | None = Field(
        default=None, description="Upper bound for the whole process.", examples=["200 MiB"]
    )
    growth: Bytes | None = Field(
        default=None,
        description="Upper bound of the memory that loading and running add to a process that has "
        "imported its libraries.",
        examples=["64 MiB"],
    )


class LatencyBudget(Frozen):
    """Time for one run on one sample, or for a language model until its first token."""

    p50: Seconds | None = Field(
        default=None, description="Upper bound of the median.", examples=["40 ms"]
    )
    p90: Seconds | None = Field(
        default=None, description="Upper bound of the 90 % quantile over runs.", examples=["60 ms"]
    )
    first_token: Seconds | None = Field(
        default=None,
        description="Language models: upper bound of the 90 % quantile of the time from a prompt "
        "of workload.prompt tokens to the first token of the answer.",
        examples=["400 ms"],
    )


_MINUTES = 5.0


class SpeedBudget(Frozen):
    """Tokens per second of a language model, judged by medians."""

    prompt: TokensPerSecond | None = Field(
        default=None, description="Lower bound for reading a prompt.", examples=["200 tok/s"]
    )
    generation: TokensPerSecond | None = Field(
        default=None, description="Lower bound for generating an answer.", examples=["20 tok/s"]
    )
    sustained: TokensPerSecond | None = Field(
        default=None,
        description="Lower bound for the slowest fifth of `minutes` of writing without a pause, "
        "in which a phone grows hot and slows down.",
        examples=["15 tok/s"],
    )
    minutes: float | None = Field(
        default=None,
        gt=0,
        le=30,
        description="How long `sustained` is measured; 5 by default.",
        examples=[5],
    )

    @model_validator(mode="after")
    def _minutes_are_of_something(self) -> SpeedBudget:
        if self.minutes is not None and self.sustained is None:
            what = "minutes says how long a sustained speed is measured, and none is asked for"
            raise refuse(what, "add e.g. 'sustained: 15 tok/s'")
        return self

    @property
    def sustained_seconds(self) -> float | None:
        """How long a model writes without a pause; None without a budget for that."""
        return None if self.sustained is None else 60 * (self.minutes or _MINUTES)


class SizeBudget(Frozen):
    """Bytes on disk and on the network."""

    download: Bytes | None = Field(
        default=None,
        description="Upper bound for all files of one artifact together.",
        examples=["25 MiB"],
    )


class QualityBudget(Frozen):
    """Distance from the full-precision model on the evaluation data."""

    cosine: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Lower bound of the mean cosine between an output and the full-precision one.",
        examples=[0.98],
    )
    spearman: Annotated[float, BeforeValidator(_check_spearman)] | None = Field(
        default=None,
        ge=-100,
        le=100,
        description="Lower bound of the Spearman correlation × 100 with the scores of the "
        "evaluation data.",
        examples=[81.5],
    )
    error: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Upper bound of the relative RMS error of the outputs, ‖a−b‖/‖b‖.",
        examples=[0.02],
    )
    top1: Fraction | None = Field(
        default=None,
        description="Lower bound of the share of samples (tokens, for a language model) whose "
        "largest output stays the same.",
        examples=[0.99],
    )
    agreement: Fraction | None = Field(
        default=None,
        description="Classifiers: lower bound of the share of samples that keep the labels which "
        "the original gives them. Detectors: of the mean average precision (mAP 50:95) of its "
        "boxes, where the original's count as right. Speech recognisers: of the share of words "
        "that stay as the original writes them.",
        examples=[0.99],
    )
    accuracy_drop: Fraction | None = Field(
        default=None,
        description="Classifiers: upper bound of the original's accuracy on labelled samples minus "
        "the artifact's.",
        examples=["1 %"],
    )
    f1_drop: Fraction | None = Field(
        default=None,
        description="Upper bound of the original's F1 on labelled samples minus the artifact's. "
        "Classifiers: the mean of the classes' F1. Taggers: F1 over the labelled parts of texts.",
        examples=["1 %"],
    )
    top5_drop: Fraction | None = Field(
        default=None,
        description="Classifiers of images: as accuracy_drop, where a right label counts if it is "
        "among the five likeliest.",
        examples=["1 %"],
    )
    map_drop: Fraction | None = Field(
        default=None,
        description="Detectors: upper bound of the original's mean average precision (mAP 50:95) "
        "on annotated images minus the artifact's.",
        examples=["1 %"],
    )
    wer_rise: Fraction | None = Field(
        default=None,
        description="Speech recognisers: upper bound of the artifact's word error rate on "
        "recordings with known texts minus the original's.",
        examples=["1 %"],
    )
    order: Fraction | None = Field(
        default=None,
        description="Rerankers: lower bound of the share of pairs of texts under a query that keep "
        "the original's order.",
        examples=[0.97],
    )
    ndcg_drop: Fraction | None = Field(
        default=None,
        description="Rerankers: upper bound of the original's nDCG@10 on texts of known relevance "
        "minus the artifact's.",
        examples=["1 %"],
    )
    mrr_drop: Fraction | None = Field(
        default=None,
        description="Rerankers: upper bound of the original's mean reciprocal rank of the first "
        "relevant text minus the artifact's.",
        examples=["1 %"],
    )
    kl: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Language models: upper bound of the mean KL divergence of the next token's "
        "distribution from the full-precision one, in nats.",
        examples=[0.02],
    )
    kl_p99: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Upper bound of the 99 % quantile of the KL divergence over tokens, in nats.",
        examples=[0.2],
    )
    perplexity: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Upper bound of the perplexity divided by the full-precision one.",
        examples=[1.02],
    )
    multiple_choice_drop: Fraction | None = Field(
        default=None,
        description="Language models: upper bound of the original's share of right answers to "
        "data.questions minus the artifact's.",
        examples=["1 %"],
    )


class PlacementBudget(Frozen):
    """Where Core ML plans to run a package's operators, by its compute plan on the device."""

    npu: Fraction | None = Field(
        default=None,
        description="Lower bound of the share of operators on the Neural Engine.",
        examples=[0.9],
    )
    gpu: Fraction | None = Field(
        default=None,
        description="Lower bound of the share of operators on the GPU.",
        examples=[0.9],
    )


class Budgets(Frozen):
    """Budgets that an artifact must keep to pass; each is optional."""

    memory: Annotated[MemoryBudget, WithRegistered("memory")] = Field(
        default=MemoryBudget(), description="Memory while it runs."
    )
    latency: Annotated[LatencyBudget, WithRegistered("latency")] = Field(
        default=LatencyBudget(), description="Time of one run."
    )
    speed: Annotated[SpeedBudget, WithRegistered("speed")] = Field(
        default=SpeedBudget(), description="Speed of a language model."
    )
    size: Annotated[SizeBudget, WithRegistered("size")] = Field(
        default=SizeBudget(), description="Size of an app's download."
    )
    quality: Annotated[QualityBudget, WithRegistered("quality")] = Field(
        default=QualityBudget(), description="Distance from the full-precision model."
    )
    placement: Annotated[PlacementBudget, WithRegistered("placement")] = Field(
        default=PlacementBudget(), description="Core ML packages: the units that run them."
    )

    def limit(self, budget: Budget) -> float | None:
        """The recipe's limit for a budget; None without one."""
        limit: float | None = getattr(getattr(self, budget.section), budget.key, None)
        return limit
