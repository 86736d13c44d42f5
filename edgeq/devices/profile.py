"""Facts about a device: the schema of `devices/*.yaml`, each fact with its source."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from edgeq.core.artifact import Frozen
from edgeq.core.errors import InvalidInput, Problem
from edgeq.core.terms import Arch
from edgeq.core.units import Bytes, BytesPerSecond
from edgeq.core.validation_messages import refuse, suggest
from edgeq.devices.address import parse_address
from edgeq.devices.compute_units import ALLOWED, ComputeUnits, Suited, Unit, WeightFormat
from edgeq.quantize.storage import Format

Kind = Literal["laptop", "board", "phone", "tablet", "computer"]
System = Literal["linux", "windows", "macos", "ios", "android"]
X86Set = Literal[
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512", "avx512_vnni", "avx512_bf16", "avx_vnni"
]
ArmSet = Literal["neon", "fp16", "dotprod", "i8mm", "bf16", "sve", "sve2", "sme"]
InstructionSet = Literal[X86Set, ArmSet]
Entitlement = Literal["none", "increased-memory-limit"]
Basis = Literal["read", "measured", "rule of thumb"]
"""How a limit is known: read from the machine, measured, or a rule of thumb."""

_WORDS = {"x86_64": get_args(X86Set), "aarch64": get_args(ArmSet)}
# How we use a device rather than a fact about it, so no source is required.
_NOT_FACTS = {"id", "name", "kind", "reach", "compute_units"}
_APPLE: tuple[System, ...] = ("ios", "macos")
_BOUND = re.compile(r"\s*(>=|<)\s*(\d+(?:\.\d+)*)\s*")


def _check_range(value: Any) -> Any:
    if isinstance(value, str) and value != "any":
        for bound in value.split(","):
            if not _BOUND.fullmatch(bound):
                what = f"{value!r} is not a range of versions"
                raise refuse(what, "write 'any', '>=18', '<17' or '>=17,<18'")
    return value


VersionRange = Annotated[str, BeforeValidator(_check_range)]
"""Versions of an operating system: `any`, or bounds that must all hold, e.g. `>=17,<18`."""


def _check_reach(value: str) -> str:
    parse_address(value)
    return value


Reach = Annotated[str, AfterValidator(_check_reach)]
"""The address of a device, for `edgeq.devices.address.parse_address`."""

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


def in_range(version: str, versions: str) -> bool:
    """Whether the leading numbers of `version` lie in a `VersionRange`.

    >>> in_range("17.5", ">=17,<18"), in_range("18", "<18"), in_range("6.12-rpi", ">=6.2")
    (True, False, True)
    """
    if versions == "any":
        return True
    for bound in versions.split(","):
        sign, limit = _BOUND.fullmatch(bound).groups()  # type: ignore[union-attr]
        if (_numbers(version) >= _numbers(limit)) != (sign == ">="):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    leading = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in leading.group().split(".")] if leading else []
    while numbers and numbers[-1] == 0:  # 18 and 18.0 are the same release
        numbers.pop()
    return tuple(numbers)


class Note(Frozen):
    """The source of a fact."""

    text: Text = Field(description="Who states it, and the exact statement.")
    url: str | None = Field(
        default=None, pattern=r"^https?://", description="Where it is published, if anywhere."
    )


class Cores(Frozen):
    """Physical cores by kind, and the hardware threads they run together if that is more."""

    performance: int = Field(
        ge=1, description="Number of cores of the fastest kinds.", examples=[4]
    )
    efficiency: int = Field(default=0, ge=0, description="Number of efficiency cores.")
    threads: int | None = Field(
        default=None, ge=1, description="Number of hardware threads of all cores."
    )


class AppMemory(Frozen):
    """Memory that one app may use under some releases of the system."""

    os: VersionRange = Field(description="Releases that this applies to.", examples=[">=18"])
    entitlement: Entitlement = Field(
        default="none", description="The entitlement that the app must have."
    )
    limit: Bytes = Field(description="Memory that the system lets one app use.", examples=["3 GiB"])
    basis: Basis = Field(description="How the limit is known.", examples=["measured"])


class AppLimit(Frozen):
    """Memory that one app may use on a device, in bytes, and the conditions."""

    bytes: Bytes = Field(description="The limit in bytes.")
    os: str = Field(description="The assumed system and release.")
    entitlement: Entitlement = Field(description="The entitlement that the app must have.")
    basis: Basis = Field(description="How the limit is known.")


class Device(Frozen):
    """Facts about a device. Sizes in bytes, bandwidth in bytes per second; missing facts are
    unknown.
    """

    id: Id = Field(description="The name of the file without '.yaml'.", examples=["pi5-8gb"])
    name: Text = Field(description="Display name.", examples=["Raspberry Pi 5, 8 GB"])
    kind: Kind = Field(description="Kind of device.", examples=["board"])
    chip: Text = Field(description="The processor, by its maker's name.")
    arch: Arch = Field(description="Architecture of its programs.", examples=["aarch64"])
    instruction_sets: tuple[InstructionSet, ...] = Field(
        default=(), description="Known instruction set extensions that kernels use."
    )
    cores: Cores = Field(description="Physical cores.")
    ram: Bytes = Field(description="Total memory of the device.", examples=["8 GiB"])
    memory_bandwidth: BytesPerSecond | None = Field(
        default=None, description="Peak memory bandwidth.", examples=["17.1 GB/s"]
    )
    os: System = Field(description="The operating system.", examples=["linux"])
    os_version: Text = Field(description="The assumed release.", examples=["12"])
    app_memory: tuple[AppMemory, ...] = Field(
        min_length=1, description="Memory that one app may use, by release and entitlement."
    )
    counts: Literal["high-water", "footprint"] = Field(
        description="What the system counts against the limit. high-water: all resident pages. "
        "footprint: dirty and compressed pages, not clean mapped files."
    )
    gpu_memory: Bytes | None = Field(
        default=None, description="Share of the memory that the GPU may use."
    )
    accelerators: tuple[Literal["gpu", "npu"], ...] = Field(
        default=(), description="Units other than the CPU that can run models."
    )
    runtimes: tuple[Format, ...] = Field(
        min_length=1, description="File formats with a runtime for this device."
    )
    reach: Reach | None = Field(
        default=None,
        description="How to run on it: here, ssh://user@host[:port], adb[:serial] or emulate (on "
        "a stand-in). ssh and adb accept ?python=/path and ?directory=/path, both paths on "
        "the device. Without it, nothing runs there.",
        examples=["ssh://pi@pi5.local"],
    )
    compute_units: ComputeUnits | None = Field(
        default=None,
        validate_default=True,
        description="Compute units for Core ML, on Apple's systems only; all by default.",
    )
    suits: dict[Unit, tuple[Suited, ...]] = Field(
        default={},
        description="Number formats that a unit runs well; float32 if it can compute in it.",
        examples=[{"gpu": ["float32", "float16", "int4-b32"], "npu": ["float16", "int8"]}],
    )
    advice: dict[WeightFormat, Text] = Field(default={}, description="Remarks in a number format.")
    sources: dict[str, tuple[Note, ...]] = Field(description="The source of every fact.")

    @field_validator("instruction_sets")
    @classmethod
    def _check_words_fit_arch(cls, words: tuple[str, ...], info: ValidationInfo) -> Any:
        arch = info.data.get("arch")
        for word in words:
            if arch is not None and word not in _WORDS[arch]:
                raise refuse(f"{word!r} is not an extension of {arch}", suggest(word, _WORDS[arch]))
        return words

    @field_validator("app_memory")
    @classmethod
    def _check_one_limit(cls, limits: tuple[AppMemory, ...], info: ValidationInfo) -> Any:
        version = info.data.get("os_version")
        if version is None:
            return limits
        entitlements = [limit.entitlement for limit in limits if in_range(version, limit.os)]
        if "none" not in entitlements:
            what = f"no limit for release {version} without an entitlement"
            raise refuse(what, "add one whose 'os' includes it, with 'entitlement: none'")
        if len(entitlements) != len(set(entitlements)):
            what = f"two limits for release {version} with the same entitlement"
            raise refuse(what, "make their 'os' ranges disjoint")
        return limits

    @field_validator("compute_units")
    @classmethod
    def _check_core_ml(cls, units: ComputeUnits | None, info: ValidationInfo) -> Any:
        system = info.data.get("os")
        if system in _APPLE:
            return units or "all"
        if units is not None and system is not None:
            raise refuse(f"Core ML does not exist on {system}", "remove it")
        return units

    @field_validator("suits")
    @classmethod
    def _check_units_are_there(
        cls, suits: dict[Unit, tuple[Suited, ...]], info: ValidationInfo
    ) -> Any:
        there = ("cpu", *info.data.get("accelerators", ()))
        for unit in suits:
            if unit not in there:
                what = f"{unit!r} is not among its accelerators"
                raise refuse(what, f"it has: {', '.join(there)}")
        return suits

    @field_validator("sources")
    @classmethod
    def _check_sourced(
        cls, sources: dict[str, tuple[Note, ...]], info: ValidationInfo
    ) -> dict[str, tuple[Note, ...]]:
        facts = [name for name in cls.model_fields if name not in _NOT_FACTS | {"sources"}]
        for name in sources:
            if name not in facts:
                raise refuse(f"{name!r} is not a fact of a device", suggest(name, facts))
        without = [name for name in facts if info.data.get(name) and not sources.get(name)]
        if without:
            what = f"no source for {', '.join(without)}"
            raise refuse(what, "name the source: {text: …, url: …}, or remove the fact")
        return sources

    def app_limit(self, entitlement: Entitlement = "none") -> AppLimit:
        """Memory that one app may use under the assumed release.

        Raises InvalidInput if nothing is known for `entitlement`; `none` is always known.
        """
        for known in self.app_memory:
            if known.entitlement == entitlement and in_range(self.os_version, known.os):
                return AppLimit(
                    bytes=known.limit,
                    os=f"{self.os} {self.os_version}",
                    entitlement=entitlement,
                    basis=known.basis,
                )
        what = f"no limit is known for {self.os} {self.os_version} with {entitlement!r}"
        raise InvalidInput(Problem(self.id, what, "add it to 'app_memory' with its source"))

    @property
    def usable_units(self) -> tuple[Unit, ...]:
        """Units that Core ML may use: those that `compute_units` allows."""
        allowed = ALLOWED[self.compute_units or "cpu_only"]
        return tuple(unit for unit in ("cpu", *self.accelerators) if unit in allowed)


# Text that makers and systems add to the name of the same chip.
_DECORATION = re.compile(
    r"\((?:r|tm)\)|[®™]|\b\d+th gen\b|\bcpu\b|\bprocessor\b|\b\d+-core\b"
    r"|@.*$|\bwith radeon.*$|\bw/ radeon.*$",
    re.IGNORECASE,
)
# A kernel reports less than is installed: firmware and graphics reserve some. Below this fraction,
# it is a machine with less memory.
_LEAST_VISIBLE_RAM = 0.85


def same_chip(one: str, other: str) -> bool:
    """Whether two names mean the same chip; an unknown name equals nothing.

    >>> same_chip("12th Gen Intel(R) Core(TM) i5-1235U", "Intel Core i5-1235U")
    True
    """
    plain = [" ".join(_DECORATION.sub(" ", name).casefold().split()) for name in (one, other)]
    return plain[0] == plain[1] and plain[0] != "unknown"


def matches(profile: Device, here: Device) -> bool:
    """Whether the machine `here` qualifies as the device of `profile`.

    The chip must be the same and the memory of the same class. All instruction sets must be
    present: a virtual machine may show the chip's name and hide some.
    """
    return (
        profile.arch == here.arch
        and same_chip(profile.chip, here.chip)
        and _LEAST_VISIBLE_RAM * profile.ram <= here.ram <= profile.ram
        and (here.os == "windows" or set(profile.instruction_sets) <= set(here.instruction_sets))
    )
