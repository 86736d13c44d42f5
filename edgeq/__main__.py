"""`python -m edgeq` is the command line."""

import os
import sys

# `python -m` has put the working directory first, where a stranger's modules may lie; pathlib too.
_HERE = ("", os.getcwd())  # noqa: PTH109
sys.path[:] = [place for place in sys.path if place not in _HERE]

from edgeq.cli.main import main  # noqa: E402

main()
