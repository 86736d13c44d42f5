from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.core import canonical
from edgeq.core.errors import InvalidInput, Missing
from edgeq.core.store import MANIFEST, Store, code_version, default_root

REPOSITORY = Path(__file__).parents[2]

# A stage of three files, written slowly enough to be killed in the middle of each.
WORKER = """
import sys, time
from pathlib import Path
from edgeq.core.store import Store

root, log = map(Path, sys.argv[1:])

def make(directory):
    with log.open("a") as file:
        file.write("made\\n")
    for index in range(3):
        with (directory / f"part-{index}").open("wb") as file:
            for piece in range(8):
                file.write(bytes([index, piece]) * 20_000)
                file.flush()
                time.sleep(0.002)

print(Store(root, version="1").stage("slow", {"seed": 1}, make))
"""


def start(root: Path, log: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(root), str(log)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def finish(process: subprocess.Popen[str]) -> Path:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return Path(output.strip())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def write_one(directory: Path) -> None:
    directory.joinpath("one").write_bytes(b"1")


def must_not_run(directory: Path) -> None:
    raise AssertionError("made again")


def test_a_result_is_made_once_and_found_by_all_that_went_in(tmp_path: Path) -> None:
    store = Store(tmp_path, version="1")
    assert store.find("a", {"x": 1}) is None
    place = store.stage("a", {"x": 1}, write_one, describe="a one")
    assert store.stage("a", {"x": 1}, must_not_run) == place
    assert store.find("a", {"x": 1}) == place
    assert store.find("a", {"x": 2}) is None
    assert store.find("b", {"x": 1}) is None
    assert Store(tmp_path, version="2").find("a", {"x": 1}) is None
    assert len(place.name) == 64


def test_what_lies_in_the_store_stays_out_of_git(tmp_path: Path) -> None:
    Store(tmp_path / "new", version="1").stage("a", {}, write_one)
    assert (tmp_path / "new" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_stage_that_raises_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail(directory: Path) -> None:
        write_one(directory)
        raise error

    store = Store(tmp_path, version="1")
    with pytest.raises(error):
        store.stage("a", {}, fail)
    assert [path for path in (tmp_path / "a").iterdir() if path.is_dir()] == []
    assert store.stage("a", {}, write_one).joinpath("one").read_bytes() == b"1"


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    def fill(directory: Path) -> None:
        write_one(directory)
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"1")

    with pytest.raises(Missing, match="disk is full"):
        Store(tmp_path, version="1").stage("a", {}, fill)
    assert [path for path in (tmp_path / "a").iterdir() if path.is_dir()] == []


def test_a_root_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InvalidInput, match="EDGEQ_STORE"):
        Store(file / "store", version="1").stage("a", {}, write_one)


def damage_by_removal(path: Path) -> None:
    path.unlink()


def damage_by_truncation(path: Path) -> None:
    path.write_bytes(b"")


def damage_by_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("name", ["one", MANIFEST])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("damage", [damage_by_removal, damage_by_truncation, damage_by_zeros])
def test_a_damaged_result_is_made_again(
    tmp_path: Path, name: str, fresh: bool, damage: Callable[[Path], None]
) -> None:
    store = Store(tmp_path, version="1")
    place = store.stage("a", {}, write_one)
    before = contents(place)
    assert store.find("a", {}) == place
    damage(place / name)
    if fresh:
        store = Store(tmp_path, version="1")
    assert store.find("a", {}) is None
    assert store.stage("a", {}, write_one) == place
    assert contents(place) == before


def test_a_file_in_the_place_of_a_result_gives_way(tmp_path: Path) -> None:
    store = Store(tmp_path, version="1")
    place = store.place("a", {})
    place.parent.mkdir(parents=True)
    for name in (place, place.with_suffix(".partial")):
        name.write_bytes(b"")
    assert contents(store.stage("a", {}, write_one))["one"] == b"1"


def test_bytes_are_compared_once_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Store(tmp_path, version="1").stage("a", {}, write_one)
    hashed = []

    def count(path: Path) -> str:
        hashed.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(canonical, "sha256_of_file", count)
    store = Store(tmp_path, version="1")
    assert [store.stage("a", {}, must_not_run) for _ in range(3)] == [place] * 3
    assert hashed == ["one"]


def test_two_processes_get_one_result_made_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start(tmp_path / "store", log) for _ in range(3)]
    places = {finish(process) for process in processes}
    assert len(places) == 1
    assert log.read_text() == "made\n"
    assert set(contents(places.pop())) == {"part-0", "part-1", "part-2", MANIFEST}


def test_killed_anywhere_the_next_build_ends_in_the_same_bytes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    expected = contents(finish(start(tmp_path / "undisturbed", log)))
    chance = random.Random(0)
    killed_while_making = 0
    for attempt in range(8):
        root = tmp_path / f"store-{attempt}"
        log.unlink(missing_ok=True)
        process = start(root, log)
        while not log.exists():  # it has begun to make the stage
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.06))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        killed_while_making += process.returncode == -signal.SIGKILL
        place = finish(start(root, log))
        assert contents(place) == expected
        assert [path for path in place.parent.iterdir() if path.is_dir()] == [place]
    assert killed_while_making > 0


def test_the_code_version_covers_what_makes_results(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "edgeq", tmp_path / "edgeq")

    def version() -> str:
        program = "from edgeq.core.store import code_version; print(code_version())"
        return subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)

    assert version().strip() == code_version()
    audit = tmp_path / "edgeq" / "pipeline" / "audit"
    audit.rename(tmp_path / "edgeq" / "report" / "audited")
    (tmp_path / "edgeq" / "cli" / "more.py").write_text("# changes what is printed\n")
    assert version().strip() == code_version()
    (tmp_path / "edgeq" / "core" / "canonical.py").open("a").write("# changes hashes\n")
    assert version().strip() != code_version()


def test_the_root_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_STORE", os.sep + "elsewhere")
    assert default_root() == Path(os.sep, "elsewhere")
    monkeypatch.setenv("EDGEQ_STORE", "~/elsewhere")
    assert default_root() == Path.home() / "elsewhere"
    monkeypatch.delenv("EDGEQ_STORE")
    monkeypatch.chdir(tmp_path)
    assert default_root() == Path(".edgeq")


def test_the_root_is_the_nearest_store_upwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEQ_STORE", raising=False)
    (tmp_path / "project" / "recipes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / "recipes")
    assert default_root() == Path(".edgeq")
    (tmp_path / "project" / ".edgeq").mkdir()
    assert default_root() == tmp_path / "project" / ".edgeq"
    (tmp_path / "project" / "recipes" / ".edgeq").mkdir()
    assert default_root() == Path(".edgeq")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_a_store_of_another_user_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEQ_STORE", raising=False)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    (tmp_path / ".edgeq").mkdir()
    os.chown(tmp_path / ".edgeq", 12345, -1)
    assert default_root() == Path(".edgeq")
