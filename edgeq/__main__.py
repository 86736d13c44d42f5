"""`python -m edgeq` is the command line."""

from edgeq.cli.main import main

main()
