"""Several models on one page, by what one wants to know first."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from edgeq.core.errors import InvalidInput
from edgeq.report.page.first_screen import first_screen
from tests.support import report_samples as samples

pytest.importorskip("vl_convert", reason="the extra [report] is not installed")

from edgeq.report.page.write import write_page, write_several


def quiet(step: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def pages(tmp_path: Path) -> list[Path]:
    """Pages of a language model and of an encoder with a hostile name, in a folder of their own."""
    folder = tmp_path / "the pages"
    folder.mkdir()
    made = {"wren.html": samples.report(), "b:c.html": samples.encoder_report()}
    made["b:c.html"] = made["b:c.html"].model_copy(update={"name": samples.HOSTILE})
    for name, report in made.items():
        write_page(report, folder / name)
    return [folder / name for name in made]


def test_each_model_shows_its_first_screen_and_leads_to_its_page(
    pages: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "both.html"
    found = write_several(pages, out, [], False, quiet)
    text = html.unescape(out.read_text(encoding="utf-8"))
    for report in found:
        first = first_screen(report)
        assert first is not None
        assert f">{report.name}</h2>" in text and first.what in text and first.where in text
        assert all(f"<strong>{tile.figure}</strong> {tile.words}" in text for tile in first.tiles)
    assert 'href="the%20pages/wren.html"' in text and 'href="the%20pages/b%3Ac.html"' in text


def test_a_hostile_name_stays_text(pages: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "both.html"
    write_several(pages, out, [], False, quiet)
    text = out.read_text(encoding="utf-8")
    assert (
        html.escape(samples.HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    )
    assert samples.HOSTILE not in text and "<script" not in text


def test_no_page_is_overwritten(pages: list[Path]) -> None:
    before = pages[0].read_bytes()
    with pytest.raises(InvalidInput, match="is one of the pages to show"):
        write_several(pages, pages[0], [], False, quiet)
    assert pages[0].read_bytes() == before
