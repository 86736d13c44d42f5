"""Data sets: chosen the same everywhere, refused with the line that is wrong, never shared."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.core.errors import InvalidInput
from edgeq.recipe.array_sets import feeds, read_arrays
from edgeq.recipe.data_sets import content_sha256, overlap, read_corpus, read_pairs, read_texts
from edgeq.recipe.labels import read_labels

LINES = st.lists(st.text("abc é,\"'", min_size=1).filter(str.strip), min_size=1, max_size=20)


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


@given(lines=LINES, seed=st.integers(0, 9), data=st.data())
def test_samples_are_a_part_in_the_order_of_the_file(
    tmp_path_factory: Any, lines: list[str], seed: int, data: st.DataObject
) -> None:
    path = write(tmp_path_factory.mktemp("texts") / "a.txt", "\r\n\n".join(lines))
    samples = data.draw(st.integers(1, len(lines)))
    everything = read_texts(path)
    assert everything == [line.strip() for line in lines]
    chosen = read_texts(path, samples, seed)
    assert len(chosen) == samples
    rest = iter(everything)
    assert all(text in rest for text in chosen)  # consumes `rest`: an ordered part of it
    assert chosen == read_texts(path, samples, seed)


def test_the_choice_is_the_same_on_every_machine(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\n".join("abcdefghij"))
    # Written down once: a change here changes every build that takes part of a file.
    assert "".join(read_texts(path, 4)) == "dehj"


def test_pairs_with_and_without_scores(tmp_path: Path) -> None:
    scored = write(tmp_path / "a.tsv", 'sentence1\tsentence2\tscore\na "b"\tc, d\t3.5\n\ne\tf\t0\n')
    pairs = read_pairs(scored)
    assert (pairs.first, pairs.second) == (('a "b"', "e"), ("c, d", "f"))
    assert pairs.scores == (3.5, 0.0)
    assert read_texts(scored) == ['a "b"', "c, d", "e", "f"]
    plain = write(tmp_path / "b.csv", 'id,sentence2,sentence1\n1,"x, ""y""",z\n')
    assert (read_pairs(plain).first, read_pairs(plain).scores) == (("z",), None)
    assert read_pairs(plain).second == ('x, "y"',)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "a\tb\t1\n", "a.tsv:1: no column 'sentence1'"),
        ("a.tsv", "sentence1\tsentence2\nx\n", "a.tsv:2: 1 columns, and the header has 2"),
        ("a.tsv", "sentence1\tsentence2\tscore\nx\ty\tgood", "a.tsv:2: the score 'good'"),
        ("a.tsv", "sentence1\tsentence2\tscore\nx\ty\tnan", "a.tsv:2: the score 'nan'"),
        ("a.tsv", "sentence1\tsentence2\nx\t \n", "a.tsv:2: sentence2 is empty"),
        ("a.tsv", "sentence1\tsentence2\n", "contains no samples"),
        ("a.csv", 'sentence1,sentence2\n"x,y\n', "close every quote"),
        ("a.tsv", "sentence1\tsentence1\tsentence2\nx\ty\tz\n", "'sentence1' 2 times"),
        ("a.jsonl", '{"text": "a"}\n{"text": "b \\ud83d"}\n', "a.jsonl:2: contains half of"),
        ("a.txt", "\n \n", "contains no samples"),
        ("a.pdf", "x", "ends in .txt or .tsv or .csv"),
    ],
)
def test_bad_tables_and_texts(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_texts(write(tmp_path / name, text))
    assert message in str(caught.value)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_line_break_and_byte_order_mark(tmp_path: Path, line_break: str, mark: str) -> None:
    def saved(name: str, *lines: str) -> Path:
        return write(tmp_path / name, mark + line_break.join((*lines, "")))

    assert read_texts(saved("a.txt", "one", "two")) == ["one", "two"]
    assert read_texts(saved("a.csv", "text,label", '"one",x', "two,y")) == ["one", "two"]
    assert read_texts(saved("a.jsonl", '{"text": "one"}', '{"text": "\\ud83d\\ude00"}'))[1] == "😀"
    assert read_corpus(saved("a.txt", "one", "two")) == "one\ntwo\n"
    assert read_labels(saved("a.txt", "one", "form\ffeed", "")) == ("one", "form\ffeed")


def test_absent_undecodable_and_short_files(tmp_path: Path) -> None:
    path = write(tmp_path / "texts.txt", "a\nb\n")
    with pytest.raises(InvalidInput, match=r"did you mean 'texts\.txt'"):
        read_texts(tmp_path / "text.txt")
    with pytest.raises(InvalidInput, match=r"has 2 samples, 3 are requested\n +write 'samples: 2'"):
        read_texts(path, 3)
    path.write_bytes(b"a\xff")
    with pytest.raises(InvalidInput, match="byte 1: not UTF-8"):
        read_texts(path)


@given(LINES, LINES)
def test_overlap_is_what_both_have_after_folding(
    tmp_path_factory: Any, first: list[str], second: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("overlap")
    one = write(folder / "a.txt", "\n".join(first))
    other = write(folder / "b.txt", "\n".join(line.upper().replace(" ", " \t") for line in second))
    folded = {" ".join(line.casefold().split()) for line in first}
    found = overlap(one, other)
    assert {" ".join(line.casefold().split()) for line in found} == folded & {
        " ".join(line.casefold().split()) for line in second
    }
    assert len(overlap(one, one)) == len(folded)


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_arrays_are_in_this_machine_s_order_of_bytes(tmp_path: Path) -> None:
    values = np.arange(6, dtype=">f4").reshape(2, 3)
    (found,) = read_arrays(save(tmp_path / "a.npz", x=values)).values()
    assert found.dtype.isnative
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_arrays_become_feeds(tmp_path: Path) -> None:
    images = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    path = save(tmp_path / "a.npz", image=images, state=np.ones((4, 5), dtype=np.int64))
    arrays = read_arrays(path)
    batched = list(feeds(path, arrays, {"image": 3, "state": 1}))
    assert len(batched) == 4
    assert batched[2]["image"].shape == (1, 2, 3)
    assert batched[2]["state"].shape == (5,)
    np.testing.assert_array_equal(batched[2]["image"][0], images[2])
    part = read_arrays(path, samples=2)
    assert {name: array.shape for name, array in part.items()} == {
        "image": (2, 2, 3),
        "state": (2, 5),
    }


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", imag=np.ones((2, 3)), state=np.ones((2, 9)))
    with pytest.raises(InvalidInput) as caught:
        feeds(path, read_arrays(path), {"image": 4, "state": 4})
    told = str(caught.value)
    assert "no array for the input 'image'" in told
    assert "did you mean 'image'?" in told
    assert "does not fit an input of rank 4" in told
    uneven = save(tmp_path / "b.npz", x=np.ones((2, 3)), y=np.ones((3, 3)))
    with pytest.raises(InvalidInput, match=r"do not match: x \(2, 3\), y \(3, 3\)"):
        read_arrays(uneven)


def test_archives_that_are_refused(tmp_path: Path) -> None:
    pickled = save(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    locked = bytearray(save(tmp_path / "d.npz", x=np.ones(3)).read_bytes())
    for entry, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        locked[locked.index(entry) + flags] |= 1
    (tmp_path / "d.npz").write_bytes(locked)
    with pytest.raises(InvalidInput, match=r"not a readable \.npz: .* is encrypted"):
        read_arrays(tmp_path / "d.npz")
    with pytest.raises(InvalidInput, match=r"not a readable \.npz"):
        read_arrays(pickled)
    with pytest.raises(InvalidInput, match="not a zip file"):
        read_arrays(write(tmp_path / "b.npz", "x"))
    with pytest.raises(InvalidInput, match="no such file"):
        read_arrays(tmp_path / "c.npz")


def test_overlap_of_arrays_compares_whole_samples(tmp_path: Path) -> None:
    one = save(tmp_path / "a.npz", x=np.array([[1, 2], [3, 4]]), y=np.array([0, 1]))
    other = save(tmp_path / "b.npz", x=np.array([[3, 4], [3, 4]]), y=np.array([0, 1]))
    assert overlap(one, other) == ["sample 1"]


def test_a_file_that_may_not_be_read_is_not_called_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.npz", x=np.ones(3))

    def forbidden(*_: Any, **__: Any) -> Any:  # root may read everything
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(InvalidInput, match=r"a\.npz: cannot be read: Permission denied\n +check"):
        read_arrays(path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are always text")
def test_a_file_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a\udcff.png", "x")
    with pytest.raises(InvalidInput, match="is not UTF-8"):
        content_sha256(tmp_path)
