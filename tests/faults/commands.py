"""Commands that are killed, or whose disk, memory, files or clock are not what they expect."""

from __future__ import annotations

import atexit
import functools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.campaign import Campaign, Run
from tests.support import onnx_models
from tests.support.families import Family

_EDGEQ = [sys.executable, "-c", "from edgeq.cli.main import main; main()"]
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
quantize: {default: [int8-dynamic, int8-static]}
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
_BUILT_BEFORE = ("bundle", "check", "matrix")


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
                functools.partial(_each, functools.partial(_killed, name), name in _BUILT_BEFORE),
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
        _campaign("little address space", "status 0, 2 or 3", _little_space, 0, 40),
        _campaign("steps of the clock", "equal bytes", _clock, 1, 40),
    ]


Attack = Callable[[random.Random, Room, Room], str]
"""What broke, in a copy (the second) of a sound room (the first)."""


def _campaign(title: str, promise: str, attack: Attack, short: int, long: int) -> Campaign:
    return Campaign(title, promise, functools.partial(_each, attack, True), short, long)


def _each(attack: Attack, built: bool, seeds: Iterable[int], folder: Path) -> Iterator[Run]:
    sound = _sound()
    for seed in seeds:
        room, begun = sound.copy(folder / "attacked"), time.monotonic()
        (room.folder / "net.zip").unlink()
        if not built:
            shutil.rmtree(room.store)
        broken = attack(random.Random(seed), sound, room)
        yield Run(seed, broken, time.monotonic() - begun)
        shutil.rmtree(room.folder, ignore_errors=True)


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


def _killed(name: str, chance: random.Random, sound: Room, room: Room) -> str:
    family = Family([*_EDGEQ, *COMMANDS[name]], room.folder, **room.environment)
    time.sleep(chance.uniform(0.2, 12.0))
    orphans = family.kill_parent()
    if orphans:
        return f"outlived its parent: {orphans[0][-120:]}"
    done = room.run(COMMANDS[name])
    if done.returncode not in (0, 4):
        return _ending(done)
    return _differences(sound, room) or _left(room)


def _power_cut(chance: random.Random, sound: Room, room: Room) -> str:
    files = [p for p in sorted(room.store.rglob("*")) if p.is_file() and p.stat().st_size]
    for path in chance.sample(files, chance.randint(1, len(files))):
        size = path.stat().st_size
        kept = path.read_bytes()[: chance.choice((0, size, chance.randrange(size)))]
        path.write_bytes(bytes(size) if len(kept) == size else kept)
    done = room.run(COMMANDS["build"])
    return _ending(done) if done.returncode else _differences(sound, room)


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
    return _limited(f"ulimit -v {chance.randint(100, 4000) << 10}", chance, room)


def _limited(limit: str, chance: random.Random, room: Room) -> str:
    command = COMMANDS[chance.choice(("build", "bundle"))]
    if chance.random() < 0.5:
        shutil.rmtree(room.store / "artifact")
    done = room.run(command, "sh", "-c", f'{limit}; exec "$@"', "sh")
    return "" if done.returncode in _REFUSED else f"{limit}: {_ending(done)}"


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
    return _ending(done) if done.returncode else _differences(sound, room)


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    return f"status {done.returncode}: {' '.join(done.stderr.split())[-300:]}"


def _differences(sound: Room, room: Room) -> str:
    wanted, found = sound.made(), room.made()
    if "net.zip" not in found:
        wanted.pop("net.zip")
    differing = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
    return f"other bytes: {', '.join(differing)[:300]}" if differing else ""


def _left(room: Room) -> str:
    left = [*room.temporary.iterdir(), *room.store.rglob("*.partial*")]
    return f"left: {', '.join(path.name for path in left)[:300]}" if left else ""
