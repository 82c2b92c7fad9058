"""The built site in a browser without a network: complete, and moved by the keyboard.

Pages are opened as files, as somebody does who has just built the book. All tests of
a page share one tab: with hundreds of formulas, opening it is what takes the time.
"""

import base64
import itertools
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from browsing import Visit, short_name, visiting
from conftest import PAGES
from playwright.sync_api import Browser, Locator
from playwright.sync_api import Page as Tab

pytestmark = [pytest.mark.usefixtures("site"), pytest.mark.xdist_group("browser")]

# MathJax shows an unknown command in red, and what it cannot read as an error.
WRONG_FORMULA = "mjx-merror, mjx-mtext[style*='color: red']"


@pytest.fixture(scope="module", params=PAGES, ids=short_name)
def visit(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Visit]:
    with visiting(request.param, browser) as visit:
        yield visit


def test_mathematics_is_typeset(visit: Visit) -> None:
    wrong = visit.tab.locator(WRONG_FORMULA).all()
    assert [formula.inner_html() for formula in wrong] == []
    formulas = visit.tab.locator("article .math").count()
    assert visit.tab.locator("article .math mjx-container").count() == formulas


# --- hidden solutions ---------------------------------------------------------------


def test_solutions_open_from_the_keyboard(visit: Visit) -> None:
    solutions = visit.tab.locator("div.solution.dropdown").all()
    assert bool(solutions) == visit.page.chapter
    for solution in solutions:
        content = solution.locator("> section")
        assert not content.is_visible()
        solution.locator("button.toggle-button").press("Enter")
        content.wait_for(state="visible", timeout=2000)


# --- explorers ----------------------------------------------------------------------


# Sets every combination, as a reader does who moves the sliders, and looks each time.
VISIT_ALL_FRAMES = """async (box, look) => {
    const sliders = [...box.querySelectorAll("input")];
    const looks = [];
    const visit = async (number) => {
        if (number === sliders.length) return looks.push(await eval(look)(box));
        for (let place = 0; place <= Number(sliders[number].max); place++) {
            sliders[number].value = place;
            sliders[number].dispatchEvent(new Event("input", { bubbles: true }));
            await visit(number + 1);
        }
    };
    await visit(0);
    return looks;
}"""
# All that tells a reader, seeing or not, where the sliders stand.
LOOK = """async (box) => {
    const image = box.querySelector("img");
    await image.decode();
    const sliders = [...box.querySelectorAll("input")];
    return {
        places: sliders.map((slider) => Number(slider.value)),
        image: await (await fetch(image.src)).text(),
        width: image.naturalWidth,
        alt: image.alt,
        announced: box.querySelector("[aria-live=polite]").innerText,
        told: sliders.map((slider) => slider.getAttribute("aria-valuetext")),
        shown: [...box.querySelectorAll("output")].map((output) => output.innerText),
    };
}"""


@dataclass(frozen=True)
class Explorer:
    """An explorer on an open page, and the frames that it carries."""

    box: Locator
    images: list[str]
    texts: list[str]
    # The values that each slider offers.
    offered: list[list[str]]

    @property
    def sliders(self) -> list[Locator]:
        return self.box.locator("input[type=range]").all()

    def frame(self, places: list[int]) -> int:
        """The frame that the sliders stand for: the last one runs fastest."""
        frame = 0
        for place, values in zip(places, self.offered, strict=True):
            frame = frame * len(values) + place
        return frame

    def assert_agrees(self, state: dict[str, Any]) -> str:
        """Everything agrees with where the sliders stand; return the image."""
        frame = self.frame(state["places"])
        assert state["image"] == self.images[frame]
        assert state["width"] > 0
        assert state["alt"] == self.texts[frame]
        # The browser shows blanks and line ends as one blank.
        assert state["announced"].split() == self.texts[frame].split()
        values = [
            values[place]
            for place, values in zip(state["places"], self.offered, strict=True)
        ]
        assert state["told"] == state["shown"] == values
        return self.images[frame]

    def assert_shows(self) -> str:
        return self.assert_agrees(self.box.evaluate(LOOK))

    def press(self, number: int, key: str, place: int) -> str:
        """Press a key on the slider that has the focus."""
        self.box.page.keyboard.press(key)
        state = self.box.evaluate(LOOK)
        assert state["places"][number] == place, f"{key} went elsewhere"
        return self.assert_agrees(state)


