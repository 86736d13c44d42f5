"""Texts on which tokenizers disagree: ordinary ones in many languages, and near-binary ones."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_MOST_TOKENS = 300


def _bytes_as_text(seed: int, length: int) -> str:
    """Random bytes, with invalid UTF-8 replaced."""
    return random.Random(seed).randbytes(length).decode("utf-8", "replace")


def _latin1(seed: int, length: int) -> str:
    """Random bytes, each as one character."""
    return random.Random(seed).randbytes(length).decode("latin-1")


ORDINARY_TEXTS: tuple[str, ...] = (
    "Hello, world!",
    "a",
    # Spaces of all kinds, in runs, at the ends and around line breaks.
    " ",
    "  ",
    "   three before, three behind   ",
    "\t",
    "\t\ttabs\tbetween\t",
    "\n",
    "\n\n\n",
    "one\ntwo\n\nthree\n\n\nfour",
    "CRLF\r\nlines\r\n\r\nand\rreturns\r\r",
    " \n \n\t\n mixed \t \r\n ",
    "trailing newline \n",
    "spaces  two   three    four     five                    twenty",
    "\u00a0no-break\u00a0space\u2003em\u2009thin\u3000ideographic\u202fnarrow",
    # Digits in runs and with signs.
    "0 1 12 123 1234 12345 123456 1234567 12345678901234567890",
    "3.14159, 1,000,000.00, 1e-10, -42, +7, 0x1F, 2³, ½, ⅔, Ⅷ, ①②③",
    "v1.2.3-rc4 2024-02-29T23:59:60Z 127.0.0.1:8080",
    # Contractions and quotes.
    "I'm, you're, he's, we've, they'll, she'd, don't, it's, o'clock, 'tis, rock'n'roll",
    "I'M YOU'RE HE'S WE'VE THEY'LL SHE'D DON'T IT'S",
    "I’m, you’re, “curly” ‘quotes’ «guillemets» „low“ 'S's'T't",
    # Punctuation and symbols in runs.
    "...!!!???--- *** ### @@@ $$$ %%% ^^^ &&& ((())) [[[]]] {{{}}}",
    "hello...world!?(yes)[no]{maybe}<tag/>\\path\\to|pipe~tilde`tick`",
    "€100 £20 ¥3000 ₹5 ±1 ×2 ÷3 ≈ ≠ ≤ ∞ ∑ √ → ⇒ ↔ © ® ™ § ¶ † ‡ • … ‰",
    "a_b-c.d,e;f:g/h\\i a__b--c..d  __init__  --flag  ..",
    # Code, addresses, markup.
    "def f(x: int) -> str:\n    if x > 0:\n        return f'{x!r}'\n\treturn None\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * 2.0f; } // done\r\n",
    "SELECT * FROM t WHERE a='b' AND c<>1; -- note",
    "https://user:pass@example.org:443/a/b%20c?d=e&f=%F0%9F%98%80#g mailto:x.y+z@example.co.uk",
    '<div class="a">\n  <p>Text &amp; more</p>\n</div>{"key": [1, null, true]}',
    "\\alpha + \\frac{1}{2} = $x^2_{i,j}$",
    # Letters in upper and lower case, and between.
    "camelCaseWord PascalCaseWord SCREAMING_SNAKE iPhone15Pro McDonald's ΑΒΓαβγ",
    # Scripts.
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň. Ŝajnas ŭ. Það er ð.",
    "Tiếng Việt có nhiều dấu: ặ ế ộ ữ ỹ",
    "Съешь ещё этих мягких французских булок. Їжак, ґрунт, Ђорђе.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ᾧ ἀρχή",
    "שלום עולם, זה טקסט רגיל. السلام عليكم، هذا نص عادي.",
    "नमस्ते दुनिया। क्षत्रिय त्रिज्या",
    "வணக்கம் உலகம் ౨౩ తెలుగు ಕನ್ನಡ മലയാളം বাংলা ગુજરાતી ਪੰਜਾਬੀ",
    "สวัสดีชาวโลก ขอบคุณครับ ລາວ မြန်မာ ខ្មែរ",
    "你好，世界！这是一个测试。漢字とひらがなとカタカナ、ﾊﾝｶｸ。",
    "안녕하세요 세계 한국어 ㅋㅋㅋ",
    "ქართული Հայերեն ትግርኛ ᏣᎳᎩ ᠮᠣᠩᠭᠣᠯ བོད་ཡིག",
    "mixed: English中文русский日本語العربية한국어ไทย in one line",
    # Composed letters.
    "café déjà ñandú Å ö ế",
    # Emoji: simple, with tones, joined, flags, keycaps.
    "😀 😃😄😁 ❤️ ❤ 👍🏽 👩‍👩‍👧‍👦 👨🏿‍💻 🏳️‍🌈 🇩🇪🇺🇸 1️⃣ *️⃣ ☎︎ 🫠",
    # Long words, and the same sign again and again.
    "pneumonoultramicroscopicsilicovolcanoconiosis Donaudampfschifffahrtsgesellschaft",
    "=" * 80 + "\n" + "-" * 33 + "\n" + "#" * 7,
)
"""Ordinary text in many languages, and code. A file that tokenizes one differently is useless."""

ODD_TEXTS: tuple[str, ...] = (
    "",
    # Rare spaces.
    "\u1680ogham\u2028line\u2029paragraph\u205fmath",
    "a\u200bzero\u200bwidth\ufeff and a mark",
    "\v\fvertical\x85next",
    "٠١٢٣٤٥٦٧٨٩ ०१२३ ๐๑๒ １２３",
    "ǅ ǈ ǋ ß ẞ ſ ı İstanbul ĳ ŉ ﬁ ﬂ ﬃ",
    "ÉTATS-UNIS ÜBER STRASSE ÇA ÑANDÚ ŁÓDŹ ÅNGSTRÖM МОСКВА aÉtat unÉtat ПриветМир",
    "שָׁלוֹם עולם, ״ציטוט״",
    "السلام عليكم؟ مَرْحَبًا ﷺ ١٢٣",
    "ˈʃpʁaːxə tʰiː, スーパー, 人々, ᵃᵇᶜ",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒎𝒂𝒕𝒉 𝟘𝟙𝟚 𐍈 𒀀 𓂀 𠜎𠜱",
    # Composed and decomposed, marks in runs.
    "cafe\u0301 de\u0301ja\u0300 n\u0303andu\u0301 A\u030a o\u0308 e\u0302\u0301",
    "Z\u0351\u036b\u0343a\u0326l\u0327g\u0320o\u0321 t\u0331e\u0332x\u0333t",
    "\u0301mark first, \u1100\u1161\u11a8 jamo, \uac01",
    "text😀text 😀😀😀 \u200d alone \ufe0f",
    # Control characters and near-binary text.
    "nul\x00inside \x01\x02\x1b[31mred\x1b[0m\x7f",
    "\ufffd replaced \ufffe\uffff \ue000 private \U0010ffff",
    "\u202eright to left\u202c \u2066isolate\u2069 soft\u00adhyphen",
    _bytes_as_text(1, 96),
    _bytes_as_text(2, 96),
    _latin1(3, 64),
    "ab" * 45,
    "supercalifragilistic" * 4 + " end",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + " " * 40 + "bbbb",
    "哈" * 50 + "!" * 30,
    # Look like special tokens, and some are.
    "<s> </s> <unk> <pad> [CLS] [SEP] [MASK] [PAD] [UNK] <|endoftext|> <|im_start|>user\n",
    "<bos> <eos> <start_of_turn> <|eot_id|> <|begin_of_text|> <0x0A> <0x00> ▁ ▁▁ Ġ Ċ ##ing",
    "< s > <|not_a_token|> <|> || |> <<s>> [ CLS ] [cls]",
)
"""Rare characters, noise, and texts spelled like special tokens.

Words, here and above, have fewer than 100 characters: WordPiece gives up there, llama.cpp's does
not.
"""

HARD_TEXTS = (*ORDINARY_TEXTS, *ODD_TEXTS)


def texts_with(tokens: Sequence[str]) -> Iterator[str]:
    """The hard texts, and then texts with each of `tokens`."""
    yield from HARD_TEXTS
    yield from texts_of(tokens)


def texts_of(tokens: Sequence[str]) -> Iterator[str]:
    """Texts with every token of `tokens`, or with a sample of very many."""
    for token in tokens[:: -(-len(tokens) // _MOST_TOKENS) or 1]:
        yield token
        yield f"one{token}two {token} three\n{token}{token}\tfour"
