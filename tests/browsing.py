"""What the tests in a browser share: pages opened as files, without a network."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from conftest import SITE, Page
from playwright.sync_api import Browser, ConsoleMessage, Request
from playwright.sync_api import Page as Tab

# Pixels: a laptop, and the usual width of a phone.
WIDE, NARROW = 1280, 390
HEIGHT = 900
# Chapters of hundreds of formulas take seconds, far more on a busy machine.
PATIENCE_MILLISECONDS = 120_000
# What the theme says on the console, and why it does no harm.
HARMLESS = {
    "Got invalid theme mode": "on a first visit no mode is chosen yet",
    "[PST]": "the theme tells which of its parts a page does not use",
    "[togglebutton]": "the toggle script tells that a page has nothing to toggle",
}

SETTLE = """async () => {
    if (window.MathJax?.startup) await MathJax.startup.promise;
    await document.fonts.ready;
    await Promise.all([...document.images].map((image) => image.decode()));
}"""


@dataclass
class Seen:
    """What a page asked for and complained about since it was opened."""

    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self, tab: Tab) -> None:
        tab.on("request", self._request)
        tab.on("requestfailed", self._failed)
        tab.on("console", self._console)
        tab.on("pageerror", lambda error: self.errors.append(str(error)))

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        inside = parts.scheme in ("data", "blob")
        if parts.scheme == "file":
            inside = Path(unquote(parts.path)).is_relative_to(SITE)
        if not inside:
            self.left.append(request.url)

    def _failed(self, request: Request) -> None:
        # A frame of an explorer is a blob of the page itself; the page may give its
        # loading up, say when the window changes. That frames are shown has its tests.
        given_up = request.failure == "net::ERR_ABORTED"
        if not (given_up and urlsplit(request.url).scheme == "blob"):
            self.failed.append(f"{request.url}: {request.failure}")

    def _console(self, message: ConsoleMessage) -> None:
        harmless = any(start in message.text for start in HARMLESS)
        if message.type in ("error", "warning") and not harmless:
            self.errors.append(f"{message.type}: {message.text}")


@dataclass(frozen=True)
class Visit:
    """A page in its tab, open for all tests of it, and what it did so far."""

    page: Page
    tab: Tab
    seen: Seen


def short_name(page: Page) -> str:
    return page.name.removeprefix("book/")


@contextmanager
def visiting(page: Page, browser: Browser) -> Iterator[Visit]:
    """Open a page, wait until nothing moves, and close it afterwards."""
    seen = Seen()
    # Smooth scrolling paints a long page dozens of times on the way.
    tab = browser.new_page(
        offline=True,
        reduced_motion="reduce",
        viewport={"width": WIDE, "height": HEIGHT},
    )
    seen.watch(tab)
    tab.goto(page.built.as_uri(), wait_until="load", timeout=PATIENCE_MILLISECONDS)
    tab.evaluate(SETTLE)
    yield Visit(page, tab, seen)
    tab.close()
