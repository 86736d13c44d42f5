"""Records of verdicts: taken again where they were made from the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.core.errors import InvalidInput
from edgeq.pipeline.matrix.records import Records
from edgeq.places.place import ALL_PASSES
from tests.support.verdicts import measurement, verdict


def test_a_record_is_found_again_by_what_it_was_made_from(tmp_path: Path) -> None:
    records, found = Records(tmp_path / "out"), verdict({"size": {"download": "30 MiB"}})
    place = ("search", found.artifact, found.device)
    assert records.find(*place, "key") is None
    records.write("search", "key", found)
    assert records.find(*place, "key") == found
    assert records.find(*place, "another") is None
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    path.write_bytes(path.read_bytes()[:-100])
    assert records.find(*place, "key") is None


def test_what_could_not_be_run_is_tried_again(tmp_path: Path) -> None:
    lost = measurement(
        memory=None, latency=None, quality=None, absent=dict.fromkeys(ALL_PASSES, "cut")
    )
    found = verdict({"quality": {"cosine": 0.9}}, measured=lost)
    records = Records(tmp_path)
    records.write("search", "key", found)
    assert records.find("search", found.artifact, found.device, "key") is None
    # An emulated place gives answers alone, and has given them.
    emulated = lost.model_copy(update={"absent": {"memory": "no", "latency": "no"}})
    records.write("search", "key", verdict({"quality": {"cosine": 0.9}}, measured=emulated))
    assert records.find("search", found.artifact, found.device, "key") is not None


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "search").write_text("a file where a folder should be")
    with pytest.raises(InvalidInput, match="--out"):
        Records(tmp_path).write("search", "key", verdict({"size": {"download": "30 MiB"}}))


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = verdict({"size": {"download": "30 MiB"}})
    Records(None).write("search", "key", found)
    assert Records(None).find("search", found.artifact, found.device, "key") is None
    assert list(tmp_path.iterdir()) == []
