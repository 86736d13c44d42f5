"""Find the CPUID instructions of an ELF file for x86-64.

The two bytes of the instruction also occur by chance, inside others. Real instructions are
identified by disassembling from the start of the enclosing function: the table of unwind
information, which C++, Rust and C compilers write for every function on x86-64, lists function
starts.
"""

from __future__ import annotations

import bisect
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq.core.errors import missing_extra
from edgeq.places.emulated import elf
from edgeq.places.emulated.elf import Segment

CPUID = b"\x0f\xa2"
_UNWIND, _EXECUTABLE = 0x6474E550, 1  # PT_GNU_EH_FRAME, PF_X
_X86_64 = 62  # EM_X86_64
# Encoding of a .eh_frame_hdr with a sorted table: pc-relative pointer to the frames, a count in
# 4 bytes, pairs of 4-byte offsets from the header's own address (Linux Standard Base, 10.6.2).
_SORTED_TABLE = b"\x01\x1b\x03\x3b"
_FURTHEST = 1 << 20  # bytes: functions without unwind information are not longer


def find_cpuid(path: Path) -> tuple[int, ...]:
    """Addresses, in the file's own terms, of the CPUID instructions in the file at `path`.

    None if it is not an ELF file for x86-64. If decoding fails before it reaches the bytes, which
    happens in tables that hand-written assembly places among its code, they are data. Raises
    Missing if there is anything to decode and capstone, the disassembler, is not installed.
    """
    content = path.read_bytes()
    if elf.machine(content) != _X86_64:
        return ()
    segments = list(elf.segments(content))
    starts: list[int] | None = None
    decoder: Any = None
    places = []
    for segment in segments:
        if segment.kind != elf.LOADED or not segment.flags & _EXECUTABLE:
            continue
        for at in _occurrences(content, segment):
            if starts is None:
                starts, decoder = _function_starts(content, segments), _decoder()
            start = max(_last_up_to(starts, at), segment.address)
            if _is_instruction(decoder, content, segment, start, at):
                places.append(at)
    return tuple(places)


def _occurrences(content: bytes, segment: Segment) -> Iterator[int]:
    end = segment.offset + segment.bytes
    at = content.find(CPUID, segment.offset, end)
    while at >= 0:
        yield at - segment.offset + segment.address
        at = content.find(CPUID, at + 1, end)


def _function_starts(content: bytes, segments: list[Segment]) -> list[int]:
    """Sorted addresses at which functions start; empty if the file has no such table."""
    header = next((segment for segment in segments if segment.kind == _UNWIND), None)
    if header is None or content[header.offset : header.offset + 4] != _SORTED_TABLE:
        return []
    (count,) = struct.unpack_from("<I", content, header.offset + 8)
    pairs = struct.unpack_from(f"<{2 * count}i", content, header.offset + 12)
    return [header.address + offset for offset in pairs[::2]]


def _last_up_to(starts: list[int], at: int) -> int:
    index = bisect.bisect_right(starts, at)
    return starts[index - 1] if index else 0


def _is_instruction(decoder: Any, content: bytes, segment: Segment, start: int, at: int) -> bool:
    """Whether an instruction starts at the address `at`, decoding from the one at `start`."""
    if at - start > _FURTHEST:
        return False
    shift = segment.offset - segment.address
    code = content[start + shift : at + shift + len(CPUID)]
    return any(address == at for address, *_ in decoder.disasm_lite(code, start))


def _decoder() -> Any:
    try:
        import capstone
    except ImportError:
        purpose = "find the CPUID instructions of libraries"
        raise missing_extra("capstone", "emulate", purpose) from None
    return capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
