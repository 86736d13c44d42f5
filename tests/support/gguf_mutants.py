"""Damaged and hostile variants of a GGUF file, the same for the same seed."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

from edgeq.formats.gguf.header import Header, read_header

_EXTREMES = (
    *(0, 1, 2, 3, 7, 8, 31, 32, 33, 127, 128, 255, 256, 4096, 65535, 65536),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1),
)
_TOKENS = "tokenizer.ggml.tokens"


class GgufMutants:
    """Variants of the file `path`, which stays as it is: bits, values, kinds, names and data."""

    def __init__(self, path: Path) -> None:
        self._content = path.read_bytes()
        self._header = read_header(path)
        self._keys = {key: self._behind(key) for key in self._header.metadata}
        self._tensors = [self._behind(name) for name in self._header.tensors]

    @property
    def header(self) -> Header:
        """The header of the file itself."""
        return self._header

    def mutant(self, seed: int) -> bytes:
        """One variant."""
        chance, content = random.Random(seed), bytearray(self._content)
        ways: tuple[Callable[[random.Random, bytearray], None], ...] = (
            *(self._flip, self._number, self._kind, self._tensor, self._rename),
            *(self._items, self._swap, self._weights, self._twice, self._real),
        )
        chance.choice(ways)(chance, content)
        return bytes(content)

    def _behind(self, name: str) -> int:
        """Where what follows a name in the header begins."""
        spelled = struct.pack("<Q", len(name.encode())) + name.encode()
        return self._content.index(spelled) + len(spelled)

    def _flip(self, chance: random.Random, content: bytearray) -> None:
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(self._header.data_start)] ^= 1 << chance.randrange(8)

    def _number(self, chance: random.Random, content: bytearray) -> None:
        key = chance.choice(list(self._keys))
        is_array = self._header.metadata[key].element is not None
        at = self._keys[key] + 4 + (chance.choice((0, 4, 12)) if is_array else 0)
        width = chance.choice((4, 8))
        content[at : at + width] = struct.pack("<Q", chance.choice(_EXTREMES))[:width]

    def _real(self, chance: random.Random, content: bytearray) -> None:
        at = chance.choice(list(self._keys.values())) + 4
        value = chance.choice((0.0, -1.0, float("nan"), float("inf"), 1e38, 1e-38))
        content[at : at + 4] = struct.pack("<f", value)

    def _kind(self, chance: random.Random, content: bytearray) -> None:
        at = chance.choice(list(self._keys.values()))
        content[at : at + 4] = struct.pack("<I", chance.randrange(13))

    def _tensor(self, chance: random.Random, content: bytearray) -> None:
        at = chance.choice(self._tensors)
        (axes,) = struct.unpack_from("<I", content, at)
        part = chance.randrange(axes + 2)
        if part == axes:
            content[at : at + 4] = struct.pack("<I", chance.randrange(5))
        elif part == axes + 1:
            at += 4 + 8 * axes
            content[at : at + 4] = struct.pack("<I", chance.randrange(42))
        else:
            at += 4 + 8 * part
            content[at : at + 8] = struct.pack("<Q", chance.choice(_EXTREMES))

    def _rename(self, chance: random.Random, content: bytearray) -> None:
        content[chance.choice(list(self._keys.values())) - 1] = ord(chance.choice("abcxyz._"))

    def _items(self, chance: random.Random, content: bytearray) -> None:
        arrays = [key for key in self._keys if self._header.metadata[key].element]
        start = self._keys[chance.choice(arrays)] + 16
        for _ in range(chance.randint(1, 8)):
            at = start + chance.randrange(4096)
            content[at] = chance.choice((0, 255, content[at] ^ 1, chance.randrange(256)))

    def _swap(self, chance: random.Random, content: bytearray) -> None:
        one, other = chance.choice(self._tensors), chance.choice(self._tensors)
        kept = content[one : one + 24]
        content[one : one + 24] = content[other : other + 24]
        content[other : other + 24] = kept

    def _weights(self, chance: random.Random, content: bytearray) -> None:
        at = chance.randrange(self._header.data_start, len(content))
        size = min(chance.choice((4, 64, 1 << 12, 1 << 16)), len(content) - at)
        content[at : at + size] = chance.choice((b"\xff", b"\0", b"\x7f")) * size

    def _twice(self, chance: random.Random, content: bytearray) -> None:
        tokens = [
            token.encode("utf-8", "surrogateescape")
            for token in self._header.metadata[_TOKENS].value
        ]
        token = chance.choice([token for token in tokens if token])
        same = [other for other in tokens if len(other) == len(token)]
        spelled = struct.pack("<Q", len(token)) + token
        at = content.index(spelled, self._keys[_TOKENS]) + 8
        content[at : at + len(token)] = chance.choice(same)
