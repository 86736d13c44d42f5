"""Changed GGUF files, and what an audit finds in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from edgeq.formats.gguf.header import MetaValue, read_header
from edgeq.formats.gguf.writer import write_gguf
from edgeq.pipeline.audit.records import Finding

ROOT = Path(__file__).parents[2]
WREN = ROOT / "recipes" / "wren"
TEXT = ROOT / "recipes" / "data" / "wren-evaluation.txt"
FILE_TYPE = "general.file_type"
WEIGHTS = 5770496  # of wren, its two tied tables counted once


def changed(
    source: Path,
    path: Path,
    metadata: Mapping[str, MetaValue | None] | None = None,
    data: dict[str, Callable[[bytes], bytes]] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """A copy of a GGUF file with other metadata (None leaves a key out) or tensor bytes."""
    header = read_header(source)
    content = source.read_bytes()
    kept = {key: value for key, value in {**header.metadata, **(metadata or {})}.items() if value}
    entries = [entry for entry in header.tensors.values() if entry.name not in without]

    def chunks(name: str) -> Iterator[bytes]:
        entry = header.tensors[name]
        own = content[entry.offset : entry.offset + entry.nbytes]
        yield (data or {}).get(name, bytes)(own)

    write_gguf(path, kept, [(entry.name, entry.shape, entry.type) for entry in entries], chunks)
    return path


def what_matters(findings: list[Finding] | tuple[Finding, ...]) -> dict[str, str]:
    """The findings that matter, by subject."""
    return {finding.subject: finding.what for finding in findings if finding.matters}
