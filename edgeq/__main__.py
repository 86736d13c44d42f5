"""`python -m edgeq` is the command line."""

import os
import sys


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
    from edgeq.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    untrusted = _here()
    sys.path[:] = [place for place in sys.path if place not in untrusted]
    main()
