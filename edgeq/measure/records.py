"""What a measurement is: numbers with their units, and the conditions they were seen under."""

from __future__ import annotations

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.terms import Effort, Pass
from edgeq.devices.compute_units import ComputeUnits
from edgeq.measure.divergence import Divergence
from edgeq.measure.intervals import Bounds
from edgeq.measure.neighbours import Neighbours


class Conditions(Frozen):
    """What besides the artifact decides a number."""

    runtime: str = Field(description="Name and version of what executed the model.")
    reference: bool = Field(
        default=False,
        description="Whether something slow and exact executed it in place of the runtime that the "
        "device has.",
    )
    threads: int = Field(
        description="Threads that one run used; Core ML, which does not tell, takes no more."
    )
    cpu: str = Field(description="The processor, as the system names it.")
    system: str = Field(description="Operating system and release.")
    load_average: float | None = Field(
        description="Processes that wanted a CPU in the minute before the pass; null where the "
        "system keeps no such number."
    )
    cpus: int | None = Field(default=None, description="CPUs of the machine; null if unknown.")
    others: float | None = Field(
        default=None,
        description="CPUs that other processes kept busy while runs were timed, on average; null "
        "for a pass without times.",
    )
    megahertz: tuple[float, float] | None = Field(
        default=None,
        description="The lowest and the highest frequency of the CPU that was read while runs were "
        "timed; null where the system does not tell.",
    )
    effort: Effort = Field(
        description="quick: at most 128 runs and 10 s. full: at least 1024 runs and 60 s. Of "
        "language models, a run is a text: quick at least 6, full at least 64 and 60 s. Then more "
        "where a budget of time needs more."
    )
    inputs: str = Field(description="What was run, e.g. 'sequence length 128, batch 1'.")
    instructions: str = Field(
        default="",
        description="What the runtime says of the instruction sets it was built for; empty where "
        "it chooses its kernels by the CPU it finds.",
    )
    prepared: bool = Field(description="Whether weights were mapped from a copy packed for the CPU")
    warnings: tuple[str, ...] = Field(description="What the loader warned of.")


class Quantile(Frozen):
    """A quantile of the times of single runs with its 95 % confidence interval."""

    seconds: float = Field(description="The order statistic at the quantile, in seconds.")
    low_seconds: float = Field(description="Lower end of the interval; 0 with too few samples.")
    high_seconds: float | None = Field(
        description="Upper end of the interval; null where the samples are too few to bound it."
    )


class Latency(Frozen):
    """Times of single runs in a fresh process, after warm-up."""

    load_seconds: float = Field(
        description="Time to open the artifact: verify, map and set up (Core ML: compile), its "
        "files in the page cache."
    )
    compiled_load_seconds: float | None = Field(
        default=None,
        description="Core ML: time to open the compiled model again, as an app does that ships it "
        "compiled; null for others.",
    )
    warmup_runs: int = Field(description="Runs before the first that counts.")
    runs: int = Field(description="Runs after warm-up, timed or not.")
    looks: tuple[int, ...] = Field(
        default=(),
        description="How many samples there were each time it was asked whether the budgets are "
        "decided; the intervals allow for that.",
    )
    samples_seconds: tuple[float, ...] = Field(
        description="The time of every timed run, in order. Of very short runs only every n-th is "
        "timed."
    )
    p50: Quantile = Field(description="The median.")
    p90: Quantile = Field(description="90 % of the runs took no longer.")
    p99: Quantile | None = Field(description="Null with fewer than 1000 samples.")
    conditions: Conditions


class Rate(Frozen):
    """Tokens per second with its 95 % confidence interval."""

    tokens_per_second: float = Field(description="At the median of the times.")
    low_tokens_per_second: float = Field(
        description="Lower end of the interval; 0 with too few samples."
    )
    high_tokens_per_second: float | None = Field(
        description="Upper end of the interval; null where the samples are too few to bound it."
    )


class Generation(Frozen):
    """Times of a language model in a fresh process: a prompt, then tokens, text after text."""

    load_seconds: float = Field(
        description="Time to open the artifact: verify, map and set up (Core ML: compile), its "
        "files in the page cache."
    )
    compiled_load_seconds: float | None = Field(
        default=None,
        description="Core ML: time to open the compiled model again, as an app does that ships it "
        "compiled; null for others.",
    )
    prompt_tokens: int = Field(description="Tokens of the prompt that begins each text.")
    generated_tokens: int = Field(description="Tokens generated behind the first of each text.")
    texts: int = Field(description="Texts that were timed, after one and some prompts to warm up.")
    looks: tuple[int, ...] = Field(
        default=(),
        description="How many prompts there were each time it was asked whether the budgets of the "
        "first token are decided; the intervals allow for that.",
    )
    text_looks: tuple[int, ...] = Field(
        default=(), description="The same of texts, for the budget of generation."
    )
    first_token_seconds: tuple[float, ...] = Field(
        description="The time from a prompt, as tokens, to the first generated one: of each text, "
        "then of prompts alone where a budget needs more."
    )
    token_seconds: tuple[float, ...] = Field(
        description="The time of every further token, text after text, in order."
    )
    first_token_p50: Quantile
    first_token_p90: Quantile
    token_p50: Quantile
    token_p90: Quantile
    prompt_speed: Rate = Field(description="Prompt tokens by the time to the first token.")
    generation_speed: Rate = Field(description="Further tokens by the time they took, of a text.")
    conditions: Conditions


