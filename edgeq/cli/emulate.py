"""Commands for CPUs that are not this machine's, registered in `edgeq.cli.main`."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgeq.cli.exit import print_json
from edgeq.cli.help import examples
from edgeq.cli.options import Json
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
        typer.Argument(help="What to set up. Without it, list the stand-ins.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the stand-ins for other CPUs, or set up 64-bit Arm emulation (about 200 MB).

    Exit status 3 if a stand-in that EDGEQ_REQUIRE names is not available.
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
    seconds, size_bytes = time.perf_counter() - start, size(system)
    if as_json:
        print_json({"emulator": str(system.qemu), "bytes": size_bytes, "seconds": seconds})
    else:
        console.print(f"{what}: ready, {format_bytes(size_bytes)}, {seconds:.0f} s", soft_wrap=True)


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
        typer.Option(help="Use only this stand-in; may be repeated. Default: all available."),
    ] = None,
    full_precision: Annotated[
        Path | None,
        typer.Option(
            help="A full-precision artifact of the same model, to measure rounding noise."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="An .npz with arrays that the model takes. Default: numbers in shapes that it ran "
            "on, which not every model takes."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare an artifact's answers across CPUs, operator by operator, and suggest a fix.

    Exit status 1 if an app would get different answers.
    """
    from edgeq.measure.cross_cpu.compare import compare_cpus as compare_on_cpus
    from edgeq.measure.inputs import Evaluation
    from edgeq.places.emulated.catalogue import stand_in, stand_ins
    from edgeq.places.place import Here
    from edgeq.report.cross_cpu import print_comparison

    with contextlib.ExitStack() as stack, progress_line() as progress:
        names = on or [name for name, reason in stand_ins().items() if reason is None]
        places = [Here(), *(stack.enter_context(stand_in(name)) for name in names)]
        evaluation = None if data is None else Evaluation(data)
        found = compare_on_cpus(artifact, places, progress, full_precision, evaluation=evaluation)
    if as_json:
        print_json({**found.model_dump(mode="json"), "exit_status": found.exit_status})
    else:
        print_comparison(found, make_console())
    raise typer.Exit(found.exit_status)
