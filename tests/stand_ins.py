"""Which stand-ins tests may use: those that are there, and those that `EDGEQ_REQUIRE` names."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.conftest import USERS_CACHE


@contextlib.contextmanager
def users_cache() -> Iterator[None]:
    """Let emulators be found where `edgeq emulate arm64` put them."""
    with pytest.MonkeyPatch.context() as patch:
        if USERS_CACHE is None:
            patch.delenv("EDGEQ_CACHE")
        else:
            patch.setenv("EDGEQ_CACHE", USERS_CACHE)
        yield


def required(name: str) -> bool:
    """Whether `EDGEQ_REQUIRE` (names with commas between) says that `name` must be had here."""
    return name in os.environ.get("EDGEQ_REQUIRE", "").split(",")


def need(name: str, reason: str | None) -> None:
    """Skip with `reason` if there is one; fail where `name` is required."""
    if reason is not None:
        (pytest.fail if required(name) else pytest.skip)(reason)


def need_arm() -> None:
    """Skip unless the Arm system is set up; set it up where `arm64` is required.

    In the user's cache: call it inside `users_cache`.
    """
    from edgeq.emulate import arm_place
    from edgeq.emulate.arm import set_up_arm

    if required("arm64"):
        set_up_arm(print)
    need("arm64", arm_place.available())