class MemoryReading(Frozen):
    """Memory of a process at one moment, in bytes."""

    resident_bytes: int = Field(description="Pages in memory, of any kind.")
    anonymous_bytes: int = Field(
        description="What cannot be dropped: RssAnon (Linux), phys_footprint (macOS), private "
        "bytes (Windows)."
    )
    file_mapped_bytes: int | None = Field(
        description="Mapped pages of files, which the system can drop and read again; null where "
        "the system does not tell."
    )


class Memory(Frozen):
    """Memory of a fresh process that loads the artifact and runs it, in bytes."""

    baseline: MemoryReading = Field(description="After importing the runtime, before loading.")
    loaded: MemoryReading = Field(description="After loading.")
    ran: MemoryReading = Field(description="After the last run.")
    with_tokenizer: MemoryReading = Field(
        description="After opening the tokenizer too, where the model has one."
    )
    high_water_bytes: int = Field(
        description="The most that was ever resident, as the system counted it (VmHWM on Linux)."
    )
    anonymous_peak_bytes: int = Field(
        description="The most that could not be dropped while the model was loaded and run, "
        "without its tokenizer."
    )
    runs: int = Field(description="Runs after loading; of a language model, tokens.")
    context: int | None = Field(
        default=None,
        description="Positions of a language model's cache, allocated and filled; null for others.",
    )
    cache_bytes: int | None = Field(
        default=None, description="Keys and values of those positions, part of all that ran."
    )
    conditions: Conditions

    @property
    def high_water_growth_bytes(self) -> int:
        """What loading and running added to the resident pages of the baseline."""
        return self.high_water_bytes - self.baseline.resident_bytes

    @property
    def anonymous_growth_bytes(self) -> int:
        """What loading and running the model added to what cannot be dropped."""
        return self.anonymous_peak_bytes - self.baseline.anonymous_bytes

    @property
    def footprint_bytes(self) -> int:
        """The most that could not be dropped, the tokenizer included."""
        return max(self.anonymous_peak_bytes, self.with_tokenizer.anonymous_bytes)


class OutputQuality(Frozen):
    """How near one output is to the full-precision model's, over all evaluation samples.

    Intervals come from resampling the different samples; null with fewer than 20.
    """

    samples: int = Field(description="Samples compared.")
    distinct: int = Field(
        description="Different samples among them, by the full-precision output; a repeated sample "
        "tells nothing new."
    )
    cosine_mean: float = Field(description="Mean over the samples of the cosine of both outputs.")
    cosine_mean_bounds: Bounds | None
    cosine_low: float = Field(description="The cosine that 1 % of the samples do not exceed.")
    cosine_min: float = Field(description="The worst sample's cosine.")
    relative_rms_error: float | None = Field(
        description="‖a−b‖/‖b‖ over all samples together, b full precision; null where b is zero."
    )
    relative_rms_error_bounds: Bounds | None
    max_absolute_error: float = Field(description="The largest difference of two values.")
    top1_agreement: float | None = Field(
        description="Share of rows whose largest value stays at its place; null unless the output "
        "looks like logits (rows of at least two floats)."
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


class Changed(Frozen):
    """A text that got other labels than the original gives it."""

    text: str
    was: tuple[str, ...] = Field(description="By the original.")
    now: tuple[str, ...]


class Quality(Frozen):
    """Distance from the full-precision model on data that calibration never saw."""

    outputs: dict[str, OutputQuality] = Field(description="By name of the output.")
    spearman: float | None = Field(
        description="Correlation × 100 of the cosine of each pair with the scores of the "
        "evaluation data; null without scores."
    )
    spearman_bounds: Bounds | None = Field(description="From resampling the pairs.")
    float_spearman: float | None = Field(description="The same for the full-precision model.")
    neighbours: Neighbours | None = Field(
        default=None, description="Nearest texts before and after; null for what embeds no texts."
    )
    scores: dict[str, Score] = Field(
        default_factory=dict, description="By name of the metric, of those that the task has."
    )
    changed: tuple[Changed, ...] = Field(
        default=(), description="Some texts of a classifier that got other labels."
    )
    conditions: Conditions


class LanguageQuality(Frozen):
    """Distance of a language model from full precision on text that calibration never saw."""

    divergence: Divergence
    conditions: Conditions


class UnitShares(Frozen):
    """Shares of the units that can run a model; together 1."""

    cpu: float
    gpu: float
    npu: float = Field(description="The Neural Engine.")


class Placement(Frozen):
    """Where Core ML means to run a model's operators: its compute plan on this machine."""

    compute_units: ComputeUnits = Field(description="What Core ML may use.")
    operators: int = Field(description="Operators in the plan; constants are none.")
    share: UnitShares = Field(description="Of the operators.")
    cost: UnitShares | None = Field(
        description="Of the cost that Core ML estimates of them; null where it gives none."
    )
    conditions: Conditions


class Measurement(Frozen):
    """All that was seen of one artifact on one machine.

    A pass that failed, or had nothing to run on, is null, with its reason.
    """

    artifact: str = Field(description="Name of the artifact.")
    format: str = Field(description="Its file format.")
    artifact_sha256: str = Field(description="SHA-256 of its artifact.json, which seals all files.")
    download_bytes: int = Field(description="Size of all its files.")
    weight_bytes: int = Field(description="Size of the weights alone.")
    reference: str = Field(
        default="", description="What quality was measured against: names and versions."
    )
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
        default=None, description="Core ML's compute plan, told by the latency pass."
    )
    absent: dict[Pass, str] = Field(
        default_factory=dict,
        description="Why a pass was not run: the machine has nothing to run it on.",
    )
    failures: dict[Pass, str] = Field(
        default_factory=dict, description="Why a pass has no result, by name of the pass."
    )
