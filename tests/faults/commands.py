"""Commands that are killed, or whose disk, memory, files or clock are not what they expect."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.campaign import Campaign, Run
from tests.support import onnx_models
from tests.support.families import Family

_EDGEQ = [sys.executable, "-m", "edgeq"]
_CLOCK = """
import random, sys, time
chance, now, now_ns = random.Random(int(sys.argv.pop(1))), time.time, time.time_ns
def jumped():
    return chance.choice((0, 0, -1, 1)) * 10 * 365 * 86400
time.time = lambda: now() + jumped()
time.time_ns = lambda: now_ns() + jumped() * 10**9
from edgeq.cli.main import main
main()
"""
_RECIPE = """\
edgeq: 1
name: net
model: {source: net.onnx, task: tensor, licence: mit}
data: {calibration: {path: calibration.npz}, evaluation: {path: evaluation.npz}}
quantize: {default: int8-static}
targets: [{format: onnx, devices: [here]}]
budgets: {size: {download: 4 MiB}, quality: {error: 0.9}}
"""
_REFUSED = (0, 2, 3)
_SECONDS = 600
COMMANDS: dict[str, tuple[str, ...]] = {
    "build": ("build", "recipe.yaml"),
    "bundle": ("bundle", "recipe.yaml", "--out", "net.zip", "--allow-unchecked"),
    "check": ("check", "recipe.yaml", "--device", "here"),
    "matrix": ("matrix", "recipe.yaml", "--device", "here", "--out", "verdicts"),
}
_KILLS = {"build": 1, "bundle": 10, "check": 10, "matrix": 10}
"""Kills in the same folder before the command may end: a second `build` finds finished stages."""


@dataclass(frozen=True)
class Room:
    """A folder with a project, and a store, a cache and a folder for temporary files of its own."""

    folder: Path

    @property
    def store(self) -> Path:
        """The build store."""
        return self.folder / "store"

    @property
    def temporary(self) -> Path:
        """Where temporary files go."""
        return self.folder / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that name these folders."""
        names = {"EDGEQ_STORE": "store", "EDGEQ_CACHE": "cache", "TMPDIR": "tmp"}
        return {name: str(self.folder / below) for name, below in names.items()}

    def run(self, command: Sequence[str], *before: str) -> subprocess.CompletedProcess[str]:
        """The command `before` the command line of edgeq, to its end."""
        return subprocess.run(
            [*before, *_EDGEQ, *command],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def copy(self, to: Path) -> Room:
        """The same room elsewhere."""
        return Room(Path(shutil.copytree(self.folder, to)))

    def made(self) -> dict[str, bytes]:
        """Every file of an artifact, and the bundle; by name."""
        files = [*self.store.glob("artifact/*/*"), self.folder / "net.zip"]
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in files
            if path.is_file() and ".partial" not in path.parent.name
        }


def campaigns() -> list[Campaign]:
    """Kills, power cuts, disks, limits and clocks."""
    return [
        *(
            Campaign(
                f"kills of edgeq {name}",
                "equal bytes, nothing left, no orphans",
                functools.partial(_kills, name),
                short=int(name == "build"),
                long=100,
            )
            for name in COMMANDS
        ),
        _campaign("power cuts", "equal bytes, nothing stuck", _power_cut, 1, 100),
        _campaign("full disks", "status 0, 2 or 3", _full_disk, 1, 40),
        _campaign("read-only disks", "status 2 or 3", _read_only, 1, 10),
        _campaign("disks that vanish", "status 0, 2 or 3", _vanished, 0, 40),
        _campaign("few file descriptors", "status 0, 2 or 3", _few_files, 1, 60),
        _campaign("little address space", "status 0, 2, 3 or 130", _little_space, 0, 40),
        _campaign("steps of the clock", "equal bytes", _clock, 1, 40),
    ]


Attack = Callable[[random.Random, Room, Room], str]
"""What broke, in a copy (the second) of a sound room (the first)."""


