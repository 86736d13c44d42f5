"""Markdown tables, and descriptions of the fields of a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
_QUANTITIES = {
    "MiB|": "a size with its unit",
    "/s|": "a bandwidth with its unit",
    "ms|": "a time with its unit",
    "tok/s": "a speed in tok/s",
    "%?": "a share",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def code(value: Any) -> str:
    """A value as a person writes it in YAML, as code."""
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(held)}' for key, held in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def plain(text: str) -> str:
    """Text of a description, of which nothing is markup but code in backticks."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        held = parts[index].replace("<", "&lt;").replace(">", "&gt;")
        parts[index] = "".join(f"\\{c}" if c in "*_[]#" else c for c in held)
    return "`".join(parts)


def kind(schema: Schema, names: Mapping[str, str]) -> str:
    """What a field takes, in words. names: what objects of `$defs` are called, with their link."""
    if "$ref" in schema:
        return names[schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return _choices(schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return _one_of([each for each in schema[key] if each.get("type") != "null"], names)
    if schema.get("type") == "array":
        return f"list of {kind(schema.get('items', {}), names)}"
    if schema.get("type") == "object":
        inner = _values(schema)
        return f"mapping to {kind(inner, names)}" if inner else "mapping"
    for part, words in _QUANTITIES.items():
        if part in schema.get("pattern", ""):
            return words
    name: str = schema.get("type", "anything")
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(name, name)


def _one_of(schemas: Sequence[Schema], names: Mapping[str, str]) -> str:
    single = [each for each in schemas if each.get("type") != "array"]
    found = [kind(each, names) for each in single]
    for each in schemas:
        if each.get("type") == "array":  # of what may stand alone, too
            is_same = each.get("items") in single
            found.append("a list of them" if is_same else kind(each, names))
    return ", or ".join(dict.fromkeys(found))


_MANY = 12
_PLACES = 2  # a part of a record can have twenty


def _choices(words: Sequence[Any]) -> str:
    if len(words) <= _MANY:
        return ", ".join(map(code, words))
    return f'<span class="many">{", ".join(map(code, words))}</span>'


def _default(name: str, schema: Schema, required: bool) -> str:
    if required:
        return "**required**"
    value = schema.get("default")
    is_empty = value in (None, [], {}, ()) or isinstance(value, dict)
    return "" if is_empty else code(value)


def _rows(schema: Schema, names: Mapping[str, str]) -> Iterator[list[str]]:
    for name, field in schema.get("properties", {}).items():
        said = plain(field.get("description", ""))
        examples = ", ".join(map(code, field.get("examples", ())))
        default = _default(name, field, name in schema.get("required", ()))
        yield [code(name), f"{said}<br>E.g. {examples}" if examples else said,
               kind(field, names), default]  # fmt: skip


def fields(schema: Schema, names: Mapping[str, str], *, written: bool) -> str:
    """The table of an object's fields. written: by a person, who may leave some out."""
    columns = 4 if written else 3
    head = ["key", "meaning", "takes" if written else "holds", "default"]
    return table(head[:columns], [row[:columns] for row in _rows(schema, names)])


def parts_of(schema: Schema, path: str, definitions: Schema) -> Iterator[tuple[str, str]]:
    """Every object below `schema`, by its name in `$defs` and the first path that leads to it."""
    for name, field in schema.get("properties", {}).items():
        for reference, suffix in _references(field):
            inner = f"{path}.{name}{suffix}".lstrip(".")
            yield reference, inner
            yield from parts_of(definitions[reference], inner, definitions)


def _references(field: Schema) -> Iterator[tuple[str, str]]:
    if "$ref" in field:
        yield field["$ref"].rpartition("/")[2], ""
    for key in ("anyOf", "oneOf"):
        for each in field.get(key, ()):
            yield from _references(each)
    if isinstance(field.get("items"), dict):
        yield from ((name, f"[]{suffix}") for name, suffix in _references(field["items"]))
    inner = _values(field)
    if inner:
        yield from ((name, f".NAME{suffix}") for name, suffix in _references(inner))


def _values(schema: Schema) -> Schema:
    """What the values of a mapping are, where its keys are free; empty for another schema."""
    patterns = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    return next((each for each in patterns if isinstance(each, dict)), {})


def objects(schema: Schema, root: str, *, written: bool = True, without: Sequence[str] = ()) -> str:
    """All of a schema: a section for every object, the whole first, called `root`."""
    definitions = schema.get("$defs", {})
    paths: dict[str, dict[str, None]] = {}
    for reference, path in parts_of(schema, "", definitions):
        if reference not in without:
            paths.setdefault(reference, {})[path] = None
    first = {name: next(iter(own)) for name, own in paths.items()}
    names = {name: f"[`{path}`](#{_anchor(root, path)})" for name, path in first.items()}
    names |= {name: f"a {name}" for name in definitions if name not in paths}
    said = [
        f"## {root} {{ #{_anchor(root, '')} }}\n",
        f"{plain(schema.get('description', ''))}\n",
        fields(schema, names, written=written),
    ]
    for name, own in paths.items():
        held = definitions[name]
        title = ", ".join(map(code, list(own)[:_PLACES])) + (" …" if len(own) > _PLACES else "")
        said.append(f"### {title} {{ #{_anchor(root, first[name])} }}\n")
        said.append(f"{plain(held.get('description', ''))}\n")
        said.append(fields(held, names, written=written))
    return "\n".join(said)


def _anchor(root: str, path: str) -> str:
    text = f"{root}-{path}".casefold().replace("[]", "").replace(".json", "")
    return "".join(c if c.isalnum() else "-" for c in text).strip("-")
