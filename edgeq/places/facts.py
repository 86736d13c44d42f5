"""This machine as a `Device` in JSON: `python -m edgeq.places.facts`.

Exit status 3 if the machine is not supported: the output then is a list of problems.
"""

from __future__ import annotations

import dataclasses
import json
import sys

from edgeq.core.errors import Missing
from edgeq.devices import detect


def main() -> int:
    """Print the device, or the problems; returns the exit status."""
    try:
        sys.stdout.write(detect.detect().model_dump_json())
    except Missing as error:
        json.dump([dataclasses.asdict(problem) for problem in error.problems], sys.stdout)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
