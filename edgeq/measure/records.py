"""Measurements: numbers with their units, and the conditions of measurement."""

from __future__ import annotations

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.terms import Effort, Pass
from edgeq.devices.compute_units import ComputeUnits
from edgeq.measure.divergence import Divergence
from edgeq.measure.intervals import Bounds
from edgeq.measure.neighbours import Neighbours


class Conditions(Frozen):
    """The conditions, other than the artifact, that determine a number."""

    runtime: str = Field(description="Name and version of the runtime.")
    reference: bool = Field(
        default=False,
        description="Whether a slow and exact reference executed it instead of the device's "
        "runtime.",
    )
    threads: int = Field(
        description="Threads that one run used; an upper bound for Core ML, which does not report "
        "it."
    )
    cpu: str = Field(description="The processor, by the system's name.")
    system: str = Field(description="Operating system and release.")
    load_average: float | None = Field(
        description="Runnable processes in the minute before the pass (load average); null if the "
        "system has no such number."
    )
    cpus: int | None = Field(default=None, description="CPUs of the machine; null if unknown.")
    others: float | None = Field(
        default=None,
        description="CPUs kept busy by other processes while runs were timed, on average; null "
        "for a pass without times.",
    )
    megahertz: tuple[float, float] | None = Field(
        default=None,
        description="The lowest and the highest CPU frequency read while runs were timed; null if "
        "the system does not report it.",
    )
    effort: Effort = Field(
        description="quick: at most 128 runs and 10 s. full: at least 1024 runs and 60 s. For "
        "language models, a run is a text: quick at least 6, full at least 64 and 60 s. Then "
        "more if a time budget needs more."
    )
    inputs: str = Field(description="The inputs, e.g. 'sequence length 128, batch 1'.")
    instructions: str = Field(
        default="",
        description="The instruction sets that the runtime reports to be built for; empty if it "
        "chooses its kernels at run time.",
    )
    prepared: bool = Field(description="Whether weights were mapped from a copy packed for the CPU")
    warnings: tuple[str, ...] = Field(
        description="Warnings of the loader, and of runtimes that have another version there."
    )


class Quantile(Frozen):
    """A quantile of the times of single runs with its 95 % confidence interval."""

    seconds: float = Field(description="The order statistic at the quantile, in seconds.")
    low_seconds: float = Field(description="Lower end of the interval; 0 with too few samples.")
    high_seconds: float | None = Field(
        description="Upper end of the interval; null if the samples are too few to bound it."
    )


class Loading(Frozen):
    """Times to open an artifact, in a fresh process."""

    load_seconds: float = Field(
        description="Time to open the artifact: verify, map and set up (Core ML: compile), its "
        "files in the page cache."
    )
    compiled_load_seconds: float | None = Field(
        default=None,
        description="Core ML: time to reopen the compiled model, as in an app that ships it "
        "compiled; null for others.",
    )


class Latency(Loading):
    """Times of single runs in a fresh process, after warm-up."""

    warmup_runs: int = Field(description="Number of warm-up runs.")
    runs: int = Field(description="Number of runs after warm-up, timed or not.")
    looks: tuple[int, ...] = Field(
        default=(),
        description="Sample sizes at which the budgets were tested; the intervals allow for "
        "repeated tests.",
    )
    samples_seconds: tuple[float, ...] = Field(
        description="The time of every timed run, in order. If runs are very short, only every "
        "n-th is timed."
    )
    p50: Quantile = Field(description="The median.")
    p90: Quantile = Field(description="The time that 90 % of the runs stayed within.")
    p99: Quantile | None = Field(
        description="The 99 % quantile; null with fewer than 1000 samples."
    )
    conditions: Conditions


class Rate(Frozen):
    """Tokens per second with its 95 % confidence interval."""

    tokens_per_second: float = Field(description="At the median of the times.")
    low_tokens_per_second: float = Field(
        description="Lower end of the interval; 0 with too few samples."
    )
    high_tokens_per_second: float | None = Field(
        description="Upper end of the interval; null if the samples are too few to bound it."
    )


class Moment(Frozen):
    """A short part of a run without a pause."""

    end_seconds: float = Field(description="Its end, from the beginning of the run.")
    tokens: int = Field(description="Tokens generated in it, first ones of texts left out.")
    seconds: float = Field(description="The time they took, without reading prompts.")
    megahertz: float | None = Field(
        default=None, description="The lowest CPU frequency seen in it; null if not reported."
    )
    celsius: float | None = Field(
        default=None, description="The highest temperature seen in it; null if not reported."
    )


class Sustained(Frozen):
    """Text after text without a pause, in five parts of equal length."""

    seconds: float = Field(description="How long.")
    moments: tuple[Moment, ...] = Field(description="The run in order, in sixty steps.")
    first: Rate = Field(description="The median of the first part.")
    slowest: Rate = Field(description="The median of the part with the lowest.")
    slowest_part: int = Field(description="Which part that is, from 1 to 5.")


