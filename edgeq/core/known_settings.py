"""Settings that a record may make: every entry that reaches a runtime or a source file.

Records are untrusted. onnxruntime alone has entries that read any file of the device
(`session.model_external_initializers_file_folder_path`), write one or load code, so only the
entries listed here are passed on, and a record with anything else is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, FiniteFloat, model_validator

from edgeq.core.frozen import Frozen
from edgeq.core.kv_cache import KvType

SESSION_KEY = "session"
"""In an artifact's settings: onnxruntime session entries instead of this CPU's defaults."""

SESSION_BY_CPU_KEY = "session_by_cpu"
"""In an artifact's settings: session entries that make kernels exact, by class of CPU."""

STATE_KEY = "state"
"""In an artifact's settings: the output that becomes an input of the next step, by that input."""

KV_KEY = "kv"
"""In an artifact's settings: the type of the KV cache, if it is not its runtime's usual one."""

SAMPLE_KEY = "sample"
"""In an artifact's settings: shapes that a model of arrays runs on, and its integers', by input."""

_SWITCH = ("0", "1")
SESSION_ENTRIES: Mapping[str, tuple[str, ...]] = {
    "mlas.disable_kleidiai": _SWITCH,
    "mlas.qnbit.force_fp32": _SWITCH,
    "mlas.use_lut_gemm": _SWITCH,
    "session.disable_double_qdq_remover": _SWITCH,
    "session.disable_prepacking": _SWITCH,
    "session.disable_qdq_constant_folding": _SWITCH,
    "session.disable_quant_qdq": _SWITCH,
    "session.enable_quant_qdq_cleanup": _SWITCH,
    "session.intra_op.allow_spinning": _SWITCH,
    "session.qdqisint8allowed": _SWITCH,
    "session.set_denormal_as_zero": _SWITCH,
    "session.use_deterministic_compute": _SWITCH,
    "session.x64quantprecision": _SWITCH,
}
"""onnxruntime session entries that only change how it computes."""

X86_WITHOUT_VNNI, ARM64 = "x86_64-without-vnni", "aarch64"
SESSION_BY_CPU: Mapping[str, Mapping[str, str]] = {
    X86_WITHOUT_VNNI: {"session.x64quantprecision": "1"},
    ARM64: {"mlas.disable_kleidiai": "1"},
}
"""Session entries that make onnxruntime's kernels exact, by class of CPU.

On x86 without VNNI (neither avx512_vnni nor avx_vnni), products of uint8 and int8 saturate. On Arm,
the KleidiAI kernel for int4 weights loses a part of the output's magnitude.
"""

_MOST_VALUES = 1 << 26
_ByChannel = Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=4)]
_Release = Annotated[int, Field(ge=1, le=99, strict=True)]


class _Image(Frozen):
    input: str
    scale: _ByChannel
    bias: _ByChannel
    color: str


class KnownInput(Frozen):
    """An input of a sample that a model was run on: its shape; of integers, the first one."""

    shape: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=16)]
    integer: int | None = None

    @model_validator(mode="after")
    def _is_small(self) -> KnownInput:
        if math.prod(self.shape) > _MOST_VALUES:
            raise ValueError(f"settings.{SAMPLE_KEY}: an input has over {_MOST_VALUES} values")
        return self


class _DeploymentTarget(Frozen):
    ios: _Release
    macos: _Release


class _Known(Frozen):
    """What reaches a runtime or a source file; other keys are facts, which may be any."""

    model_config = ConfigDict(extra="ignore")

    image: _Image | None = None
    kv: KvType | None = None
    sample: dict[str, KnownInput] | None = None
    state: dict[str, str] | None = None
    deployment_target: _DeploymentTarget | None = None


def require_session_entries(entries: Any) -> Mapping[str, str]:
    """Return `entries` of an onnxruntime session; ValueError names a forbidden one."""
    if not isinstance(entries, Mapping):
        raise ValueError(f"settings.{SESSION_KEY} must be a mapping of names to strings")
    for name, value in entries.items():
        if name not in SESSION_ENTRIES:
            raise ValueError(f"settings.{SESSION_KEY} has {name!r}, which records must not set")
        if value not in SESSION_ENTRIES[name]:
            values = " or ".join(SESSION_ENTRIES[name])
            raise ValueError(f"settings.{SESSION_KEY}: {name} is {value!r}, it must be {values}")
    return entries


def require_known(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a record's `settings`; ValueError names unknown entries that would reach a runtime.

    Keys that only reports read are facts, and may be any.
    """
    if settings.get(SESSION_KEY) is not None:
        require_session_entries(settings[SESSION_KEY])
    _require_by_cpu(settings.get(SESSION_BY_CPU_KEY) or {})
    _Known.model_validate(settings)
    return settings


def _require_by_cpu(by_cpu: Any) -> None:
    if not isinstance(by_cpu, Mapping):
        raise ValueError(f"settings.{SESSION_BY_CPU_KEY} must be a mapping of classes of CPU")
    for name, entries in by_cpu.items():
        if name not in SESSION_BY_CPU:
            raise ValueError(
                f"settings.{SESSION_BY_CPU_KEY} has {name!r}, which is not a known class"
            )
        require_session_entries(entries)
