"""A real browser without a window, for the tests of pages."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def absent() -> str:
    """Why no browser can be opened here; empty where one can."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    if not any(map(shutil.which, _BROWSERS)):
        return "no Chromium here: apt-get install chromium chromium-driver"
    if not shutil.which("chromedriver"):
        return "no chromedriver here: apt-get install chromium-driver"
    return ""


needs_browser = pytest.mark.skipif(bool(absent()), reason=absent() or "a browser is here")


class Browser:
    """One page at a time, its messages and its requests."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, page: Path, *, width: int = 1280, dark: bool = False) -> None:
        """Open a file as a screen of `width` pixels shows it, and wait for its charts."""
        self.go(page.absolute().as_uri(), width=width, dark=dark)
        self.wait("edgeqCharts.then(charts => Object.keys(charts))")

    def go(self, address: str, *, width: int = 1280, dark: bool = False) -> None:
        """Open an address as a screen of `width` pixels shows it."""
        screen = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.messages()
        self.requests()
        self._driver.get(address)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self._driver.execute_script(f"return {script}")

    def wait(self, promise: str) -> Any:
        """What a JavaScript promise comes to; its error is raised."""
        answer = self._driver.execute_async_script(
            "const done = arguments[0];"
            f"({promise}).then(value => done([value, null]), error => done([null, `${{error}}`]))"
        )
        value, error = answer
        assert error is None, error
        return value

    def press(self, *keys: str) -> str:
        """Press keys one after the other; the text of what has the focus then."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self._driver).send_keys(key).perform()
        focused: str = self._driver.switch_to.active_element.text
        return focused

    def hover(self, selector: str) -> None:
        """Move the pointer over the first element of a CSS selector."""
        from selenium.webdriver import ActionChains
        from selenium.webdriver.common.by import By

        ActionChains(self._driver).move_to_element(
            self._driver.find_element(By.CSS_SELECTOR, selector)
        ).perform()

    def messages(self) -> list[str]:
        """What the console got since the last call."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What was asked for since the last call, by address."""
        events = [json.loads(e["message"])["message"] for e in self._driver.get_log("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def print(self) -> bytes:
        """The page as a PDF, as printed."""
        return base64.b64decode(self._driver.print_page())

    def picture(self, out: Path) -> None:
        """The whole page as a PNG."""
        size = self.run("[document.documentElement.clientWidth, document.body.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        seen = self._driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        out.write_bytes(base64.b64decode(seen["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser that ends with the block."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, _BROWSERS)))
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