class Generation(Loading):
    """Times of a language model in a fresh process: a prompt, then tokens, text after text."""

    prompt_tokens: int = Field(description="Tokens in the prompt of each text.")
    generated_tokens: int = Field(description="Tokens generated after the first in each text.")
    texts: int = Field(description="Texts timed, after a warm-up of one text and several prompts.")
    looks: tuple[int, ...] = Field(
        default=(),
        description="Numbers of prompts at which the budgets for the first token were tested; the "
        "intervals allow for repeated tests.",
    )
    text_looks: tuple[int, ...] = Field(
        default=(), description="The same for texts and the budget for generation."
    )
    first_token_seconds: tuple[float, ...] = Field(
        description="The time from a prompt, as tokens, to the first generated one: of each text, "
        "then of prompts alone if a budget needs more."
    )
    token_seconds: tuple[float, ...] = Field(
        description="The time of every further token, text after text, in order."
    )
    first_token_p50: Quantile
    first_token_p90: Quantile
    token_p50: Quantile
    token_p90: Quantile
    prompt_speed: Rate = Field(description="Prompt tokens divided by the time to the first token.")
    generation_speed: Rate = Field(description="Further tokens of a text divided by their time.")
    sustained: Sustained | None = Field(
        default=None, description="A run without a pause; null unless a budget asks for it."
    )
    conditions: Conditions


class MemoryReading(Frozen):
    """Memory of a process at one moment, in bytes."""

    resident_bytes: int = Field(description="Pages in memory, of any kind.")
    anonymous_bytes: int = Field(
        description="Memory that cannot be dropped: RssAnon (Linux), phys_footprint (macOS), "
        "private bytes (Windows)."
    )
    file_mapped_bytes: int | None = Field(
        description="Mapped pages of files, which the system can drop and read again; null if the "
        "system does not report them."
    )


class MemoryFigures(Frozen):
    """Memory of a fresh process that loads the artifact and runs it, in bytes."""

    baseline: MemoryReading = Field(description="After importing the runtime, before loading.")
    loaded: MemoryReading = Field(description="After loading.")
    ran: MemoryReading = Field(description="After the last run.")
    with_tokenizer: MemoryReading = Field(
        description="After also opening the tokenizer, if the model has one."
    )
    high_water_bytes: int = Field(
        description="Peak resident memory, as the system counted it (VmHWM on Linux)."
    )
    anonymous_peak_bytes: int = Field(
        description="Peak of memory that could not be dropped while the model was loaded and run, "
        "without its tokenizer."
    )
    runs: int = Field(description="Number of runs after loading; for a language model, tokens.")
    context: int | None = Field(
        default=None,
        description="Positions of a language model's cache, allocated and filled; null for others.",
    )
    cache_bytes: int | None = Field(
        default=None, description="The KV cache of those positions, included in `ran`."
    )


class Memory(MemoryFigures):
    """Memory of a fresh process that loads the artifact and runs it, in bytes."""

    conditions: Conditions

    @property
    def high_water_growth_bytes(self) -> int:
        """Increase of resident memory over the baseline by loading and running."""
        return self.high_water_bytes - self.baseline.resident_bytes

    @property
    def anonymous_growth_bytes(self) -> int:
        """Increase of memory that cannot be dropped by loading and running the model."""
        return self.anonymous_peak_bytes - self.baseline.anonymous_bytes

    @property
    def footprint_bytes(self) -> int:
        """Peak of memory that could not be dropped, including the tokenizer."""
        return max(self.anonymous_peak_bytes, self.with_tokenizer.anonymous_bytes)


class OutputQuality(Frozen):
    """Distance of one output from the full-precision model's, over all evaluation samples.

    Intervals come from resampling the different samples; null with fewer than 20.
    """

    samples: int = Field(description="Samples compared.")
    distinct: int = Field(
        description="Different samples among them, by the full-precision output; repeated samples "
        "add no information."
    )
    cosine_mean: float = Field(description="Mean over the samples of the cosine of both outputs.")
    cosine_mean_bounds: Bounds | None
    cosine_low: float = Field(description="The cosine that 1 % of the samples do not exceed.")
    cosine_min: float = Field(description="The worst sample's cosine.")
    relative_rms_error: float | None = Field(
        description="‖a−b‖/‖b‖ over all samples together, b full precision; null if b is zero."
    )
    relative_rms_error_bounds: Bounds | None
    max_absolute_error: float = Field(description="The largest difference of two values.")
    top1_agreement: float | None = Field(
        description="Share of rows whose largest value stays at the same index; null unless the "
        "output looks like logits (rows of at least two floats)."
    )
    top1_bounds: Bounds | None = Field(description="Wilson's interval of that share.")


