"""`python -m edgeq` is the command line."""

import os
import sys

# `python -m` has put the working directory first, where a stranger's modules may lie; pathlib too.
_HERE = ("", os.getcwd())  # noqa: PTH109


def main() -> None:
    """Entry point of the command `edgeq`; its version is printed without loading all the rest."""
    if sys.argv[1:] == ["--version"]:
        import edgeq

        print(edgeq.__version__)
        return
    from edgeq.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if place not in _HERE]
    main()
