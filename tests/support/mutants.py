"""Damaged and hostile variants of files, the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**70), 1.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "x", "\x1b[2J", "\u0000", "../../etc/passwd", "\ud800"),
    *([], {}, [[]], [1], ["x"], [None], {"x": 1}, {"": []}, [1, "x", None, {}], [0] * 1000),
)
_BYTES = (b"", b"\x00", b"\xff" * 8, b"\x7f" * 4, b"\x80" * 10, b"\x00" * 64)


def mutate_json(content: bytes, random: random.Random) -> bytes:
    """JSON with one to three values changed, removed or added; now and then broken text."""
    if random.random() < 0.15:
        return mutate_bytes(content, random)
    value = json.loads(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = _mutated(value, random)
    return json.dumps(value).encode()


def _mutated(value: Any, random: random.Random) -> Any:
    """`value` with one place below it changed; every depth is as likely as its siblings."""
    if not isinstance(value, dict | list) or not value or random.random() < 0.03:
        return random.choice(_VALUES)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = random.choice(keys)
    kind = random.random()
    if isinstance(value, dict):
        changed = dict(value)
        if kind < 0.15:
            del changed[key]
        elif kind < 0.2:
            changed[f"{key}x"] = changed.pop(key)
        else:
            changed[key] = _mutated(value[key], random)
        return changed
    items = list(value)
    if kind < 0.1:
        del items[key]
    elif kind < 0.2:
        items.insert(key, random.choice([*_VALUES, items[key]]))
    else:
        items[key] = _mutated(items[key], random)
    return items


def mutate_bytes(content: bytes, random: random.Random) -> bytes:
    """Bytes with one to four places flipped, overwritten, cut out, doubled or cut off."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        # Headers are where structure is: half of the places are near the beginning.
        end = len(changed) if random.random() < 0.5 else min(len(changed), 512)
        at = random.randrange(end + 1)
        length = random.choice((1, 1, 2, 4, 8, 64))
        kind = random.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            piece = random.choice(_BYTES)
            changed[at : at + len(piece)] = piece
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif random.random() < 0.3:
            del changed[at:]
        else:
            other = random.randrange(len(changed) + 1)
            changed[at : at + length] = changed[other : other + length]
    return bytes(changed)


def mutate_text(content: bytes, random: random.Random) -> bytes:
    """Text such as YAML with words and lines changed; now and then bytes."""
    if random.random() < 0.2:
        return mutate_bytes(content, random)
    lines = content.decode().split("\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(lines))
        kind = random.randrange(5)
        if kind == 0:
            del lines[at : at + 1]
        elif kind == 1:
            lines.insert(at, lines[random.randrange(len(lines) or 1)] if lines else "")
        elif kind == 2:
            words = lines[at].split(" ")
            words[random.randrange(len(words))] = _word(random)
            lines[at] = " ".join(words)
        elif kind == 3:
            key, colon, _ = lines[at].partition(":")
            lines[at] = f"{key}{colon} {_word(random)}"
        else:
            lines[at] = " " * random.randrange(5) + lines[at]
        lines = lines or [""]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _word(random: random.Random) -> str:
    value = random.choice(_VALUES)
    return random.choice((json.dumps(value), str(value), "*a", "&a x", "!x y", "- -", "? x", "{x"))


def mutate_onnx(content: bytes, random: random.Random) -> bytes:
    """A graph with one to three fields of its nodes, tensors or values changed or removed."""
    import onnx

    if random.random() < 0.2:
        return mutate_bytes(content, random)
    model = onnx.ModelProto.FromString(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        _mutate_message(model, random)
    return bytes(model.SerializeToString())


def _mutate_message(message: Any, random: random.Random) -> None:
    """Change one field below `message`, of those that are set; descends into messages."""
    fields = message.ListFields()
    if not fields:
        return
    field, value = random.choice(fields)
    many = field.is_repeated if hasattr(field, "is_repeated") else field.label == 3
    chosen = value
    if many:
        at = random.randrange(len(value))
        kind = random.random()
        if kind < 0.15:
            del value[at]
            return
        if kind < 0.25:
            value.extend([value[at]])
            return
        chosen = value[at]
    if hasattr(chosen, "ListFields"):
        if not many and random.random() < 0.05:
            message.ClearField(field.name)
        else:
            _mutate_message(chosen, random)
        return
    changed = _changed_scalar(chosen, random)
    try:
        if many:
            value[at] = changed
        else:
            setattr(message, field.name, changed)
    except (ValueError, TypeError):  # an enumeration or a width that cannot hold it
        message.ClearField(field.name)


def _changed_scalar(value: Any, random: random.Random) -> Any:
    if isinstance(value, bytes):
        return mutate_bytes(value, random)
    if isinstance(value, str):
        return random.choice(("", "x", value + "x", value[:-1], "\x1b[2J", "../" + value))
    if isinstance(value, float):
        return random.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    return random.choice((0, 1, -1, 2, 7, 16, 255, value + 1, 2**31 - 1, 2**40, -(2**63)))


MUTATORS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".json": mutate_json,
    ".yaml": mutate_text,
    ".csv": mutate_text,
    ".tsv": mutate_text,
    ".onnx": mutate_onnx,
}


def mutant(name: str, content: bytes, seed: int) -> bytes:
    """The variant number `seed` of a file with this name."""
    drawn = random.Random(f"{name}:{seed}")
    suffix = name[name.rfind(".") :]
    return MUTATORS.get(suffix, mutate_bytes)(content, drawn)
