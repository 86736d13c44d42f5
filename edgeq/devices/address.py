"""The address of a device, as written in a profile or on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from edgeq.core.validation_messages import refuse, suggest

Kind = Literal["here", "ssh", "adb", "emulate"]

_FORMS = "here, ssh://user@host[:port], adb[:serial] or emulate"
_SSH = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][\w.+-]*)@)?"
    r"(?:\[(?P<ip6>[0-9A-Fa-f:]+(?:%[\w.-]+)?)\]|(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*))"
    r"(?::(?P<port>\d{1,5}))?/?",
    re.ASCII,
)
_ADB = re.compile(r"adb(?::(?P<serial>[A-Za-z0-9_][A-Za-z0-9_.:-]*))?")
_OPTIONS = ("python", "directory", "library")


@dataclass(frozen=True)
class Address:
    """One way to reach a device.

    user and port: None leaves them to the user's SSH configuration. serial: adb's; None is the only
    connected device. python: the interpreter to start there; directory: where its temporary
    directory goes. Both are absolute paths there; None lets edgeq find one. library: absolute path
    on this machine of onnxruntime's library for the device, or of the package that has it: then
    edgeq-runner measures there, without Python.
    """

    kind: Kind
    host: str | None = None
    user: str | None = None
    port: int | None = None
    serial: str | None = None
    python: str | None = None
    directory: str | None = None
    library: str | None = None

    @property
    def name(self) -> str:
        """The shortest text that identifies the device: without `python` and `directory`."""
        if self.kind == "adb":
            return f"adb:{self.serial}" if self.serial else "adb"
        if self.host is None:
            return self.kind
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"ssh://{user}{host}{f':{self.port}' if self.port else ''}"

    @property
    def text(self) -> str:
        """The text that `parse_address` reads as this address."""
        options = {name: getattr(self, name) for name in _OPTIONS}
        query = urlencode({name: path for name, path in options.items() if path}, safe="/")
        return f"{self.name}?{query}" if query else self.name


def parse_address(text: str) -> Address:
    """Read `here`, `ssh://user@host[:port]`, `adb[:serial]` or `emulate`.

    `ssh` and `adb` take `?python=/absolute/path`, `?directory=/absolute/path` and
    `?library=/absolute/path`, joined by `&`.
    Raises a ValueError with the remedy, as validators do, for anything else.

    >>> parse_address("ssh://pi@pi5.local:2222?python=/opt/venv/bin/python").port
    2222
    >>> parse_address("adb:R58M").name
    'adb:R58M'
    """
    plain, asks, query = text.partition("?")
    if plain in ("here", "emulate"):
        if asks:
            raise refuse(f"{plain!r} takes no options", f"write just {plain!r}")
        return Address("here" if plain == "here" else "emulate")
    if found := _ADB.fullmatch(plain):
        return Address("adb", serial=found["serial"], **_options(query if asks else None))
    if plain.startswith("adb"):
        raise refuse(
            f"{plain!r} does not name a device",
            "write adb or adb:SERIAL, as `adb devices` lists it",
        )
    if not plain.startswith("ssh://"):
        raise refuse(f"{text!r} is not the address of a device", f"write {_FORMS}")
    return _ssh(plain, _options(query if asks else None))


def _ssh(plain: str, options: dict[str, Any]) -> Address:
    found = _SSH.fullmatch(plain)
    if found is None:
        what = f"{plain!r} does not name a host"
        if re.match(r"ssh://[^/@]*:[^/@]*@", plain):
            what = "an address must not contain a password"
            raise refuse(what, "let the device accept your key: ssh-copy-id user@host")
        raise refuse(what, "write ssh://user@host or ssh://user@host:port")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        raise refuse(f"{port} is not a valid port", "write one from 1 to 65535")
    return Address("ssh", found["ip6"] or found["host"], found["user"], port, **options)


def _options(query: str | None) -> dict[str, Any]:
    """The part after the question mark; None without one."""
    if query is None:
        return {}
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, value in pairs:
        if name not in _OPTIONS:
            raise refuse(f"{name!r} is not an option of an address", suggest(name, _OPTIONS))
        if not value.startswith("/") or not value.isprintable():
            place = "here" if name == "library" else "there"
            what = f"{name}: {value!r} is not an absolute path"
            raise refuse(what, f"write {name}=/path/{place}")
    if len(dict(pairs)) != len(pairs) or not pairs:
        remedy = "write ?python=/path/there, ?directory=/path/there or both, joined by &"
        raise refuse(f"the options {query!r} cannot be read", remedy)
    if {"python", "library"} <= dict(pairs).keys():
        what = "python and library exclude each other"
        raise refuse(what, "leave out library to measure with Python, else python")
    return dict(pairs)
