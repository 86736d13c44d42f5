"""Real processes under real limits; nothing may be left of any group afterwards."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

from edgeq.core.artifact import DATA_FILE, MODEL_FILE, read_record, record_files, write_artifact
from edgeq.core.errors import Missing
from edgeq.core.units import MIB
from edgeq.places.limits import control_groups, page_cache
from edgeq.places.limits.control_groups import Group, parse_kills
from edgeq.places.limits.run import (
    ActiveLimit,
    DataLimiter,
    GroupLimiter,
    LimitedPlace,
    Limiter,
    OverLimit,
    Usage,
    available,
)
from edgeq.places.place import Here
from edgeq.places.process import Request
from tests.measure.test_worker import kill_next_child
from tests.support import samples

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")
FOUND = available()
groups = pytest.mark.skipif(
    not isinstance(FOUND, GroupLimiter),
    reason=FOUND if isinstance(FOUND, str) else "no control group can be made here",
)


def left_behind() -> list[Path]:
    """Groups that this process made and that are still there."""
    pattern = f"edgeq-{os.getpid()}-*"
    return [path for _, parent in control_groups.parents() for path in parent.glob(pattern)]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert left_behind() == []


@pytest.fixture
def limiter() -> Limiter:
    assert isinstance(FOUND, Limiter)
    return FOUND


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 MiB of weights beside the graph, which onnxruntime maps."""
    folder = tmp_path_factory.mktemp("mapped") / "artifact"
    return samples.tensor_artifact(folder, width=1024, deeper=9)


