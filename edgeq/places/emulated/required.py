"""Required stand-ins: `EDGEQ_REQUIRE` names them, comma-separated.

Without it, figures without a stand-in are `not run`, and tests are skipped. On a build server that
should have them all, a missing one is a failure.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable

from edgeq.core.errors import InvalidInput, Missing, Problem
from edgeq.places.emulated import arm_place, qemu, x86_place
from edgeq.places.limits import run
from edgeq.places.limits.run import GroupLimiter

VARIABLE = "EDGEQ_REQUIRE"


def _no_group() -> str | None:
    found = run.available()
    if isinstance(found, GroupLimiter):
        return None
    return found if isinstance(found, str) else f"memory is limited by {found.mechanism} here"


def _no_mask() -> str | None:
    # The oldest class: obstacles to hiding all that it lacks apply to every class.
    return x86_place.available("sse4")


def _no_x86_emulator() -> str | None:
    found = qemu.find_qemu("x86_64")
    return None if found else "no qemu-x86_64 here: edgeq emulate arm64 downloads one"


def _no_ssh() -> str | None:
    found = importlib.util.find_spec("asyncssh")
    return None if found else 'asyncssh is not installed: pip install ".[ssh]"'


def _no_adb() -> str | None:
    return None if shutil.which("adb") else "adb, of Android's platform tools, is not on PATH"


STAND_INS: dict[str, Callable[[], str | None]] = {
    "arm64": arm_place.available,
    "x86-mask": _no_mask,
    "qemu-x86_64": _no_x86_emulator,
    "cgroup": _no_group,
    "ssh": _no_ssh,
    "adb": _no_adb,
}
"""Why each is not available here, None if it is; by its name in the variable."""


def required() -> frozenset[str]:
    """The stand-ins in `EDGEQ_REQUIRE`. Raises InvalidInput for a name not in `STAND_INS`."""
    words = [word.strip() for word in os.environ.get(VARIABLE, "").split(",")]
    unknown = [word for word in words if word and word not in STAND_INS]
    if unknown:
        known = f"known are: {', '.join(STAND_INS)}"
        raise InvalidInput(
            Problem(VARIABLE, f"{word!r} is not a stand-in", known) for word in unknown
        )
    return frozenset(filter(None, words))


def require_stand_ins() -> None:
    """Raise Missing, with the reasons, if a required stand-in is not available."""
    reasons = {word: STAND_INS[word]() for word in sorted(required())}
    problems = [
        Problem(f"{VARIABLE}: {word}", reason) for word, reason in reasons.items() if reason
    ]
    if problems:
        raise Missing(problems)