def find_explorers(tab: Tab) -> list[Explorer]:
    found = []
    for box in tab.locator(".fpbook-explorer").all():
        packed = box.locator("script").first.text_content()
        assert packed
        frames = json.loads(zlib.decompress(base64.b64decode(packed)))
        offered = [
            json.loads(str(slider.get_attribute("data-values")))
            for slider in box.locator("input[type=range]").all()
        ]
        found.append(Explorer(box, frames["images"], frames["texts"], offered))
    return found


@pytest.fixture(scope="module")
def explorers(visit: Visit) -> list[Explorer]:
    return find_explorers(visit.tab)


def test_sliders_move_by_the_keyboard(explorers: list[Explorer]) -> None:
    for explorer in explorers:
        explorer.assert_shows()
        for number, slider in enumerate(explorer.sliders):
            last = len(explorer.offered[number]) - 1
            slider.focus()
            first_image = explorer.press(number, "Home", 0)
            next_image = explorer.press(number, "ArrowRight", 1)
            assert next_image != first_image, "the first step changes nothing"
            assert explorer.press(number, "ArrowLeft", 0) == first_image
            last_image = explorer.press(number, "End", last)
            assert last_image != first_image, "the whole range changes nothing"
            explorer.press(number, "ArrowRight", last)
            explorer.press(number, "Home", 0)


def test_every_frame_is_reached_and_told(explorers: list[Explorer]) -> None:
    for explorer in explorers:
        states = explorer.box.evaluate(VISIT_ALL_FRAMES, LOOK)
        for state in states:
            explorer.assert_agrees(state)
        reached = [tuple(state["places"]) for state in states]
        places = [range(len(values)) for values in explorer.offered]
        assert reached == list(itertools.product(*places))
        frames = {explorer.frame(state["places"]) for state in states}
        assert frames == set(range(len(explorer.images)))


def test_every_step_shows_and_says_something_else(explorers: list[Explorer]) -> None:
    """A live region whose text stays the same is not read out."""
    for explorer in explorers:
        silent = []
        stride = 1
        for values in reversed(explorer.offered):
            length = len(values)
            for frame in range(len(explorer.images)):
                if frame // stride % length < length - 1:
                    assert explorer.images[frame] != explorer.images[frame + stride]
                    if explorer.texts[frame] == explorer.texts[frame + stride]:
                        silent.append((frame, explorer.texts[frame]))
            stride *= length
        assert silent == []


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


def test_playing_runs_to_the_end_and_can_be_paused(
    visit: Visit, explorers: list[Explorer]
) -> None:
    clock = visit.tab.clock
    # Time stands still unless the test lets it pass: a busy machine plays no part.
    clock.install(time=0)
    clock.pause_at(1000)
    for explorer in explorers:
        buttons = explorer.box.locator(".fpbook-explorer-play")
        if not buttons.count():
            continue
        identity = buttons.get_attribute("aria-controls")
        interval = int(buttons.get_attribute("data-interval") or 0)
        played = explorer.box.locator(f"[id='{identity}']")
        last = int(played.get_attribute("max") or 0)
        played.press("Home")
        buttons.click()
        assert buttons.inner_text() == "Pause"
        clock.run_for(interval)
        assert played.input_value() == "1"
        buttons.click()
        assert buttons.inner_text() == "Play"
        clock.run_for(3 * interval)
        assert played.input_value() == "1"
        explorer.assert_shows()
        played.press("End")
        played.press("ArrowLeft")
        buttons.press("Enter")
        clock.run_for(interval)
        assert buttons.inner_text() == "Play"
        assert played.input_value() == str(last)
        explorer.assert_shows()
        # From the end it starts again.
        buttons.press("Enter")
        assert played.input_value() == "0"
        buttons.press("Enter")
        explorer.assert_shows()


# --- the whole visit: the last tests of a page --------------------------------------


def test_no_request_leaves_the_site(visit: Visit) -> None:
    assert visit.seen.left == []


def test_everything_that_is_asked_for_is_there(visit: Visit) -> None:
    assert visit.seen.failed == []


def test_the_console_is_silent(visit: Visit) -> None:
    assert visit.seen.errors == []
