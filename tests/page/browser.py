"""Pages opened in Chromium, and pages parsed."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


class Page(HTMLParser):
    """The rows of a page's tables, its references, and its tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.cell = self.data = False
        self.json = ""
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        self.cell = self.cell or tag in ("td", "th")
        self.data = ("type", "application/json") in attrs
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.cell = self.cell and tag not in ("td", "th")
        self.data = False

    def handle_data(self, data: str) -> None:
        if self.cell:
            self.rows[-1][-1] += data
        if self.data:
            self.json += data

    def charts(self) -> dict:
        """The Vega-Lite charts of the page."""
        return json.loads(self.json)

    def row(self, name: str, nth: int = 0) -> list[str]:
        """The cells after `name` in the nth row that starts with it."""
        return [row[1:] for row in self.rows if row and row[0].strip() == name][nth]


class Watched:
    """A tab of a browser, what it asked for, and what went wrong."""

    def __init__(self, browser: Browser, **options) -> None:
        self.tab: Tab = browser.new_page(**options)
        self.tab.set_default_timeout(10_000)
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("console", lambda message: self.wrong.append(message.text))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.wrong.append(dialog.message))


def barriers(tab: Tab) -> list[str]:
    """What axe-core finds that keeps people out of a page, with all its details open."""
    tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    found = Axe().run(tab).response
    assert found["passes"]
    return [f"{each['id']} ({each['impact']}): {each['nodes'][0]['html']}" for each in found["violations"]]


class Shown(NamedTuple):
    """What a page is on a phone of 390 pixels: its width, the result of a script, what Chromium logged."""

    width: str
    result: str
    log: str


def on_a_phone(page: Page, folder: Path, expression: str) -> Shown:
    """Open a page with all details open; `expression` is JavaScript about the document `page`."""
    frame = folder / "frame.html"
    frame.write_text(
        '<!doctype html><iframe style="width: 390px; height: 844px; border: 0"'
        f' srcdoc="{html.escape(page.text)}"></iframe><script>'
        "addEventListener('load', () => { const page = document.querySelector('iframe').contentDocument;"
        "page.querySelectorAll('details').forEach(part => part.open = true);"
        f"document.body.dataset.result = {expression};"
        "document.body.dataset.width = page.documentElement.scrollWidth; })</script>"
    )
    flags = [f"--disable-{part}" for part in ("gpu", "quic", "background-networking", "component-update", "sync")]
    flags += ["--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars", "--enable-logging=stderr"]
    command = [str(CHROMIUM), *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (width,), (result,) = (re.findall(rf'data-{name}="(.*?)"', done.stdout) for name in ("width", "result"))
    return Shown(width, html.unescape(result), done.stderr)