class Score(Frozen):
    """A metric of the artifact's answers, from different samples."""

    value: float
    bounds: Bounds | None = Field(description="Its interval; null with fewer than 20 samples.")
    original: float | None = Field(
        default=None, description="The original's; null for what compares the two."
    )
    samples: int = Field(description="Different samples that it was taken from.")
    noun: str = Field(default="", description="What the samples are.")


class Changed(Frozen):
    """A sample that got other labels than the original gives it."""

    text: str = Field(description="The text, or the name of the image's file.")
    was: tuple[str, ...] = Field(description="By the original.")
    now: tuple[str, ...]


class Confused(Frozen):
    """Samples of one label that get another."""

    right: str = Field(description="The right label.")
    given: str = Field(description="The label they get.")
    count: int = Field(description="How many, by the artifact.")
    original_count: int = Field(description="How many, by the original.")


class Box(Frozen):
    """An object that was found; box: left, top, right and bottom in pixels of the image."""

    label: str
    score: float
    box: tuple[float, float, float, float]


class Redrawn(Frozen):
    """An image on which other objects are found than by the original."""

    image: str = Field(description="The name of its file.")
    height: int
    width: int
    was: tuple[Box, ...] = Field(description="By the original.")
    now: tuple[Box, ...]


class Quality(Frozen):
    """Distance from the full-precision model on data not used for calibration."""

    outputs: dict[str, OutputQuality] = Field(description="Distances by output name.")
    spearman: float | None = Field(
        description="Correlation × 100 of the cosine of each pair with the scores of the "
        "evaluation data; null without scores."
    )
    spearman_bounds: Bounds | None = Field(description="Its interval, from resampling the pairs.")
    float_spearman: float | None = Field(description="The same for the full-precision model.")
    neighbours: Neighbours | None = Field(
        default=None,
        description="Nearest texts before and after; null for models that embed no texts.",
    )
    scores: dict[str, Score] = Field(
        default_factory=dict, description="By name of the metric, of those that the task has."
    )
    changed: tuple[Changed, ...] = Field(
        default=(), description="Some texts of a classifier that got other labels."
    )
    confused: tuple[Confused, ...] = Field(
        default=(),
        description="Classifiers with right labels: what is mistaken for what, most first.",
    )
    redrawn: tuple[Redrawn, ...] = Field(
        default=(), description="Some images of a detector that got other boxes."
    )
    conditions: Conditions

    @property
    def nearness(self) -> float:
        """The cosine of the worst output, or the agreement of answers whose number varies."""
        cosines = [output.cosine_mean for output in self.outputs.values()]
        agreement = self.scores.get("agreement")
        return min(cosines) if cosines else agreement.value if agreement else float("-inf")


class LanguageQuality(Frozen):
    """Distance of a language model from full precision on text not used for calibration."""

    divergence: Divergence
    scores: dict[str, Score] = Field(
        default_factory=dict, description="By name of the metric: of questions, if there are any."
    )
    conditions: Conditions


class UnitShares(Frozen):
    """Shares of the units that can run a model; together 1."""

    cpu: float
    gpu: float
    npu: float = Field(description="Share of the Neural Engine.")


class OperatorPlacement(Frozen):
    """Where Core ML plans to run a model's operators: its compute plan on this machine."""

    compute_units: ComputeUnits = Field(description="Units that Core ML may use.")
    operators: int = Field(description="Number of operators in the plan, without constants.")
    share: UnitShares = Field(description="Shares of the operators.")
    cost: UnitShares | None = Field(
        description="Shares of Core ML's cost estimate; null if it gives none."
    )


class Placement(OperatorPlacement):
    """Where Core ML plans to run a model's operators: its compute plan on this machine."""

    conditions: Conditions


class Measurement(Frozen):
    """All measurements of one artifact on one machine.

    A pass that failed or could not run is null, with its reason.
    """

    artifact: str = Field(description="Name of the artifact.")
    format: str = Field(description="Its file format.")
    artifact_sha256: str = Field(description="SHA-256 of its artifact.json, which seals all files.")
    download_bytes: int = Field(description="Size of all its files.")
    weight_bytes: int = Field(description="Size of the weights alone.")
    reference: str = Field(default="", description="The quality reference: names and versions.")
    proof: str = Field(
        default="", description="How the float model was compared with the original."
    )
    memory: Memory | None = None
    latency: Latency | None = None
    generation: Generation | None = Field(
        default=None, description="The latency pass of a language model."
    )
    quality: Quality | None = None
    language: LanguageQuality | None = Field(
        default=None, description="The quality pass of a language model."
    )
    placement: Placement | None = Field(
        default=None, description="Core ML's compute plan, from the latency pass."
    )
    absent: dict[Pass, str] = Field(
        default_factory=dict,
        description="Why passes were not run: the machine cannot run them.",
    )
    failures: dict[Pass, str] = Field(
        default_factory=dict, description="Why passes have no result, by name of the pass."
    )
