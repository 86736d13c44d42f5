"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def complete_device(incomplete: str) -> list[str]:
    """Device ids for a shell's completion."""
    from edgeq.devices.catalogue import HERE, device_ids

    return [id for id in (HERE, *device_ids()) if id.startswith(incomplete)]


def devices_option(default: str) -> Any:
    """`--device`, any number of times. default: which devices those are without it."""
    return typer.Option(
        "--device",
        help=f"A device id or file, or 'here'; may be repeated. Default: {default}",
        autocompletion=complete_device,
    )


Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
OneDevice = Annotated[
    str, typer.Option(help="A device id or file, or 'here'.", autocompletion=complete_device)
]
On = Annotated[
    str | None,
    typer.Option(
        help="Where to run: ssh://user@host[:port], adb[:serial], emulate or here. "
        "Default: as the device's profile says. Without --device, that machine is checked."
    ),
]