@pytest.fixture(scope="module")
def anonymous(mapped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights inside the graph, which onnxruntime copies."""
    folder = tmp_path_factory.mktemp("anonymous")
    onnx.save(onnx.load(mapped / MODEL_FILE), folder / MODEL_FILE)
    files = record_files(folder, [MODEL_FILE])
    write_artifact(folder, read_record(mapped).model_copy(update={"files": files}))
    return folder


def is_at_work(process: int) -> bool:
    """Whether a process is there and no zombie, which nobody may have waited for yet."""
    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def hold(size: int) -> list[str]:
    """A command that takes `size` bytes."""
    return [sys.executable, "-S", "-c", f"held = b'x' * {size}"]


@groups
@pytest.mark.parametrize("size", [24 * MIB, 96 * MIB, 300 * MIB])
def test_a_process_lives_above_its_need_and_dies_below(size: int, limiter: Limiter) -> None:
    ends = {}
    for limit in (size - 4 * MIB, size + 16 * MIB):
        with limiter.hold(limit) as held:
            ends[limit] = subprocess.run([*held.prefix, *hold(size)]).returncode
            peak, kills = held.taken()
            assert peak is None or peak <= limit
            assert kills == (ends[limit] != 0)
    assert list(ends.values()) == [-signal.SIGKILL, 0]


@groups
def test_what_still_runs_in_a_group_ends_with_it(limiter: Limiter) -> None:
    with limiter.hold(64 * MIB) as held:
        # The child of a child, which nobody waits for.
        command = [*held.prefix, "/bin/sh", "-c", "sleep 600 >&2 & echo $!"]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
        assert is_at_work(int(said))
    assert not is_at_work(int(said))


@groups
def test_a_group_of_a_killed_process_is_removed_by_the_next(limiter: Limiter) -> None:
    program = (
        "import os, signal\n"
        "from edgeq.places.limits.run import available\n"
        "with available().hold(64 << 20) as held:\n"
        "    print(held.prefix[-1], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    )
    stale = Path(ended.stdout.strip()).parent
    assert stale.exists()
    with limiter.hold(64 * MIB):
        own = left_behind()
        control_groups.remove_stale()
        assert not stale.exists()
        assert left_behind() == own != []


@groups
def test_swap_does_not_help(limiter: Limiter) -> None:
    assert isinstance(limiter, GroupLimiter)
    [version, parent] = next(control_groups.parents())
    with Group(version, parent, 64 * MIB) as group:
        swap = {1: "memory.memsw.limit_in_bytes", 2: "memory.swap.max"}[version]
        if not (group.path / swap).exists():
            pytest.skip("this kernel does not count swap")
        assert int((group.path / swap).read_text()) == {1: 64 * MIB, 2: 0}[version]


@groups
def test_anonymous_weights_live_above_their_need_and_die_below(
    anonymous: Path, limiter: Limiter
) -> None:
    request = Request(work="memory", artifact=anonymous)
    free = Here().run(request)
    weights = (anonymous / MODEL_FILE).stat().st_size
    held = free["ran"]["anonymous_bytes"]
    assert held > weights
    # Loading copies several weights at once, now more and now fewer: one more copy of all is ample.
    reply, usage = LimitedPlace(held + weights + 24 * MIB, limiter).watch(request)
    assert reply["ran"]["anonymous_bytes"] > weights
    assert usage.kills == 0
    limit = held - 4 * MIB
    with pytest.raises(OverLimit, match=rf"limit of {limit / MIB:.1f} MiB.*SIGKILL") as raised:
        LimitedPlace(limit, limiter).run(request)
    assert raised.value.usage.kills == 1
    assert not raised.value.stopped


@groups
def test_mapped_weights_thrash_instead_of_failing(mapped: Path, limiter: Limiter) -> None:
    weights = (mapped / DATA_FILE).stat().st_size
    request = Request(work="latency", artifact=mapped)
    free = Here().run(request.model_copy(update={"work": "memory"}))
    room = free["anonymous_peak_bytes"] + 8 * MIB
    scarce, usage = LimitedPlace(room + weights // 3, limiter).watch(request)
    assert usage == Usage(usage.peak_bytes, 0, 0)
    assert usage.peak_bytes is None or usage.peak_bytes >= room
    ample, usage = LimitedPlace(room + weights + 8 * MIB, limiter).watch(request)
    assert usage == Usage(usage.peak_bytes, 0, 0)
    # Pages of the disk against pages in memory: a hundred times as long was seen, not a half.
    assert np.median(scarce["seconds"]) > 1.5 * np.median(ample["seconds"])


@groups
def test_only_what_was_dropped_is_charged(
    mapped: Path, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = (mapped / DATA_FILE).stat().st_size
    request = Request(work="memory", artifact=mapped)
    place = LimitedPlace(1024 * MIB, limiter)
    Here().run(request)
    cold = place.watch(request)[1].peak_bytes
    if cold is None:
        pytest.skip("this kernel keeps no peak")
    monkeypatch.setattr(page_cache, "drop", lambda files: 0)
    Here().run(request)
    warm = place.watch(request)[1].peak_bytes
    assert warm is not None
    assert cold - warm > 0.9 * weights


@linux
def test_a_file_that_is_mapped_elsewhere_stays_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * MIB + 1))
    (tmp_path / "empty").touch()
    if page_cache.drop([path]):
        pytest.skip("the temporary directory is in memory")
    path.read_bytes()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        assert np.frombuffer(mapping, np.uint8).any()
        assert page_cache.drop([path]) >= 3 * MIB
    missing = [tmp_path / "none", tmp_path / "empty", tmp_path]
    assert page_cache.drop([path, *missing]) == 0


@groups
def test_a_worker_that_somebody_kills_is_told_from_one_over_the_limit(
    mapped: Path, limiter: Limiter
) -> None:
    before = {child.pid for child in psutil.Process().children()}
    killer = threading.Thread(target=kill_next_child, args=(before,))
    killer.start()
    with pytest.raises((OverLimit, Missing)) as raised:
        LimitedPlace(1024 * MIB, limiter).run(Request(work="memory", artifact=mapped))
    killer.join()
    # Missing, if it was killed so early that it had not joined yet.
    if isinstance(raised.value, OverLimit):
        assert raised.value.usage.kills == 0


@groups
def test_a_pass_that_takes_too_long_is_stopped(mapped: Path, limiter: Limiter) -> None:
    place = LimitedPlace(1024 * MIB, limiter)
    with pytest.raises(OverLimit, match=r"did not finish within 0\.2 s") as raised:
        place.run(Request(work="latency", artifact=mapped, effort="full"), timeout_seconds=0.2)
    assert raised.value.stopped


class _Aside(Limiter):
    """Makes a group, and lets nothing join it."""

    mechanism = "cgroup v1"

    @contextlib.contextmanager
    def hold(self, limit_bytes: int) -> Iterator[ActiveLimit]:
        version, parent = next(control_groups.parents())
        with Group(version, parent, limit_bytes) as group:
            yield _HeldAside(group)

    def _ended_it(self, held: ActiveLimit, said: str) -> bool:
        return held.taken()[1] > 0


class _HeldAside:
    prefix = ("/bin/sh", "-c", "exit 1")

    def __init__(self, group: Group) -> None:
        self._group = group

    def taken(self) -> tuple[int | None, int]:
        return self._group.peak_bytes(), self._group.kills()


@groups
def test_a_limit_that_nothing_joins_is_no_limit(mapped: Path) -> None:
    assert not _Aside().bites()
    with pytest.raises(Missing, match="could not join"):
        LimitedPlace(64 * MIB, _Aside()).run(Request(work="memory", artifact=mapped))


@linux
def test_the_data_limit_is_a_coarse_one(anonymous: Path) -> None:
    limiter = DataLimiter()
    if not limiter.bites():
        pytest.skip("RLIMIT_DATA has no effect here")
    request = Request(work="memory", artifact=anonymous)
    need = Here().run(request)["ran"]["anonymous_bytes"]
    reply, usage = LimitedPlace(2048 * MIB, limiter).watch(request)
    assert reply["runs"] > 0
    assert usage.peak_bytes is None
    # It counts at least what was touched, so below that nothing survives; some libraries ask for
    # memory again and again.
    with pytest.raises(OverLimit, match="RLIMIT_DATA"):
        LimitedPlace(need - 4 * MIB, limiter).run(request, timeout_seconds=8)


@linux
def test_available_is_a_mechanism_that_bites_or_a_reason() -> None:
    if isinstance(FOUND, str):
        assert FOUND
        with pytest.raises(Missing, match=FOUND):
            LimitedPlace(64 * MIB)
    else:
        assert FOUND.bites()
        assert FOUND.mechanism in LimitedPlace(64 * MIB).name


def test_kills_are_read_of_both_versions() -> None:
    assert parse_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n") == 3
    assert parse_kills("low 0\nhigh 0\nmax 41\noom 2\noom_kill 1\noom_group_kill 0\n") == 1
    assert parse_kills("oom_kill_disable 0\nunder_oom 0\n") == 0


@linux
def test_a_process_is_named_by_its_id_and_its_start() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    began = int(psutil.Process(child.pid).create_time())
    assert control_groups.is_alive(child.pid, began)
    assert not control_groups.is_alive(child.pid, began - 60)
    child.communicate(b"\n")
    assert not control_groups.is_alive(child.pid, began)
