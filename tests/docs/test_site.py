"""The documentation's site: built strictly, whole, without dead links, and asking for nothing."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from edgeq.core.artifact import Artifact
from edgeq.devices.catalogue import HERE, device_ids, load_device
from edgeq.devices.profile import Device
from edgeq.formats.bundle import Bundle
from edgeq.quantize.methods import ROUNDING_METHODS
from edgeq.recipe.json_schema import recipe_schema
from tests.support.browser import Browser, browser, needs_browser

pytest.importorskip("material", reason="the extra [docs] is not installed")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_hooks"))

import commands  # noqa: E402
from fences import all_fences  # noqa: E402

PHONE, DESKTOP = 390, 1280
# Attributes by which a page loads something; a link is followed by its reader alone.
_LOADS = {"src", "srcset", "data", "poster", "action"}


class Page(HTMLParser):
    """What a page loads, where it links to, its anchors and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self._words: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        # Tags part a word of code from the punctuation behind it.
        self.text = re.sub(r" (?=[,.;:)](?: |$))", "", " ".join(" ".join(self._words).split()))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = {name: value or "" for name, value in attrs}
        self.anchors |= {held[name] for name in ("id", "name") if name in held}
        self.loads += [held[name] for name in _LOADS & held.keys()]
        if "href" in held:
            is_followed = tag == "a" or held.get("rel") in ("canonical", "next", "prev")
            (self.links if is_followed else self.loads).append(held["href"])

    def handle_data(self, data: str) -> None:
        self._words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_no_link_is_dead(site: Path, pages: dict[Path, Page]) -> None:
    dead = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the place where the site will lie
            continue
        for link in {*page.links, *page.loads}:
            address, fragment = urldefrag(link)
            if urlsplit(link).scheme:
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            if target.is_dir():
                target /= "index.html"
            anchors = pages[target].anchors if target in pages else set()
            if not target.is_file() or (fragment and unquote(fragment) not in anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []
    assert len(pages) > 30


def test_no_page_loads_anything_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    outside = [
        f"{path.name}: {each}"
        for path, page in pages.items()
        for each in page.loads
        if urlsplit(each).netloc or each.startswith("//")
    ]
    styles = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.css")}
    assert styles
    outside += [
        f"{path.name}: {each}"
        for path, text in styles.items()
        for each in re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", text)
        if urlsplit(each).netloc
    ]
    assert outside == []


def _text(pages: dict[Path, Page], name: str) -> str:
    (found,) = (page.text for path, page in pages.items() if path.match(f"reference/{name}.html"))
    return found


def _descriptions(schema: dict[str, object]) -> set[str]:
    """Every name of a field, and what is said of it."""
    found: set[str] = set()
    objects = [schema, *schema.get("$defs", {}).values()]  # type: ignore[attr-defined]
    for each in objects:
        for name, field in each.get("properties", {}).items():
            assert field.get("description"), f"nothing is said of {each['title']}.{name}"
            found |= {name, " ".join(field["description"].split())}
    return found


def _shown(text: str) -> str:
    return text.replace("`", "").replace("\\[", "[")  # what marks code and what escapes


def test_the_reference_has_every_field_and_command(pages: dict[Path, Page]) -> None:
    wanted = {
        "recipe": _descriptions(recipe_schema()),
        "device": _descriptions(Device.model_json_schema()),
        "records": _descriptions(Artifact.model_json_schema(mode="serialization"))
        | _descriptions(Bundle.model_json_schema(mode="serialization")),
        "devices": {
            " ".join(note.text.split())
            for id in device_ids()
            if id != HERE
            for notes in load_device(id).sources.values()
            for note in notes
        },
        "commands": {
            each
            for command in commands.group().commands.values()
            for parameter in command.params
            for each in (*parameter.opts[1:], " ".join((parameter.help or "").split()))
        },
        "glossary": {method.summary for method in ROUNDING_METHODS.values()},
    }
    absent = {
        name: sorted(each for each in texts if _shown(each) not in _text(pages, name))
        for name, texts in wanted.items()
    }
    assert absent == {name: [] for name in wanted}


def test_every_command_has_an_example(pages: dict[Path, Page]) -> None:
    shown = _text(pages, "commands").split("For example:")
    assert len(shown) == len(commands.group().commands) + 1
    assert all(each.strip().startswith("edgeq ") for each in shown[1:])


# What edgeq says to processes of its own.
_INNER = {"EDGEQ_CPUINFO", "EDGEQ_HIDE_CPUID"}


def test_the_reference_has_every_variable(pages: dict[Path, Page]) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "edgeq").rglob("*.py")]
    read = set(re.findall(r"EDGEQ_[A-Z_]+", " ".join(sources))) - _INNER
    told = set(re.findall(r"EDGEQ_[A-Z_]+", _text(pages, "environment")))
    assert read == told


def test_a_reader_sees_why_something_is_not_run(pages: dict[Path, Page]) -> None:
    everything = " ".join(page.text for page in pages.values())
    reasons = [fence.reason for fence in all_fences() if fence.reason]
    assert len(reasons) > 10
    told = [f"Not run by the tests: {reason.replace('`', '')}." for reason in reasons]
    assert [each for each in told if " ".join(each.split()) not in everything] == []


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site on a server of this machine, as search wants it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def shown() -> Iterator[Browser]:
    with browser() as found:
        yield found


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("page", "width"), [("start.html", PHONE), ("reference/recipe.html", DESKTOP)]
)
def test_a_page_is_quiet_and_fits(
    shown: Browser, address: str, page: str, width: int, dark: bool, tmp_path: Path
) -> None:
    shown.go(address + page, width=width, dark=dark)
    shown.picture(tmp_path / "page.png")  # drawn whole, and there to be looked at
    assert shown.messages() == []
    asked = shown.requests()
    assert len(asked) > 3
    assert [each for each in asked if not each.startswith((address, "data:"))] == []
    assert shown.run("document.documentElement.scrollWidth") <= width  # nothing sticks out
    background = shown.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 300) == dark


@needs_browser
def test_words_are_found(shown: Browser, address: str) -> None:
    shown.go(f"{address}index.html?q=entitlement")
    found = shown.wait(
        "new Promise((done, fail) => { let left = 100; const look = () => {"
        "const hits = [...document.querySelectorAll('.md-search-result__link')].map(a => a.href);"
        "hits.length ? done(hits) : left-- ? setTimeout(look, 50) : fail('nothing') }; look() })"
    )
    assert any("concepts/device.html" in each for each in found)
