"""The page of a report in a real browser: it asks for nothing, draws its charts, takes keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import report_samples as samples
from tests.support.browser import Browser, browser, needs_browser

pytest.importorskip("vl_convert", reason="the extra [report] is not installed")
pytestmark = needs_browser
TAB, ENTER, ESCAPE = "\ue004", "\ue007", "\ue00c"
PHONE, DESKTOP = 390, 1280


@pytest.fixture(scope="module")
def shown() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from edgeq.report.page.write import write_page

    folder = tmp_path_factory.mktemp("pages")
    hostile = samples.report(name=samples.HOSTILE, recipe=samples.HOSTILE)
    made = {
        "language": samples.report(),
        "encoder": samples.encoder_report(),
        "hostile": hostile,
        "allocated": samples.allocated_report(),
    }
    for name, report in made.items():
        write_page(report, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in made}


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [
        ("language", PHONE, False),
        ("language", PHONE, True),
        ("language", DESKTOP, False),
        ("language", DESKTOP, True),
        ("encoder", PHONE, False),
        ("allocated", PHONE, False),
        ("allocated", DESKTOP, True),
        ("hostile", PHONE, True),
    ],
)
def test_the_page_is_quiet_and_fits(
    shown: Browser, pages: dict[str, Path], tmp_path: Path, width: int, dark: bool, name: str
) -> None:
    shown.open(pages[name], width=width, dark=dark)
    shown.picture(tmp_path / "page.png")  # drawn whole, and there to be looked at
    assert shown.messages() == []
    assert shown.requests() == [pages[name].as_uri()]
    assert shown.run("document.documentElement.scrollWidth") == width  # nothing sticks out
    assert shown.run("window.hurt === undefined")
    charts = shown.run("document.querySelectorAll('.chart').length")
    assert charts > 2
    assert charts == shown.run("document.querySelectorAll('.chart > svg, .chart > * > svg').length")
    background = shown.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 300) == dark


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_several_models_fit(
    shown: Browser, pages: dict[str, Path], tmp_path: Path, width: int
) -> None:
    from edgeq.report.page.write import write_several

    out = tmp_path / "several.html"
    write_several([pages["language"], pages["encoder"]], out, [], False, lambda step: None)
    shown.go(out.as_uri(), width=width)
    assert shown.messages() == [] and shown.requests() == [out.as_uri()]
    assert shown.run("document.documentElement.scrollWidth") == width
    one, other = shown.run(
        "[...document.querySelectorAll('section')].map(s => s.getBoundingClientRect().top)"
    )
    assert (one == other) == (width == DESKTOP)  # side by side where there is room


def test_charts_hold_what_was_measured(shown: Browser, pages: dict[str, Path]) -> None:
    shown.open(pages["language"])
    data = shown.wait(
        "edgeqCharts.then(c => Object.fromEntries("
        "Object.entries(c).map(([id, v]) => [id, v.data('table')])))"
    )
    report = samples.report()
    for measured, baseline in report.measurements():
        assert measured.generation is not None
        assert baseline.generation is not None
        for kind, seen in (("quantized", measured), ("full precision", baseline)):
            counted = sum(
                v["count"]
                for v in data["time-token"]
                if (v["row"], v["kind"]) == (measured.artifact, kind)
            )
            assert seen.generation is not None
            assert counted == len(seen.generation.token_seconds)
        (point,) = (v for v in data["frontier"] if v["name"] == measured.artifact)
        assert measured.language is not None
        assert point["loss"] == measured.language.divergence.kl.mean
        assert point["mib"] * 2**20 == measured.download_bytes
        assert measured.memory is not None
        bars = [v for v in data["memory-here"] if v["row"].startswith(f"{measured.artifact} ")]
        assert max(v["end"] for v in bars) * 2**20 == measured.memory.high_water_bytes
    shown_tensors = data["tensors"]
    assert {v["bits"] for v in shown_tensors if v["kind"] == "q_proj"} == {"8", "4"}


def test_sensitivities_and_the_frontier_are_drawn(shown: Browser, pages: dict[str, Path]) -> None:
    """Read back from the drawing: the larger a loss the larger its square, rings are ours."""
    shown.open(pages["allocated"])
    shown.run(
        "(() => { const s = document.querySelector('#tensors-controls select');"
        "s.value = 'gguf-fit-4.5mib'; s.dispatchEvent(new Event('change')) })()"
    )
    shown.wait("edgeqCharts.then(c => c.tensors.runAsync()).then(() => 0)")
    drawn = shown.run(
        "[...document.querySelectorAll('#tensors .mark-symbol.role-mark path')].map(p =>"
        "[p.__data__.datum.tensor, p.getBBox().width])"
    )
    losses = samples.allocated_report().artifact("gguf-fit-4.5mib").losses
    assert {name for name, _ in drawn} == set(losses)
    ordered = sorted(drawn, key=lambda pair: losses[pair[0]].loss)
    assert [width for _, width in ordered] == sorted(width for _, width in drawn)
    assert ordered[-1][1] > 1.5 * ordered[0][1]
    points = shown.wait("edgeqCharts.then(c => c.frontier.data('table'))")
    report = samples.allocated_report()
    assert report.frontier is not None
    assert {p.loss for p in report.frontier.points} < {point["loss"] for point in points}
    rings = shown.run(
        "[...document.querySelectorAll('#frontier .mark-symbol.role-mark path')].filter(p =>"
        "getComputedStyle(p).stroke !== 'none').length"
    )
    assert rings == len(report.measurements())


def test_hills_stand_where_their_values_are(shown: Browser, pages: dict[str, Path]) -> None:
    """Read back from the drawing itself: the widest bar of memory ends at its scale's place."""
    shown.open(pages["language"])
    drawn = shown.wait(
        "edgeqCharts.then(c => { const v = c['memory-here'];"
        "const x = v.scale('x'); const end = Math.max(...v.data('table').map(d => d.end));"
        "const bars = [...document.querySelectorAll('#memory-here .mark-rect path')]"
        ".map(p => p.getBoundingClientRect().right);"
        "const left = document.querySelector('#memory-here .mark-rect path')"
        ".getBoundingClientRect().left; return [x(end) - x(0), Math.max(...bars) - left] })"
    )
    assert drawn[0] == pytest.approx(drawn[1], abs=1.5)


