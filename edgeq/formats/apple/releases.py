"""Releases of Apple's operating systems."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Release:
    """A release of iOS, and that of macOS with the same runtimes."""

    ios: int
    macos: int

    def __str__(self) -> str:
        return f"iOS {self.ios} / macOS {self.macos}"
