"""Runs campaigns and writes the table of what was seen: `nox -s faults`, see --help."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults import commands, mutants
from tests.faults.campaign import Log, carry_out, table, write_table

CAMPAIGNS = [*commands.campaigns(), *mutants.campaigns()]
PAGE = Path(__file__).parents[2] / "docs" / "measured" / "faults.md"


def main() -> int:
    """Carry out what is missing; 1 if anything broke."""
    parser = argparse.ArgumentParser(prog="nox -s faults --", description=__doc__)
    parser.add_argument("words", nargs="*", help="only campaigns with one of these in their titles")
    parser.add_argument("--log", type=Path, default=Path("build/faults.jsonl"))
    parser.add_argument("--seconds", type=float, default=7200.0, help="at most, for each campaign")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table is written")
    given = parser.parse_args()
    log = Log(given.log)
    for campaign in CAMPAIGNS:
        if given.words and not any(word in campaign.title for word in given.words):
            continue
        print(campaign.title, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="edgeq-faults-") as folder:
            carry_out(campaign, log, Path(folder), given.seconds, say=lambda line: print(line))
    rows = table(CAMPAIGNS, log.runs)
    print(rows)
    write_table(given.page, rows)
    return int(any(run.broken for runs in log.runs.values() for run in runs.values()))


if __name__ == "__main__":
    sys.exit(main())
