"""Turn an address into a place: this machine, another one over SSH or adb, or a stand-in."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from pydantic_core import PydanticCustomError

from edgeq.core.errors import InvalidInput, Problem, missing_extra
from edgeq.core.terms import Progress
from edgeq.devices.address import Address, parse_address
from edgeq.places.adb import AdbPlace
from edgeq.places.place import Here, Place


def place_for(
    reach: str,
    emulated: Callable[[], Place] | None = None,
    progress: Progress = lambda _: None,
) -> Place:
    """The place for `reach`: `here`, `ssh://user@host[:port]`, `adb[:serial]`, `emulate`.

    `emulated` makes the stand-in for `emulate`, which depends on the device's CPU. `progress`
    reports long steps. Nothing is connected or started yet. Raises InvalidInput for text that is
    not an address and for `emulate` without a stand-in, Missing if a required client is not
    installed.
    """
    try:
        address = parse_address(reach)
    except PydanticCustomError as error:
        words = error.context or {}
        raise InvalidInput(Problem("reach", words["what"], words["remedy"])) from None
    if address.kind == "here":
        return Here()
    if address.kind == "emulate":
        if emulated is None:
            what = "'emulate' needs a device, whose CPU is then emulated"
            raise InvalidInput(Problem("reach", what, "name the device too: --device pi5-8gb"))
        return emulated()
    if address.kind == "ssh" and importlib.util.find_spec("asyncssh") is None:
        raise missing_extra("asyncssh", "ssh", f"reach {address.name}")
    if address.library is not None:
        return _runner_place(address, progress)
    if address.kind == "adb":
        return AdbPlace(address, progress)
    from edgeq.places.ssh import SshPlace

    return SshPlace(address, progress)


def _runner_place(address: Address, progress: Progress) -> Place:
    from edgeq.places.runner.place import RunnerPlace

    if address.kind == "adb":
        from edgeq.places.runner.shell import AdbShell

        return RunnerPlace(AdbShell(address, progress), progress)
    from edgeq.places.runner.ssh_shell import SshShell

    return RunnerPlace(SshShell(address, progress), progress)
