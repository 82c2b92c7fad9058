"""The slides in a browser without a network: complete, typeset, none too tall."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from browsing import HEIGHT, WIDE, Visit, visiting
from conftest import PAGES, ROOT, SITE, Page
from playwright.sync_api import Browser
from test_browser import WRONG_FORMULA
from test_export import load

slides = load("slides")
BOOK = slides.export.read_book(ROOT)
PARTS = [
    part
    for part in yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))["parts"]
    if part.get("numbered")
]
# Of a part of two chapters, for a class that has an hour and a half for each.
SHORT = range(20, 61)
# What reveal.js scales to the window, in its own pixels.
SLIDE = (1280, 720)
ALL_SLIDES = """() => Reveal.getSlides().map((slide) => {
    Reveal.slide(...Object.values(Reveal.getIndices(slide)));
    const inside = slide.getBoundingClientRect(), scale = Reveal.getScale();
    const shown = [...slide.querySelectorAll("*")].map(
        (element) => element.getBoundingClientRect()
    ).filter((box) => box.width > 1 && box.height > 0);
    return {
        title: slide.querySelector("h1, h2, h3")?.innerText,
        height: Math.max(...shown.map((box) => (box.bottom - inside.top) / scale)),
        width: Math.max(...shown.map((box) => (box.right - inside.left) / scale)),
    };
})"""


@pytest.fixture(scope="module", params=PARTS, ids=lambda part: slides.name(part))
def part(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.param
    return found


@pytest.fixture(scope="module")
def deck(part: dict[str, Any], site: Path, browser: Browser) -> Iterator[Visit]:
    name = f"{slides.FOLDER}/{slides.name(part).removesuffix('.html')}"
    with visiting(Page(name, chapter=False), browser) as visit:
        yield visit


def chapters(part: dict[str, Any]) -> list[Page]:
    wanted = [chapter["file"] for chapter in part["chapters"]]
    return [page for page in PAGES if page.name in wanted]


def test_it_opens_without_a_network(deck: Visit) -> None:
    assert deck.tab.evaluate("Reveal.isReady()")
    assert deck.seen.left == []
    assert deck.seen.failed == []
    assert deck.seen.errors == []


def test_it_has_every_figure_and_every_class_exercise(
    deck: Visit, part: dict[str, Any]
) -> None:
    text = deck.tab.evaluate("document.querySelector('.slides').textContent")
    for page in chapters(part):
        source = page.source.read_text("utf-8")
        labels = [
            line.split()[-1] for line in re.findall(r"^    name: fig-.*$", source, re.M)
        ]
        labels += [
            task.label
            for task in slides.course.exercises(source)
            if task.place == "class"
        ]
        assert labels
        for label in labels:
            assert BOOK.numbers[label] in text
        assert BOOK.titles[page.source] in text


def test_mathematics_is_typeset(deck: Visit) -> None:
    assert deck.tab.locator(WRONG_FORMULA).count() == 0
    assert deck.tab.locator("mjx-container").count() > 10
    text = deck.tab.evaluate("document.querySelector('.slides').textContent")
    assert "$" not in text
    assert "\\" not in text.replace("\\n", "")


def test_it_is_short_and_every_slide_fits(deck: Visit) -> None:
    shown = deck.tab.evaluate(ALL_SLIDES)
    assert len(shown) in SHORT
    assert [slide for slide in shown if not slide["title"]] == []
    # A line of text may stick out by the height of its descenders.
    too_large = [
        slide
        for slide in shown
        if slide["height"] > SLIDE[1] + 4 or slide["width"] > SLIDE[0] + 8
    ]
    assert too_large == []


def test_images_say_what_is_there(deck: Visit) -> None:
    for image in deck.tab.locator("img").all():
        assert len(image.get_attribute("alt") or "") > 20


def test_sliders_move_from_the_keyboard(deck: Visit) -> None:
    explorers = deck.tab.locator(".fpbook-explorer")
    assert explorers.count() > 0
    for explorer in explorers.all():
        deck.tab.evaluate(
            "box => Reveal.slide(...Object.values(Reveal.getIndices(box.closest("
            "'section'))))",
            explorer.element_handle(),
        )
        slider = explorer.locator("input").first
        image, before = explorer.locator("img"), slider.input_value()
        shown = image.get_attribute("src")
        slide = deck.tab.evaluate("Reveal.getIndices()")
        slider.press(
            "ArrowLeft" if before == slider.get_attribute("max") else "ArrowRight"
        )
        assert slider.input_value() != before
        assert image.get_attribute("src") != shown
        # The arrow is the slider's, not the deck's.
        assert deck.tab.evaluate("Reveal.getIndices()") == slide


def test_links_lead_to_pages_of_the_site(deck: Visit) -> None:
    links = {
        str(link.get_attribute("href"))
        for link in deck.tab.locator(".slides a[href]").all()
    }
    inside = {link for link in links if not re.match("https?:|#", link)}
    assert len(inside) >= 2
    for link in inside:
        assert (SITE / slides.FOLDER / link.partition("#")[0]).resolve().exists(), link


def test_it_prints_one_slide_to_a_page(deck: Visit, browser: Browser) -> None:
    tab = browser.new_page(offline=True, viewport={"width": WIDE, "height": HEIGHT})
    tab.goto(f"{deck.page.built.as_uri()}?print-pdf")
    tab.wait_for_selector(".pdf-page")
    slides_there = deck.tab.evaluate("Reveal.getTotalSlides()")
    assert tab.locator(".pdf-page").count() == slides_there
    tab.close()
