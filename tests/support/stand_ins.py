"""Which stand-ins tests may use: those that are there; `EDGEQ_REQUIRE` names what must be."""

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


def need(reason: str | None) -> None:
    """Skip with `reason` if there is one; where it was required, the session has not begun."""
    if reason is not None:
        pytest.skip(reason)


def need_arm() -> None:
    """Skip unless the Arm system is set up in the user's cache: call it inside `users_cache`."""
    from edgeq.places.emulated import arm_place

    need(arm_place.available())


def require_stand_ins() -> None:
    """End the session where `EDGEQ_REQUIRE` names what is unknown or cannot be had here.

    The Arm system is set up first, where that is required. What tests start is required nothing:
    it has a cache of its own, without emulators.
    """
    if "EDGEQ_REQUIRE" not in os.environ:
        return
    from edgeq.core.errors import EdgeqError
    from edgeq.places.emulated import required
    from edgeq.places.emulated.arm import set_up_arm

    try:
        with users_cache():
            if "arm64" in required.required():
                set_up_arm(print)
            required.require_stand_ins()
    except EdgeqError as error:
        pytest.exit(str(error), returncode=error.exit_code)
    del os.environ["EDGEQ_REQUIRE"]
