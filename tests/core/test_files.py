"""Files that are written whole or not at all, whatever ends the writer."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.core import files
from edgeq.core.errors import EdgeqError, InvalidInput, Missing

posix_only = pytest.mark.skipif(os.name != "posix", reason="has no such files")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_body_that_fails_leaves_what_was_there(tmp_path: Path, before: bytes | None) -> None:
    place = tmp_path / "out.npz"
    if before is not None:
        place.write_bytes(before)
    with pytest.raises(ZeroDivisionError), files.replacing(place) as partial:
        partial.write_bytes(b"half")
        raise ZeroDivisionError
    assert names(tmp_path) == ([] if before is None else ["out.npz"])
    assert before is None or place.read_bytes() == before


def test_a_directory_takes_the_place_of_another(tmp_path: Path) -> None:
    place = tmp_path / "model"
    for content in ("a", "b"):
        with files.replacing(place) as partial:
            partial.mkdir()
            (partial / content).touch()
        assert names(place) == [content]
    assert names(tmp_path) == ["model"]


def test_a_link_is_followed_and_two_writers_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "far" / "file")
    with files.replacing(link) as first, files.replacing(link) as second:
        assert first != second
        first.write_bytes(b"1")
        second.write_bytes(b"2")
    assert link.is_symlink()
    assert link.read_bytes() == b"1"
    assert names(tmp_path / "far") == ["file"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    place = tmp_path / "out.json"
    code = (
        "import os, sys; from pathlib import Path; from edgeq.core.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(place)], check=False)
    (tmp_path / ".out.json.mine.partial").touch()
    assert len(names(tmp_path)) == 2
    files.write_text(place, "whole")
    assert names(tmp_path) == [".out.json.mine.partial", "out.json"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, Missing), (errno.EDQUOT, Missing), (errno.EACCES, InvalidInput)],
)
def test_the_disk_s_errors_are_shown_as_such(
    tmp_path: Path, number: int, kind: type[EdgeqError]
) -> None:
    with pytest.raises(kind, match="cannot be written"), files.replacing(tmp_path / "a") as partial:
        partial.touch()
        raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []


def test_an_error_of_another_file_is_not_blamed_on_this_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "a"):
        (tmp_path / "other").read_bytes()


@posix_only
def test_what_is_no_file_is_neither_written_nor_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the address of a socket is short
        listening.bind("socket")
        for path in (tmp_path, tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero")):
            with pytest.raises(InvalidInput, match=r"is a (directory|named pipe|socket|device)"):
                files.writable(path, "--out")
            with pytest.raises(InvalidInput, match=r"is a (directory|named pipe|socket|device)"):
                files.read_bytes(path, 10, "shorten it")


def test_a_name_says_what_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"does not end in \.zip") as error:
        files.writable(tmp_path / "out.tar", "--out", ".zip")
    assert error.value.problems[0].remedy == f"write: --out {tmp_path / 'out.zip'}"
    files.writable(tmp_path / "out.ZIP", "--out", ".zip")
    assert names(tmp_path) == []


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "no" / "out", tmp_path / "file" / "out", tmp_path / ("x" * 300)):
        with pytest.raises(InvalidInput):
            files.writable(path, "--out")
    files.writable(tmp_path / ("x" * 250), "--out")
    files.writable(tmp_path / "file", "--out")
    assert names(tmp_path) == ["file"]


def test_a_long_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "long").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InvalidInput, match=r"is larger than 1.0 MiB\n +cut it"):
        files.read_bytes(tmp_path / "long", 1 << 20, "cut it")
