"""`python -m edgeq` is the command line."""

import os
import sys

# `python -m` put the working directory first on the path; untrusted modules, even a pathlib, may
# lie there.
_HERE = ("", os.getcwd())  # noqa: PTH109


def main() -> None:
    """Entry point of the command `edgeq`. `--version` is answered before anything else is
    imported."""
    if sys.argv[1:] == ["--version"]:
        import edgeq

        print(edgeq.__version__)
        return
    from edgeq.cli.main import main as command_line

    command_line()


if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if place not in _HERE]
    main()
