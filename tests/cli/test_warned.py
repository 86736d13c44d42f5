"""Warnings of edgeq's own are notes for a person; those of libraries stay as they are."""

from __future__ import annotations

import warnings

import pytest

from edgeq.cli.warned import notes_for_warnings
from edgeq.core.errors import LoadedOtherwise


def test_a_note_has_no_line_of_code(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        notes_for_warnings()
        warnings.warn("x.zip: loaded without a copy", LoadedOtherwise, stacklevel=1)
        with pytest.warns(UserWarning, match="of a library"):
            warnings.warn("of a library", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "  note: x.zip: loaded without a copy\n"