def _campaign(title: str, promise: str, attack: Attack, short: int, long: int) -> Campaign:
    return Campaign(title, promise, functools.partial(_each, attack), short, long)


def _each(attack: Attack, seeds: Iterable[int], folder: Path) -> Iterator[Run]:
    sound = _sound()
    for seed in seeds:
        with _attacked(sound, folder) as room:
            begun = time.monotonic()
            broken = attack(random.Random(seed), sound, room)
            yield Run(seed, broken, time.monotonic() - begun)


@contextlib.contextmanager
def _attacked(sound: Room, folder: Path) -> Iterator[Room]:
    """A copy of a sound room, without its bundle; it is removed at the end."""
    room = sound.copy(folder / "attacked")
    (room.folder / "net.zip").unlink()
    yield room
    shutil.rmtree(room.folder, ignore_errors=True)


def _kills(name: str, seeds: Iterable[int], folder: Path) -> Iterator[Run]:
    """Kill a command again and again; then it must end well. Yields once that was seen."""
    sound = _sound()
    with _attacked(sound, folder) as room:
        whole, wanted = _cpu_seconds(name, room), room.made()
    left = iter(seeds)
    while batch := list(itertools.islice(left, _KILLS[name])):
        with _attacked(sound, folder) as room:
            begun = time.monotonic()
            broken = [_killed(name, random.Random(seed), room, whole) for seed in batch]
            broken[-1] = broken[-1] or _aftermath(name, wanted, room)
            seconds = (time.monotonic() - begun) / len(batch)
            yield from (Run(seed, what, seconds) for seed, what in zip(batch, broken, strict=True))


def _cpu_seconds(name: str, room: Room) -> float:
    """What the undisturbed command and its children take, whatever else the machine does."""
    _from_the_start(name, room)
    before = os.times()
    done = room.run(COMMANDS[name])
    assert done.returncode in (0, 4), done.stderr
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system


def _from_the_start(name: str, room: Room) -> None:
    """Have a command do all of its work."""
    if name == "build":
        shutil.rmtree(room.store, ignore_errors=True)
    shutil.rmtree(room.folder / "verdicts", ignore_errors=True)