@pytest.mark.parametrize("page", ["language", "allocated"])
def test_every_text_of_a_chart_is_within_it(
    shown: Browser, pages: dict[str, Path], page: str
) -> None:
    for width in (PHONE, DESKTOP):
        shown.open(pages[page], width=width)
        assert shown.run("document.querySelectorAll('.chart svg text').length") > 50
        cut = shown.run(
            "[...document.querySelectorAll('.chart')].flatMap(c => {"
            "const box = c.getBoundingClientRect();"
            "return [...c.querySelectorAll('svg text')].filter(t => {"
            "const own = t.getBoundingClientRect();"
            "return own.width && (own.left < box.left - 1 || own.right > box.right + 1"
            " || own.top < box.top - 1 || own.bottom > box.bottom + 1) })"
            ".map(t => `${c.id}: ${t.textContent}`) })"
        )
        assert cut == []


def test_the_page_can_be_gone_through_by_keys(shown: Browser, pages: dict[str, Path]) -> None:
    shown.open(pages["language"])
    assert shown.press(TAB) == "Skip to the verdict"
    shown.press(ENTER)
    assert shown.run("document.activeElement.id") == "main"
    shown.open(pages["language"])
    reached = [shown.press(TAB) for _ in range(10)]
    assert reached[1:4] == ["Verdict", "What to try", "In plain words"]
    tables = shown.run("document.querySelectorAll('figure details').length")
    seen = 0
    for _ in range(60):  # through the rest, opening every table on the way
        shown.press(TAB)
        if shown.run("document.activeElement.matches('figure summary')"):
            shown.press(ENTER)
            seen += 1
            assert shown.run("document.activeElement.parentElement.open")
            shown.press(TAB)  # the table scrolls, so it takes the focus
            assert shown.run("document.activeElement.getAttribute('role')") == "region"
        if seen == tables:
            break
    assert seen == tables


def test_the_map_shows_the_artifact_that_is_chosen(shown: Browser, pages: dict[str, Path]) -> None:
    shown.open(pages["language"])
    colours = (
        "[...new Set([...document.querySelectorAll('#tensors .mark-symbol.role-mark path')]"
        ".map(p => getComputedStyle(p).fill))].length"
    )
    assert shown.run(colours) == 1  # eight bits everywhere
    shown.run("document.querySelector('#tensors-controls select').focus()")
    shown.press("\ue015")  # arrow down
    shown.wait("edgeqCharts.then(c => c.tensors.runAsync()).then(() => 0)")
    assert shown.run(colours) == 2  # four, the table of tokens eight
    assert shown.run("document.querySelector('#tensors-controls label').textContent").startswith(
        "Artifact"
    )


def test_a_pointer_gets_the_exact_figures(shown: Browser, pages: dict[str, Path]) -> None:
    shown.open(pages["language"])
    assert shown.run("document.getElementById('tip').hidden")
    shown.hover("#tensors .mark-symbol.role-mark path")
    text = shown.run("document.getElementById('tip').textContent")
    assert "model." in text
    assert "bits a weight" in text
    shown.press(ESCAPE)
    assert shown.run("document.getElementById('tip').hidden")


def test_what_a_screen_reader_gets(shown: Browser, pages: dict[str, Path]) -> None:
    shown.open(pages["language"])
    assert shown.run("document.documentElement.lang") == "en"
    assert shown.run("document.querySelectorAll('h1').length") == 1
    levels = shown.run("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    nameless = (
        "[...document.querySelectorAll('.chart, figure, section, nav, [role=region]')].filter(e =>"
        "!e.getAttribute('aria-label') && !document.getElementById("
        "e.getAttribute('aria-labelledby') || '-')).length"
    )
    assert shown.run(nameless) == 0
    headless = "[...document.querySelectorAll('table')].filter(t => !t.caption || "
    headless += "[...t.querySelectorAll('th')].some(h => !h.scope)).length"
    assert shown.run(headless) == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_can_be_read(shown: Browser, pages: dict[str, Path], dark: bool) -> None:
    """Every colour of text against the page and its panels, by WCAG 2's contrast: 4.5 and more."""
    shown.open(pages["language"], dark=dark)
    ratio = shown.run(
        "(() => { const css = getComputedStyle(document.documentElement);"
        "const light = name => { const h = css.getPropertyValue(name).trim().slice(1);"
        "const c = [0, 2, 4].map(i => parseInt(h.slice(i, i + 2), 16) / 255)"
        ".map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);"
        "return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2] };"
        "const names = ['--ink', '--muted', '--link', '--pass', '--fail', '--open', '--none'];"
        "return Math.min(...['--page', '--panel'].flatMap(back => names.map(name => {"
        "const [a, b] = [light(name), light(back)].sort((x, y) => y - x);"
        "return (a + 0.05) / (b + 0.05) }))) })()"
    )
    assert ratio >= 4.5


def test_the_page_prints(shown: Browser, pages: dict[str, Path]) -> None:
    shown.open(pages["language"], dark=True)
    printed = shown.print()
    assert printed.startswith(b"%PDF")
    assert shown.run("document.querySelector('.plain').open")  # what paper could not open
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") >= 2
