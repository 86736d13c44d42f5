"""Debian packages, downloaded and unpacked into a folder by the system's own tools.

Nothing is installed and no privileges are needed: apt works on separate lists and a separate
status, for any architecture, and `dpkg-deb` unpacks the packages.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgeq.core.errors import Missing, Problem

_WHERE = "packages"
_SECONDS = 600  # seconds for one command of apt; a dead mirror must not hang the setup
# Ubuntu serves architectures other than a PC's separately.
_UBUNTU_PORTS = "http://ports.ubuntu.com/ubuntu-ports"
_UBUNTU_KEYS = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"


def lacking() -> str | None:
    """Why packages cannot be downloaded on this machine; None if the tools are present."""
    tools = [name for name in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(name) is None]
    return f"{' and '.join(tools)} not found: this is not a Debian-based system" if tools else None


class Apt:
    """apt for one architecture (`amd64`, `arm64`), with all its files in `folder`.

    Raises Missing with apt's own message if the lists cannot be downloaded or a package is not in
    them.
    """

    def __init__(self, folder: Path, architecture: str) -> None:
        reason = lacking()
        if reason is not None:
            raise Missing(Problem(_WHERE, reason))
        self._folder = folder
        for name in ("lists/partial", "archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()  # as if nothing were installed
        self._options = [
            f"Dir::State={folder}",
            f"Dir::State::status={folder / 'status'}",
            f"Dir::State::lists={folder / 'lists'}",
            f"Dir::Cache={folder}",
            f"Dir::Cache::archives={folder / 'archives'}",
            f"APT::Architecture={architecture}",
            f"APT::Architectures::={architecture}",
            "APT::Install-Recommends=false",
            "APT::Sandbox::User=",
            "Acquire::Languages=none",
            "Acquire::Retries=3",
            "Debug::NoLocking=true",
            *_other_sources(folder, architecture),
        ]
        # A list that fails to download may not be needed: the requested packages decide.
        self._update = self._do("apt-get", ["update"])

    def newest_python(self) -> str:
        """The version of Python behind `python3`, e.g. `3.11`."""
        said = self._do("apt-cache", ["depends", "python3-minimal"]).stdout
        found = re.search(r"python(3\.\d+)-minimal", said)
        if found is None:
            raise self._failed("it lists no Python", self._update)
        return found[1]

    def unpack(self, names: Sequence[str], into: Path, *, alone: bool = False) -> None:
        """Download packages and, unless `alone`, their dependencies; unpack all below `into`."""
        archives = self._folder / "archives"
        for old in archives.glob("*.deb"):
            old.unlink()
        command = ["download"] if alone else ["install", "--download-only", "--assume-yes"]
        done = self._do("apt-get", [*command, *names], archives)
        fetched = sorted(archives.glob("*.deb"))
        if done.returncode != 0 or not fetched:
            raise self._failed(f"{', '.join(names)} cannot be fetched", done)
        into.mkdir(parents=True, exist_ok=True)
        for archive in fetched:
            unpacked = _run(["dpkg-deb", "-x", str(archive), str(into)], into)
            if unpacked.returncode != 0:
                raise self._failed(f"{archive.name} cannot be unpacked", unpacked)

    def _do(
        self, tool: str, words: Sequence[str], folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        options = [part for option in self._options for part in ("-o", option)]
        return _run([tool, "-q", *options, *words], folder or self._folder)

    def _failed(self, what: str, done: subprocess.CompletedProcess[str]) -> Missing:
        said = " ".join((done.stderr or self._update.stderr).split())[-400:]
        remedy = "check that this machine reaches its package mirror: apt-get update"
        return Missing(Problem(_WHERE, f"{what}: {said or 'apt gave no reason'}", remedy))


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        what = f"{command[0]} did not finish within {_SECONDS} s"
        raise Missing(Problem(_WHERE, what, "try again with a better connection")) from None


def _other_sources(folder: Path, architecture: str) -> list[str]:
    """Options that name another mirror, if this system's does not serve the architecture."""
    release: dict[str, str] = {}
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
    codename = release.get("VERSION_CODENAME")
    if release.get("ID") != "ubuntu" or architecture == "amd64" or codename is None:
        return []
    lines = [
        f"deb [signed-by={_UBUNTU_KEYS}] {_UBUNTU_PORTS} {suite} main universe\n"
        for suite in (codename, f"{codename}-updates")
    ]
    (folder / "sources.list").write_text("".join(lines), encoding="utf-8")
    return [f"Dir::Etc::sourcelist={folder / 'sources.list'}", "Dir::Etc::sourceparts=/dev/null"]