@functools.cache
def _sound() -> Room:
    """A project that was built and bundled."""
    folder = Path(tempfile.mkdtemp(prefix="edgeq-faults-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    room = _project(folder)
    for command in ("build", "bundle"):
        done = room.run(COMMANDS[command])
        assert done.returncode == 0, done.stderr
    return room


def _project(folder: Path) -> Room:
    (folder / "tmp").mkdir()
    onnx_models.convolutional(folder / "net.onnx")
    for seed, name in enumerate(("calibration", "evaluation")):
        images = np.random.default_rng(seed).standard_normal((8, 3, 32, 32), np.float32)
        np.savez(folder / f"{name}.npz", image=images)
    (folder / "recipe.yaml").write_text(_RECIPE, encoding="utf-8")
    return Room(folder)


def _killed(name: str, chance: random.Random, room: Room, whole: float) -> str:
    """Kill a command at any moment of its work, as likely early as late."""
    while True:
        _from_the_start(name, room)
        family = Family([*_EDGEQ, *COMMANDS[name]], room.folder, **room.environment)
        moment = chance.uniform(0.0, whole)
        while family.parent.poll() is None and family.cpu_seconds() < moment:
            time.sleep(0.1)
        if family.parent.poll() is None:  # else it ended before its moment
            orphans = family.kill_parent()
            return f"outlived its parent: {orphans[0][-120:]}" if orphans else ""


def _aftermath(name: str, wanted: dict[str, bytes], room: Room) -> str:
    """What does not hold after the next start."""
    done = room.run(COMMANDS[name])
    if done.returncode not in (0, 4):
        return _ending(done)
    return _differences(wanted, room) or _left(room)


def _power_cut(chance: random.Random, sound: Room, room: Room) -> str:
    files = [p for p in sorted(room.store.rglob("*")) if p.is_file() and p.stat().st_size]
    for path in chance.sample(files, chance.randint(1, len(files))):
        size = path.stat().st_size
        kept = path.read_bytes()[: chance.choice((0, size, chance.randrange(size)))]
        path.write_bytes(bytes(size) if len(kept) == size else kept)
    done = room.run(COMMANDS["build"])
    return _ending(done) if done.returncode else _differences(_artifacts(sound), room)


def _full_disk(chance: random.Random, sound: Room, room: Room) -> str:
    size = chance.choice((8, 64, 256, 512, 1024, 2048, 4096))
    place = room.folder / chance.choice(("store", "tmp", "cache"))
    return _on_mount(room, place, f"size={size}k", allowed=(0, 2, 3))


def _read_only(chance: random.Random, sound: Room, room: Room) -> str:
    return _on_mount(room, room.store, "ro", allowed=(2, 3))


def _on_mount(room: Room, place: Path, options: str, allowed: tuple[int, ...]) -> str:
    place.mkdir(exist_ok=True)
    mount = 'mount -t tmpfs -o "$1" none "$2" || exit 99; shift 2; exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", mount, "sh", options, str(place))
    done = room.run(COMMANDS["bundle"], *before)
    if done.returncode == 99:
        raise PermissionError("no file system can be mounted here")
    return "" if done.returncode in allowed else _ending(done)


def _vanished(chance: random.Random, sound: Room, room: Room) -> str:
    shutil.rmtree(room.store / "artifact")
    process = subprocess.Popen(
        [*_EDGEQ, *COMMANDS["build"]],
        cwd=room.folder,
        env={**os.environ, **room.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    time.sleep(chance.uniform(0.5, 8.0))
    room.store.rename(room.folder / "away")
    said, _ = process.communicate(timeout=_SECONDS)
    status = process.returncode
    return "" if status in (0, 2, 3) else f"status {status}: {' '.join(said.split())[-300:]}"


def _few_files(chance: random.Random, sound: Room, room: Room) -> str:
    return _limited(f"ulimit -n {chance.randint(8, 64)}", chance, room)


def _little_space(chance: random.Random, sound: Room, room: Room) -> str:
    # OpenBLAS interrupts a process that it cannot give threads: 130.
    limit = f"ulimit -v {chance.randint(100, 4000) << 10}"
    return _limited(limit, chance, room, (*_REFUSED, 130))


def _limited(
    limit: str, chance: random.Random, room: Room, allowed: Collection[int] = _REFUSED
) -> str:
    command = COMMANDS[chance.choice(("build", "bundle"))]
    if chance.random() < 0.5:
        shutil.rmtree(room.store / "artifact")
    done = room.run(command, "sh", "-c", f'{limit}; exec "$@"', "sh")
    return "" if done.returncode in allowed else f"{limit}: {_ending(done)}"


def _clock(chance: random.Random, sound: Room, room: Room) -> str:
    shutil.rmtree(room.store)
    command = [sys.executable, "-c", _CLOCK, str(chance.randrange(10**6)), *COMMANDS["build"]]
    done = subprocess.run(
        command,
        cwd=room.folder,
        env={**os.environ, **room.environment},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    return _ending(done) if done.returncode else _differences(_artifacts(sound), room)


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    return f"status {done.returncode}: {' '.join(done.stderr.split())[-300:]}"


def _artifacts(room: Room) -> dict[str, bytes]:
    return {name: content for name, content in room.made().items() if name != "net.zip"}


def _differences(wanted: dict[str, bytes], room: Room) -> str:
    found = room.made()
    differing = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
    return f"other bytes: {', '.join(differing)[:300]}" if differing else ""


def _left(room: Room) -> str:
    left = [*room.temporary.iterdir(), *room.folder.rglob("*.partial*")]
    return f"left: {', '.join(path.name for path in left)[:300]}" if left else ""
