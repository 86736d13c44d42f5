"""The commands about CPUs that are not this machine's; `edgeq.cli.main` joins them to the rest."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgeq.cli.exit import print_json
from edgeq.cli.help import examples
from edgeq.cli.models import Json
from edgeq.report.console import make_console
from edgeq.report.progress import progress_line
from edgeq.report.terminal import print_wrapped

emulators = typer.Typer(rich_markup_mode="rich")


@emulators.command(
    rich_help_panel="Devices", epilog=examples("edgeq emulate arm64", "edgeq emulate")
)
def emulate(
    what: Annotated[
        Literal["arm64"] | None,
        typer.Argument(help="Set this up. Without it, list what there is.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set up what stands in for other CPUs (about 200 MB), or say which can be had here.

    Exit status 3 if one that EDGEQ_REQUIRE names cannot.
    """
    console = make_console()
    if what is None:
        from edgeq.places.emulated.catalogue import stand_ins
        from edgeq.places.emulated.required import require_stand_ins

        reasons = stand_ins()
        if as_json:
            print_json({"stand_ins": reasons})
        else:
            for name, reason in reasons.items():
                print_wrapped(f"{name}: {reason or 'ready'}", "dim" if reason else "", console)
        require_stand_ins()
        return
    from edgeq.core.units import format_bytes
    from edgeq.places.emulated.arm import set_up_arm, size

    start = time.perf_counter()
    with progress_line() as progress:
        system = set_up_arm(progress)
    seconds, held = time.perf_counter() - start, size(system)
    if as_json:
        print_json({"emulator": str(system.qemu), "bytes": held, "seconds": seconds})
    else:
        console.print(f"{what}: ready, {format_bytes(held)}, {seconds:.0f} s", soft_wrap=True)


@emulators.command(
    rich_help_panel="Devices",
    epilog=examples(
        "edgeq compare-cpus .edgeq/artifact/1f0c…",
        "edgeq compare-cpus model --on avx2 --on dotprod",
    ),
)
def compare_cpus(
    artifact: Annotated[Path, typer.Argument(help="An artifact directory.", show_default=False)],
    on: Annotated[
        list[str] | None,
        typer.Option(help="Only this stand-in; may be repeated. Default: all that can be had."),
    ] = None,
    full_precision: Annotated[
        Path | None,
        typer.Option(
            help="Full precision of the same model, an artifact: what noise is read from."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Where an artifact answers differently on other CPUs, by which operator, and what cures it.

    Exit status 1 if an app would get different answers.
    """
    from edgeq.measure.cross_cpu.compare import compare_cpus as compare_on_cpus
    from edgeq.places.emulated.catalogue import stand_in, stand_ins
    from edgeq.places.place import Here
    from edgeq.report.cross_cpu import print_comparison

    with contextlib.ExitStack() as stack, progress_line() as progress:
        names = on or [name for name, reason in stand_ins().items() if reason is None]
        places = [Here(), *(stack.enter_context(stand_in(name)) for name in names)]
        found = compare_on_cpus(artifact, places, progress, full_precision)
    if as_json:
        print_json({**found.model_dump(mode="json"), "exit_status": found.exit_status})
    else:
        print_comparison(found, make_console())
    raise typer.Exit(found.exit_status)
