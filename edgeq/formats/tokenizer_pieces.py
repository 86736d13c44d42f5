"""The tokenizer of a language model, from its `tokenizer.json`: text to ids, ids to bytes.

A tokenizer decodes whole texts and puts U+FFFD for an incomplete character; streaming text token by
token requires the bytes.
"""

from __future__ import annotations

import json
import re

from edgeq.formats.tokenizer import encode, open_tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _byte_of_letter() -> dict[str, int]:
    """The letters that byte-level vocabularies use for bytes.

    Printable bytes of Latin-1 are their own letter; the others, in order, are those from U+0100 on
    (Radford et al. 2019, the GPT-2 tokenizer).
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in own]
    letters = {chr(byte): byte for byte in own}
    letters.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return letters


_LETTERS = _byte_of_letter()


class DecoderTokenizer:
    """`tokens` and `piece` of a language model: byte-level BPE, and SentencePiece's models.

    content: of `tokenizer.json`; its own truncation and padding are switched off.

    >>> tokenizer = DecoderTokenizer(Path("tokenizer.json").read_bytes())  # doctest: +SKIP
    >>> tokenizer.piece(tokenizer.ids(" the")[-1])  # doctest: +SKIP
    b' the'
    """

    def __init__(self, content: bytes) -> None:
        self._tokenizer = open_tokenizer(content)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._added = self._tokenizer.get_added_tokens_decoder()
        self._byte_level = '"ByteLevel"' in json.dumps(json.loads(content).get("decoder"))

    def ids(self, text: str, special: bool = True) -> list[int]:
        """Token ids; see `LanguageModel.tokens`."""
        return encode(self._tokenizer, text, "text", special=special)

    def piece(self, token_id: int) -> bytes:
        """UTF-8 bytes of the token, often only a part of a character; none for a special token."""
        added = self._added.get(token_id)
        if added is not None:
            return b"" if added.special else bytes(added.content.encode())
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""  # a row of the embedding beyond the vocabulary, present to round its size up
        if self._byte_level:
            return bytes(_LETTERS[letter] for letter in token)
        byte = _BYTE_TOKEN.fullmatch(token)
        if byte:
            return bytes([int(byte.group(1), 16)])
        return bytes(token.replace("\u2581", " ").encode())
