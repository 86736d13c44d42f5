"""Renders one chat template in a process with limits, started for it alone.

A template is untrusted code. It runs in jinja2's sandbox, with limits on time and memory, and
without access to edgeq. The request on standard input and the answer on standard output are JSON.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Mapping
from typing import Any

SECONDS = 3
MEMORY_BYTES = 512 << 20
TEXT_LENGTH = 4 << 20


def main() -> None:
    """Answer with `text`, with `error`, or with `missing` if jinja2 is not installed."""
    request = json.load(sys.stdin)
    _limit()
    try:
        answer = {"text": _render(request["template"], request["context"])}
    except ImportError as error:
        answer = {"missing": str(error)}
    except MemoryError:
        answer = {"error": f"it takes more than {MEMORY_BYTES >> 20} MiB of memory"}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"[:1000]}
    json.dump(answer, sys.stdout)


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows, where only time is limited, by the parent
        return
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _render(template: str, context: Mapping[str, Any]) -> str:
    """Render as transformers does, for which templates are written."""
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}`: marks the model's words, for training; here it is just its body."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            block = nodes.CallBlock(self.call_method("_said"), [], [], body)
            return block.set_lineno(line)

        def _said(self, caller: Any) -> str:
            return str(caller())

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = _now
    parts, length = [], 0
    for part in environment.from_string(template).generate(**context):
        parts.append(part)
        length += len(part)
        if length > TEXT_LENGTH:
            raise ValueError(f"it writes more than {TEXT_LENGTH} characters")
    return "".join(parts)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _now(format: str) -> str:
    return datetime.datetime.now().strftime(format)


if __name__ == "__main__":
    main()
