"""What a campaign is, how it is resumed, and the table of what was seen."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_ROW = "| {title} | {runs:,} | {promise} | {broken} | {slowest:.1f} s |\n"
_BEGIN, _END = "<!-- faults: begin -->\n", "<!-- faults: end -->\n"


@dataclass(frozen=True)
class Run:
    """One attack. broken: what did not hold, in one line; empty if everything did."""

    seed: int
    broken: str
    seconds: float


@dataclass(frozen=True)
class Campaign:
    """Attacks of one kind. run: does those of the seeds in an empty folder, one after the other.

    short, long: how many seeds the ordinary tests and `nox -s faults` try.
    """

    title: str
    promise: str
    run: Callable[[Iterable[int], Path], Iterator[Run]]
    short: int
    long: int


class Log:
    """What was run so far, a line of JSON each, so that campaigns go on where they were stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.runs: dict[str, dict[int, Run]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                found = json.loads(line)
                self._keep(found.pop("campaign"), Run(**found))

    def add(self, campaign: str, run: Run) -> None:
        """Remember a run, in the file as well."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"campaign": campaign, **asdict(run)}) + "\n")
        self._keep(campaign, run)

    def missing(self, campaign: str, count: int) -> list[int]:
        """Seeds below `count` that were not tried."""
        return [seed for seed in range(count) if seed not in self.runs.get(campaign, {})]

    def _keep(self, campaign: str, run: Run) -> None:
        self.runs.setdefault(campaign, {})[run.seed] = run


def carry_out(
    campaign: Campaign, log: Log, folder: Path, seconds: float, say: Callable[[str], None]
) -> None:
    """Try the seeds that are missing, until `seconds` have passed."""
    end = time.monotonic() + seconds
    seeds = log.missing(campaign.title, campaign.long)
    for run in campaign.run(seeds, folder):
        log.add(campaign.title, run)
        if run.broken:
            say(f"{campaign.title}, seed {run.seed}: {run.broken}")
        if time.monotonic() > end:
            return


def table(campaigns: Sequence[Campaign], runs: Mapping[str, Mapping[int, Run]]) -> str:
    """A row for every campaign that was run."""
    rows = ["| attack | runs | what must hold | broken | slowest |\n", "| --- " * 5 + "|\n"]
    for campaign in campaigns:
        seen = runs.get(campaign.title, {}).values()
        if seen:
            rows.append(
                _ROW.format(
                    title=campaign.title,
                    runs=len(seen),
                    promise=campaign.promise,
                    broken=sum(bool(run.broken) for run in seen),
                    slowest=max(run.seconds for run in seen),
                )
            )
    return "".join(rows)


def write_table(page: Path, rows: str) -> None:
    """Put `rows` in the place that is marked in a page of the documentation."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, found, after = rest.partition(_END)
    if not found:
        raise SystemExit(f"{page} has no place for the table: {_BEGIN.strip()}")
    page.write_text(f"{before}{_BEGIN}\n{rows}\n{_END}{after}", encoding="utf-8")
