"""`python -m edgeq` is the command line."""

from edgeq.cli import main

main()
