"""The built site in a browser, without a network and on a narrow screen.

Pages are opened as files, as somebody does who has just built the book.
"""

import base64
import itertools
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from conftest import BROWSERS, ROOT, SITE, Page, find_browser
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Request,
    expect,
    sync_playwright,
)
from playwright.sync_api import Page as Tab

pytestmark = [pytest.mark.usefixtures("site"), pytest.mark.xdist_group("browser")]

# Pixels: a laptop, and the usual width of a phone.
WIDE, NARROW = 1280, 390
HEIGHT = 900
# Chromium paints no picture higher than 16,384 pixels.
HIGHEST = 16_000
SCREENSHOTS = ROOT / "_build" / "screenshots"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
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
# MathJax shows an unknown command in red, and what it cannot read as an error.
WRONG_FORMULA = "mjx-merror, mjx-mtext[style*='color: red']"
# What reaches beyond the right edge and is not inside of a box that scrolls.
TOO_WIDE = """(width) => [...document.querySelectorAll("main *")].filter((element) => {
    const scrolls = (parent) => parent !== document.body && parent !== null && (
        getComputedStyle(parent).overflowX !== "visible"
        || scrolls(parent.parentElement));
    return element.getBoundingClientRect().right > width + 1 && !scrolls(element);
}).map((element) => `${element.tagName}.${element.className} #${element.id}`)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        told = f"no browser: none of {', '.join(BROWSERS)} is installed"
        if os.environ.get("FPBOOK_REQUIRE_BROWSER") == "1":
            pytest.fail(told, pytrace=False)
        pytest.skip(told)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Seen:
    """What a page did and showed when it was opened."""

    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    formulas: int = 0
    typeset: int = 0
    formula_errors: list[str] = field(default_factory=list)
    narrow_width: int = 0
    too_wide: list[str] = field(default_factory=list)

    def watch(self, tab: Tab) -> None:
        tab.on("request", self._request)
        tab.on("requestfailed", lambda request: self.failed.append(request.url))
        tab.on("console", self._console)
        tab.on("pageerror", lambda error: self.errors.append(str(error)))

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        inside = parts.scheme in ("data", "blob")
        if parts.scheme == "file":
            inside = Path(unquote(parts.path)).is_relative_to(SITE)
        if not inside:
            self.left.append(request.url)

    def _console(self, message: ConsoleMessage) -> None:
        harmless = any(start in message.text for start in HARMLESS)
        if message.type in ("error", "warning") and not harmless:
            self.errors.append(f"{message.type}: {message.text}")


def open_page(browser: Browser, page: Page, seen: Seen) -> Tab:
    tab = browser.new_page(offline=True, viewport={"width": WIDE, "height": HEIGHT})
    seen.watch(tab)
    tab.goto(page.built.as_uri(), wait_until="load")
    tab.evaluate(SETTLE)
    return tab


def take_screenshot(tab: Tab, page: Page, width: int) -> None:
    """Of all of the page, in a window of its height: nothing then is out of place."""
    height = min(int(tab.evaluate("document.body.scrollHeight")), HIGHEST)
    tab.set_viewport_size({"width": width, "height": height})
    name = page.name.removeprefix("book/").replace("/", "-")
    tab.screenshot(path=SCREENSHOTS / f"{name}-{width}.png")


VISITED: dict[str, Seen] = {}


@pytest.fixture
def seen(page: Page, browser: Browser) -> Seen:
    """Visit a page once, for all tests of it."""
    if page.name not in VISITED:
        found = VISITED[page.name] = Seen()
        tab = open_page(browser, page, found)
        found.formulas = tab.locator("article .math").count()
        found.typeset = tab.locator("article .math mjx-container").count()
        wrong = tab.locator(WRONG_FORMULA)
        found.formula_errors = [wrong.nth(i).inner_html() for i in range(wrong.count())]
        take_screenshot(tab, page, WIDE)
        tab.set_viewport_size({"width": NARROW, "height": HEIGHT})
        tab.evaluate(SETTLE)
        found.narrow_width = tab.evaluate("document.scrollingElement.scrollWidth")
        found.too_wide = tab.evaluate(TOO_WIDE, NARROW)
        take_screenshot(tab, page, NARROW)
        tab.close()
    return VISITED[page.name]


def test_no_request_leaves_the_site(seen: Seen) -> None:
    assert seen.left == []


def test_everything_that_is_asked_for_is_there(seen: Seen) -> None:
    assert seen.failed == []


def test_the_console_is_silent(seen: Seen) -> None:
    assert seen.errors == []


def test_mathematics_is_typeset(seen: Seen) -> None:
    assert seen.formula_errors == []
    assert seen.typeset == seen.formulas


def test_a_phone_scrolls_in_one_direction(seen: Seen) -> None:
    assert seen.narrow_width <= NARROW, seen.too_wide


# --- hidden solutions ---------------------------------------------------------------


def test_solutions_open_from_the_keyboard(chapter: Page, browser: Browser) -> None:
    tab = open_page(browser, chapter, Seen())
    solutions = tab.locator("div.solution.dropdown").all()
    assert solutions
    for solution in solutions:
        content = solution.locator("> section")
        assert not content.is_visible()
        solution.locator("button.toggle-button").press("Enter")
        content.wait_for(state="visible", timeout=2000)
    tab.close()


# --- explorers ----------------------------------------------------------------------


@dataclass(frozen=True)
class Explorer:
    """An explorer on an open page, and the frames that it carries."""

    box: Locator
    images: list[str]
    texts: list[str]

    @property
    def sliders(self) -> list[Locator]:
        return self.box.locator("input[type=range]").all()

    def offered(self, slider: Locator) -> list[str]:
        values: list[str] = json.loads(str(slider.get_attribute("data-values")))
        return values

    def frame(self) -> int:
        """The frame that the sliders stand for: the last one runs fastest."""
        frame = 0
        for slider in self.sliders:
            frame = frame * len(self.offered(slider)) + int(slider.input_value())
        return frame

    def state(self) -> dict[str, Any]:
        """All that tells a reader, seeing or not, where the sliders stand."""
        state: dict[str, Any] = self.box.evaluate(
            """async (box) => {
                const image = box.querySelector("img");
                await image.decode();
                return {
                    image: await (await fetch(image.src)).text(),
                    width: image.naturalWidth,
                    alt: image.alt,
                    announced: box.querySelector("[aria-live=polite]").innerText,
                    told: [...box.querySelectorAll("input")].map(
                        (slider) => slider.getAttribute("aria-valuetext")),
                    shown: [...box.querySelectorAll("output")].map(
                        (output) => output.innerText),
                };
            }"""
        )
        return state

    def assert_shows(self) -> str:
        """Everything agrees with where the sliders stand; return the image."""
        frame, state = self.frame(), self.state()
        assert state["image"] == self.images[frame]
        assert state["width"] > 0
        assert state["alt"] == self.texts[frame]
        # The browser shows blanks and line ends as one blank.
        assert state["announced"].split() == self.texts[frame].split()
        values = [self.offered(s)[int(s.input_value())] for s in self.sliders]
        assert state["told"] == state["shown"] == values
        return self.images[frame]

    def press(self, slider: Locator, key: str, place: int) -> str:
        slider.press(key)
        assert slider.input_value() == str(place), f"{key} went elsewhere"
        return self.assert_shows()


def find_explorers(tab: Tab) -> list[Explorer]:
    found = []
    for box in tab.locator(".fpbook-explorer").all():
        packed = box.locator("script").first.text_content()
        assert packed
        frames = json.loads(zlib.decompress(base64.b64decode(packed)))
        found.append(Explorer(box, frames["images"], frames["texts"]))
    return found


@pytest.fixture
def explorers(page: Page, browser: Browser) -> Iterator[list[Explorer]]:
    if "fpbook-explorer" not in page.built.read_text("utf-8"):
        yield []
        return
    tab = open_page(browser, page, Seen())
    yield find_explorers(tab)
    tab.close()


def test_sliders_move_by_the_keyboard(explorers: list[Explorer]) -> None:
    for explorer in explorers:
        explorer.assert_shows()
        for slider in explorer.sliders:
            last = len(explorer.offered(slider)) - 1
            slider.focus()
            first_image = explorer.press(slider, "Home", 0)
            next_image = explorer.press(slider, "ArrowRight", 1)
            assert next_image != first_image, "the first step changes nothing"
            assert explorer.press(slider, "ArrowLeft", 0) == first_image
            last_image = explorer.press(slider, "End", last)
            assert last_image != first_image, "the whole range changes nothing"
            explorer.press(slider, "ArrowRight", last)
            explorer.press(slider, "Home", 0)


def test_every_frame_is_reached_and_told(explorers: list[Explorer]) -> None:
    for explorer in explorers:
        places = [range(len(explorer.offered(s))) for s in explorer.sliders]
        reached = set()
        for combination in itertools.product(*places):
            for slider, place in zip(explorer.sliders, combination, strict=True):
                if place == 0:
                    slider.press("Home")
                elif slider.input_value() != str(place):
                    slider.press("ArrowRight")
            explorer.assert_shows()
            reached.add(explorer.frame())
        assert reached == set(range(len(explorer.images)))


def test_every_step_shows_and_says_something_else(explorers: list[Explorer]) -> None:
    """A live region whose text stays the same is not read out."""
    for explorer in explorers:
        silent = []
        stride = 1
        for slider in reversed(explorer.sliders):
            length = len(explorer.offered(slider))
            for frame in range(len(explorer.images)):
                if frame // stride % length < length - 1:
                    assert explorer.images[frame] != explorer.images[frame + stride]
                    if explorer.texts[frame] == explorer.texts[frame + stride]:
                        silent.append((frame, explorer.texts[frame]))
            stride *= length
        assert silent == []


def test_playing_runs_to_the_end_and_can_be_paused(explorers: list[Explorer]) -> None:
    for explorer in explorers:
        buttons = explorer.box.locator(".fpbook-explorer-play")
        if not buttons.count():
            continue
        identity = buttons.get_attribute("aria-controls")
        played = explorer.box.locator(f"[id='{identity}']")
        last = int(played.get_attribute("max") or 0)
        played.press("Home")
        buttons.click()
        assert buttons.inner_text() == "Pause"
        expect(played).not_to_have_value("0")
        buttons.click()
        assert buttons.inner_text() == "Play"
        explorer.assert_shows()
        played.press("End")
        played.press("ArrowLeft")
        buttons.press("Enter")
        expect(buttons).to_have_text("Play")
        assert played.input_value() == str(last)
        explorer.assert_shows()
        # From the end it starts again.
        buttons.press("Enter")
        assert played.input_value() == "0"
        buttons.press("Enter")
        explorer.assert_shows()


def test_sliders_are_labelled_and_in_order(explorers: list[Explorer]) -> None:
    for explorer in explorers:
        tab = explorer.box.page
        explorer.sliders[0].focus()
        for number, slider in enumerate(explorer.sliders):
            if number > 0:
                tab.keyboard.press("Tab")
            assert slider.evaluate("slider => slider === document.activeElement")
            names = slider.evaluate(
                "slider => [...slider.labels].map(l => l.innerText)"
            )
            assert len(names) == 1
            assert names[0].strip()
            # The name that assistive technology computes is that of the label.
            assert explorer.box.get_by_role("slider", name=names[0], exact=True).count()
        group = explorer.box.get_attribute("aria-label")
        assert explorer.box.get_attribute("role") == "group"
        assert group
