"""Measurements with chosen numbers, for the tests of what is made of them."""

from __future__ import annotations

from typing import Any

from edgeq.devices.catalogue import load_device
from edgeq.devices.profile import Device
from edgeq.estimate.devices import Estimates
from edgeq.measure import generation
from edgeq.measure.divergence import KL, Divergence, KLErrors, Perplexity
from edgeq.measure.intervals import Bounds
from edgeq.measure.order_statistics import quantile
from edgeq.measure.records import (
    Conditions,
    Generation,
    LanguageQuality,
    Latency,
    Measurement,
    Memory,
    MemoryReading,
    OutputQuality,
    Quality,
)
from edgeq.pipeline.check.judge import Subject, judge
from edgeq.pipeline.check.verdict import Line, Verdict
from edgeq.recipe.budgets import Budgets

MIB = 1 << 20
CONDITIONS = Conditions(
    runtime="onnxruntime 1.31.1",
    threads=2,
    cpu="a CPU",
    system="Linux 6 x86_64",
    load_average=0.5,
    effort="quick",
    inputs="sequence length 128, batch 1",
    prepared=True,
    warnings=(),
)
OUTPUT = OutputQuality(
    samples=100,
    distinct=100,
    cosine_mean=0.985,
    cosine_mean_bounds=Bounds(low=0.983, high=0.987),
    cosine_low=0.95,
    cosine_min=0.9,
    relative_rms_error=0.02,
    relative_rms_error_bounds=Bounds(low=0.018, high=0.022),
    max_absolute_error=0.1,
    top1_agreement=0.97,
    top1_bounds=Bounds(low=0.92, high=0.99),
)

ALL_BUDGETS: dict[str, Any] = {
    "memory": {"peak": "200 MiB", "growth": "64 MiB"},
    "latency": {"p50": "20 ms", "p90": "40 ms"},
    "size": {"download": "25 MiB"},
    "quality": {"cosine": 0.98, "spearman": 81.5, "error": 0.1, "top1": 0.9},
}


def latency(*, p50: float = 0.010, spread: float = 0.002) -> Latency:
    """128 samples in seconds, evenly within `spread` on both sides of `p50`."""
    samples = [p50 + spread * (i - 63.5) / 64 for i in range(128)]
    return Latency(
        load_seconds=0.1,
        warmup_runs=5,
        runs=128,
        samples_seconds=tuple(samples),
        p50=quantile(samples, 0.5),
        p90=quantile(samples, 0.9),
        p99=None,
        conditions=CONDITIONS,
    )


def memory(*, high_water: int = 120, anonymous_peak: int = 50) -> Memory:
    """Sizes in MiB, over a baseline of 70 resident, 40 of them anonymous."""

    def reading(resident: int, anonymous: int) -> MemoryReading:
        return MemoryReading(
            resident_bytes=resident * MIB,
            anonymous_bytes=anonymous * MIB,
            file_mapped_bytes=(resident - anonymous) * MIB,
        )

    return Memory(
        baseline=reading(70, 40),
        loaded=reading(80, 45),
        ran=reading(110, 48),
        with_tokenizer=reading(110, 48),
        high_water_bytes=high_water * MIB,
        anonymous_peak_bytes=anonymous_peak * MIB,
        runs=32,
        conditions=CONDITIONS,
    )


def quality(**outputs: OutputQuality) -> Quality:
    """Of `outputs` by name, else of one ordinary output."""
    return Quality(
        outputs=outputs or {"y": OUTPUT},
        spearman=81.9,
        spearman_bounds=Bounds(low=81.6, high=82.2),
        float_spearman=82.0,
        conditions=CONDITIONS,
    )


def spoken(
    *, first: float = 0.2, token: float = 0.05, conditions: Conditions = CONDITIONS
) -> Generation:
    """64 texts of 128 prompt tokens and 32 behind, within 1 % of these seconds."""
    wobble = [1 + 0.01 * (i - 31.5) / 32 for i in range(64)]
    timing = generation.Timing([first * w for w in wobble], [[token * w] * 32 for w in wobble])
    return generation.summarise(timing, 128, 0.1, conditions)


def divergence(*, kl: float = 0.01, error: float = 0.001, ratio: float = 1.01) -> LanguageQuality:
    """Of 20 windows; 97 % of tokens keep their likeliest successor."""
    found = Divergence(
        kl=KL(
            mean=kl,
            mean_se=error,
            median=kl / 2,
            p90=2 * kl,
            p95=3 * kl,
            p99=8 * kl,
            p999=0.5,
            max=1,
        ),
        kl_se=KLErrors(median=error, p90=error, p95=error, p99=error, p999=error),
        same_top1=0.97,
        same_top1_se=0.002,
        perplexity=Perplexity(a=10, b=10 * ratio, ratio=ratio),
        perplexity_se=Perplexity(a=0.1, b=0.1, ratio=0.002),
        noise_floor=2e-13,
        candidate_noise_floor=8.4e-5,
        rms_dp=0.02,
        rms_dp_se=0.001,
        tokens=2540,
        windows=20,
        window=256,
    )
    return LanguageQuality(divergence=found, conditions=CONDITIONS)


def language_model(**changes: Any) -> Measurement:
    """Of a language model that does everything well, its cache 6 MiB."""
    held = memory().model_copy(update={"context": 1024, "cache_bytes": 6 * MIB})
    facts: dict[str, Any] = {
        "memory": held,
        "latency": None,
        "quality": None,
        "generation": spoken(),
        "language": divergence(),
    }
    return measurement(**{**facts, **changes})


def measurement(**changes: Any) -> Measurement:
    """Of a 23 MiB artifact that does everything well."""
    facts: dict[str, Any] = {
        "artifact": "onnx-int8-dynamic",
        "format": "onnx",
        "artifact_sha256": "a" * 64,
        "download_bytes": 23 * MIB,
        "weight_bytes": 22 * MIB,
        "memory": memory(),
        "latency": latency(),
        "quality": quality(),
    }
    return Measurement(**{**facts, **changes})


def full_precision(**changes: Any) -> Measurement:
    """Of the same model at 90 MiB, slower and larger."""
    facts: dict[str, Any] = {
        "artifact": "onnx-float32",
        "artifact_sha256": "f" * 64,
        "download_bytes": 90 * MIB,
        "weight_bytes": 89 * MIB,
        "memory": memory(high_water=200, anonymous_peak=130),
        "latency": latency(p50=0.030),
        "quality": None,
    }
    return measurement(**{**facts, **changes})


def verdict(
    budgets: dict[str, Any],
    *,
    measured: Measurement | None = None,
    baseline: Measurement | None = None,
    device: Device | None = None,
    alternatives: dict[str, int] | None = None,
    expected: Estimates | None = None,
) -> Verdict:
    """Judged on this machine unless another `device` is given."""
    here = load_device("here")
    subject = Subject(
        "int8-dynamic",
        measured or measurement(),
        baseline or full_precision(),
        here,
        alternatives or {},
        expected=expected,
    )
    return judge(subject, device or here, Budgets.model_validate(budgets))


def line(found: Verdict, budget: str) -> Line:
    """The line of `budget`."""
    return next(line for line in found.lines if line.budget == budget)
