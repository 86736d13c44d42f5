"""`python -m edgeq` is the command line."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_INTERRUPTED = 130
_MISSING = 3  # edgeq.core.errors.EXIT_MISSING, which may be what cannot be imported


def _here() -> tuple[str, ...]:
    """The working directory, which `python -m` puts first on the path; untrusted modules, even a
    pathlib, may lie there."""
    try:
        return ("", os.getcwd())  # noqa: PTH109
    except OSError:
        return ("",)  # it has been deleted


def main() -> None:
    """Entry point of the command `edgeq`. `--version` is answered before anything else is
    imported."""
    if sys.argv[1:] == ["--version"]:
        import edgeq

        try:
            print(edgeq.__version__, flush=True)
            return
        except OSError:
            pass  # written again below, where the reason is reported
    _command_line()()


def _command_line() -> Callable[[], None]:
    """The command line. Ctrl-C while it is loaded, libraries that are broken, or no memory for them
    end the process with one line."""
    try:
        from edgeq.cli.main import main as command_line
    except KeyboardInterrupt:  # OpenBLAS sends it, too, where it can start no threads
        print("edgeq: interrupted before anything was done", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except Exception as error:
        cause = error.__cause__ or error
        what = " ".join(str(cause).split()) or type(cause).__name__
        remedy = "end other programs, or install again: pip install --force-reinstall edgeq"
        print(f"edgeq: its libraries cannot be loaded: {what}: {remedy}", file=sys.stderr)
        sys.exit(_MISSING)
    return command_line


if __name__ == "__main__":
    untrusted = _here()
    sys.path[:] = [place for place in sys.path if place not in untrusted]
    main()
