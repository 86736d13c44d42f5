"""How a recipe states a budget instead of number formats."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edgeq.core.artifact import Frozen
from edgeq.core.units import MIB, Bytes, Seconds, TokensPerSecond
from edgeq.quantize.methods.gptq import GPTQ
from edgeq.quantize.name import Name
from edgeq.quantize.recover_spec import RecoverSpec


class FitQuality(Frozen):
    """Maximum distance from full precision, on calibration data that rounding does not use."""

    kl: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Language models: upper bound of the mean KL divergence, in nats.",
        examples=[0.02],
    )
    cosine: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Other models: lower bound of the mean cosine of the outputs.",
        examples=[0.99],
    )


class FitSpec(Frozen):
    """A budget instead of bits: every tensor gets the number format that is best for the whole.

    With `quality`, the smallest file that keeps it and all other bounds; without, the best that
    fits.
    """

    name: Name | None = Field(
        default=None,
        description="The artifact is named <format>-<name>; by default, the name is derived from "
        "the budget.",
        examples=["fit-phone"],
    )
    size: Bytes | None = Field(
        default=None, description="Upper bound for all files together.", examples=["4.2 MiB"]
    )
    memory: Bytes | None = Field(
        default=None,
        description="Upper bound of a process's estimated memory on each of the devices.",
        examples=["64 MiB"],
    )
    latency: Seconds | None = Field(
        default=None,
        description="Upper bound of the estimated time of one run, or of a language model's first "
        "token, on each of the devices.",
        examples=["40 ms"],
    )
    speed: TokensPerSecond | None = Field(
        default=None,
        description="Language models: lower bound of the estimated generation speed on each "
        "device.",
        examples=["20 tok/s"],
    )
    quality: FitQuality = Field(
        default=FitQuality(), description="The quality to keep; the smallest file with it is built."
    )
    recover: RecoverSpec | None = Field(
        default=None,
        description="Language models in GGUF and ONNX: spend a part of the bytes on a low-rank "
        "adapter, trained on top of the weights that are chosen for the rest.",
        examples=[{"rank": 4}],
    )
    method: Literal["gptq", "learned"] = Field(
        default="gptq",
        description="How the weights of the file that is kept are rounded; trials are by GPTQ.",
        examples=["learned"],
    )
    trials: int = Field(
        default=3, ge=1, description="Maximum number of whole models that are built and measured."
    )
    minutes: float = Field(
        default=10,
        gt=0,
        allow_inf_nan=False,
        description="No further trial begins after this many minutes.",
    )

    @property
    def limit(self) -> float | None:
        """The largest loss, a KL divergence or 1 − cosine; None where quality has no bound."""
        cosine = self.quality.cosine
        return self.quality.kl or (None if cosine is None else 1 - cosine)

    @property
    def bounds(self) -> dict[str, str]:
        """The bounds, by their names in a recipe, in short form."""
        sizes = {"size": self.size, "memory": self.memory}
        found = {key: f"{value / MIB:.6g}mib" for key, value in sizes.items() if value}
        if self.latency:
            found["latency"] = f"{self.latency * 1000:.6g}ms"
        if self.speed:
            found["speed"] = f"{self.speed:.6g}tps"
        if self.quality.kl:
            found["kl"] = f"{self.quality.kl:g}"
        if self.quality.cosine:
            found["cosine"] = f"{self.quality.cosine:g}"
        return found

    @property
    def variant_name(self) -> str:
        """`fit-4.2mib`, `fit-kl-0.02`, or the recipe's own name."""
        if self.name:
            return self.name
        parts = [v if k == "size" else f"{k}-{v}" for k, v in self.bounds.items()]
        parts += [] if self.method == GPTQ.name else [self.method]
        parts += [f"recover{self.recover.rank}"] if self.recover else []
        return "-".join(("fit", *parts)).replace("+", "")

    def reduced_by(self, taken: int) -> FitSpec:
        """The budget left for weights next to an adapter of `taken` bytes."""
        left = {
            "size": self.size and max(1, self.size - taken),
            "memory": self.memory and max(1, self.memory - taken),
        }
        return self.model_copy(update={**left, "name": self.variant_name, "recover": None})
