"""Everybody can read the built site: WCAG AA, on a phone, in the dark, on paper.

axe-core looks at each page as a laptop and as a phone show it, in light and in dark
colours. By-products: ``_build/axe.json`` and the pictures in ``_build/screenshots``.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from browsing import HEIGHT, NARROW, SETTLE, WIDE, Visit, short_name, visiting
from conftest import BUILT, PAGES
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab

pytestmark = [pytest.mark.usefixtures("site"), pytest.mark.xdist_group("looks")]

REPORT = BUILT / "axe.json"
SCREENSHOTS = BUILT / "screenshots"
# The top of a long chapter tells its looks; all of it takes seconds to paint.
HIGHEST = 6_000

# Beside the level that the book promises, axe's own advice, such as an order of
# headings without gaps.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
EVERY_RULE = {"type": "tag", "values": TAGS}
# In the dark only colours change.
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}

AXE = """async (rules) => {
    const found = await axe.run(document, {
        runOnly: rules, resultTypes: ["violations", "incomplete"] });
    return {
        passes: found.passes.length,
        incomplete: found.incomplete.map((rule) => rule.id),
        violations: found.violations.map((rule) => ({
            rule: rule.id,
            impact: rule.impact,
            places: rule.nodes.map((node) => ({
                selector: node.target.join(" "), why: node.failureSummary })),
        })),
    };
}"""
# What a reader unfolds is looked at too; the theme then takes a while to tell which
# boxes scroll.
UNFOLD = """() => {
    document.querySelectorAll("div.toggle-hidden > button.toggle-button").forEach(
        (button) => button.click());
    document.querySelectorAll("main details").forEach((cell) => { cell.open = true; });
}"""
THEME_MILLISECONDS = 500
# A chapter has twenty thousand elements, which axe would look at for minutes; these
# two have nothing to find. Of a formula, its drawing is hidden from assistive
# technology and its MathML has no rule, so an empty box of its size takes its place;
# colour and MathML are tested before. Of the pieces of code, whose class gives their
# colour, the first of each class stays a piece of its own.
THIN_OUT = """() => {
    const drawings = [...document.querySelectorAll("mjx-math")];
    const sizes = drawings.map((drawing) => drawing.getBoundingClientRect());
    drawings.forEach((drawing, number) => {
        const { width, height } = sizes[number];
        drawing.replaceChildren();
        drawing.style.cssText = `display: inline-block; width: ${width}px; `
            + `height: ${height}px`;
    });
    document.querySelectorAll("mjx-assistive-mml > math").forEach(
        (spoken) => spoken.replaceChildren());
    const seen = new Set();
    for (const piece of document.querySelectorAll(".highlight pre > span")) {
        if (seen.has(piece.className)) piece.replaceWith(...piece.childNodes);
        seen.add(piece.className);
    }
    document.querySelectorAll(".highlight pre").forEach((code) => code.normalize());
}"""
# Contrast depends on colour, size and weight of a text, and on the grounds below it:
# of all texts with the same ones, axe is given the first.
MARK_REPEATED_LOOKS = """() => {
    const grounds = new Map([[null, ""]]);
    const ground = (element) => {
        if (!grounds.has(element)) {
            const style = getComputedStyle(element);
            grounds.set(element, [ground(element.parentElement), style.backgroundColor,
                style.backgroundImage, style.opacity, style.position].join());
        }
        return grounds.get(element);
    };
    const seen = new Set();
    const repeated = [];
    for (const element of document.body.querySelectorAll("*")) {
        const { visibility, color, fontSize, fontWeight, textShadow }
            = getComputedStyle(element);
        const shown = visibility === "visible" && element.getClientRects().length > 0;
        const look = [shown, color, fontSize, fontWeight, textShadow,
            ground(element)].join();
        const texts = [...element.childNodes].some(
            (node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
        if (texts && seen.has(look)) repeated.push(element);
        if (texts) seen.add(look);
        element.removeAttribute("data-repeated");
    }
    repeated.forEach((element) => element.setAttribute("data-repeated", ""));
}"""
ONLY_FIRST_LOOKS = """() => axe.configure({ rules: [
    { id: "color-contrast", selector: "*:not([data-repeated])" }] })"""

# The ground of a table's stripe, say, fades to its new colour: no time for that.
AT_REST = (
    """() => document.getAnimations().forEach((animation) => animation.cancel())"""
)
COLOURED_FORMULAS = """() => [...document.querySelectorAll("mjx-container")].filter(
    (formula) => getComputedStyle(formula).color
        !== getComputedStyle(formula.parentElement).color
).map((formula) => formula.closest("[id]")?.id)"""
SILENT_FORMULAS = """() => [...document.querySelectorAll("mjx-container")].filter(
    (formula) => !formula.querySelector("mjx-assistive-mml > math > *")
).map((formula) => formula.closest("[id]")?.id)"""
# Figures are drawn in black: in the dark they need their white ground.
DARK_FIGURES = """() => [...document.images].filter((image) => {
    const { backgroundColor, filter } = getComputedStyle(image);
    return backgroundColor !== "rgb(255, 255, 255)" || filter !== "none";
}).map((image) => image.alt)"""
# What reaches beyond the right edge and is not inside of a box that scrolls.
TOO_WIDE = """(width) => [...document.querySelectorAll("main *")].filter((element) => {
    const scrolls = (parent) => parent !== document.body && parent !== null && (
        getComputedStyle(parent).overflowX !== "visible"
        || scrolls(parent.parentElement));
    return element.getBoundingClientRect().right > width + 1 && !scrolls(element);
}).map((element) => `${element.tagName}.${element.className} #${element.id}`)"""
# Boxes that scroll sideways and that the Tab key passes by.
OUT_OF_REACH = """() => [...document.querySelectorAll("main *")].filter((element) =>
    element.scrollWidth > element.clientWidth + 1
    && ["auto", "scroll"].includes(getComputedStyle(element).overflowX)
    && element.checkVisibility({ visibilityProperty: true })
    && element.tabIndex < 0
    && ![...element.querySelectorAll("*")].some((inner) => inner.tabIndex >= 0)
).map((element) => `${element.tagName}.${element.className} #${element.id}`)"""
ON_PAPER = """() => {
    const shown = (selector) => [...document.querySelectorAll(selector)].filter(
        (element) => element.checkVisibility({ visibilityProperty: true }));
    return {
        buttons: shown("button, input, .headerlink, .bd-sidebar-primary, "
            + ".bd-sidebar-secondary").map((element) => element.outerHTML.slice(0, 80)),
        open: shown("div.solution > section").length,
        solutions: document.querySelectorAll("div.solution > section").length,
    };
}"""

# The colours before, in and after print.
PRINTED = """() => ["none", "beforeprint", "afterprint"].map((name) => {
    dispatchEvent(new Event(name));
    return document.documentElement.dataset.theme;
})"""


@dataclass
class Looks:
    """How a page shows itself: by width and colours, on a phone and on paper."""

    axe: dict[str, dict[str, Any]] = field(default_factory=dict)
    coloured_formulas: list[str] = field(default_factory=list)
    silent_formulas: list[str] = field(default_factory=list)
    dark_figures: list[str] = field(default_factory=list)
    phone_width: int = 0
    too_wide: list[str] = field(default_factory=list)
    out_of_reach: list[str] = field(default_factory=list)
    paper: dict[str, Any] = field(default_factory=dict)
    printed_from_dark: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def report() -> Iterator[dict[str, Any]]:
    """What axe found on all pages, for ``_build/axe.json``."""
    pages: dict[str, Any] = {}
    yield pages
    impacts: Counter[str] = Counter()
    for modes in pages.values():
        for found in modes.values():
            for rule in found["violations"]:
                impacts[rule["impact"]] += len(rule["places"])
    summary = {"violations by impact": impacts, "pages": pages}
    REPORT.write_text(json.dumps(summary, indent=1), encoding="utf-8")


@pytest.fixture(scope="module", params=PAGES, ids=short_name)
def looks(
    request: pytest.FixtureRequest, browser: Browser, report: dict[str, Any]
) -> Iterator[Looks]:
    """Look at a page once, for all tests of it."""
    with visiting(request.param, browser) as visit:
        looks = look_at(visit)
        report[short_name(visit.page)] = looks.axe
        yield looks


def look_at(visit: Visit) -> Looks:
    tab, looks = visit.tab, Looks()
    looks.silent_formulas = tab.evaluate(SILENT_FORMULAS)
    tab.emulate_media(media="print")
    looks.paper = tab.evaluate(ON_PAPER)
    tab.emulate_media(media="screen")
    for width in (WIDE, NARROW):
        for colours in ("light", "dark"):
            show(tab, width, colours)
            looks.coloured_formulas += tab.evaluate(COLOURED_FORMULAS)
            take_screenshot(visit, width, colours)
    looks.dark_figures = tab.evaluate(DARK_FIGURES)
    looks.printed_from_dark = tab.evaluate(PRINTED)
    show(tab, NARROW, "light")
    tab.evaluate(UNFOLD)
    tab.wait_for_timeout(THEME_MILLISECONDS)
    looks.phone_width = tab.evaluate("document.scrollingElement.scrollWidth")
    looks.too_wide = tab.evaluate(TOO_WIDE, NARROW)
    looks.out_of_reach = tab.evaluate(OUT_OF_REACH)

    tab.evaluate(THIN_OUT)
    tab.evaluate(AXE_SCRIPT)
    tab.evaluate(ONLY_FIRST_LOOKS)
    for width in (NARROW, WIDE):
        for colours, rules in (("light", EVERY_RULE), ("dark", COLOURS)):
            show(tab, width, colours)
            tab.evaluate(MARK_REPEATED_LOOKS)
            looks.axe[f"{width} {colours}"] = tab.evaluate(AXE, rules)
    return looks


def show(tab: Tab, width: int, colours: str) -> None:
    """Change window and colours as a reader's device does."""
    tab.set_viewport_size({"width": width, "height": HEIGHT})
    tab.emulate_media(color_scheme="dark" if colours == "dark" else "light")
    tab.wait_for_function(
        "theme => document.documentElement.dataset.theme === theme", arg=colours
    )
    tab.evaluate(SETTLE)
    tab.evaluate(AT_REST)


def take_screenshot(visit: Visit, width: int, colours: str) -> None:
    """In a window as high as the page, or as its top: nothing then is out of place."""
    tab = visit.tab
    height = min(int(tab.evaluate("document.body.scrollHeight")), HIGHEST)
    tab.set_viewport_size({"width": width, "height": height})
    name = short_name(visit.page).replace("/", "-")
    suffix = "-dark" if colours == "dark" else ""
    tab.screenshot(path=SCREENSHOTS / f"{name}-{width}{suffix}.png")


def test_axe_finds_nothing(looks: Looks, request: pytest.FixtureRequest) -> None:
    page = request.node.callspec.id
    told = [
        f"{page} ({mode}): {rule['rule']} ({rule['impact']}) at {place['selector']}: "
        + " ".join(place["why"].split())
        for mode, found in looks.axe.items()
        for rule in found["violations"]
        for place in rule["places"]
    ]
    assert not told, "\n".join(told)


def test_axe_looked(looks: Looks) -> None:
    """A checker that finds nothing because it does nothing is no checker."""
    assert set(looks.axe) == {
        f"{w} {c}" for w in (WIDE, NARROW) for c in ("light", "dark")
    }
    assert all(found["passes"] > 0 for found in looks.axe.values())


def test_formulas_have_the_colour_of_the_text(looks: Looks) -> None:
    assert looks.coloured_formulas == []


def test_formulas_are_told_to_screen_readers(looks: Looks) -> None:
    assert looks.silent_formulas == []


def test_figures_keep_a_white_ground_in_the_dark(looks: Looks) -> None:
    assert looks.dark_figures == []


def test_a_phone_scrolls_in_one_direction(looks: Looks) -> None:
    assert looks.phone_width <= NARROW, looks.too_wide


def test_what_scrolls_is_reached_from_the_keyboard(looks: Looks) -> None:
    assert looks.out_of_reach == []


def test_paper_shows_the_solutions_and_nothing_to_click(looks: Looks) -> None:
    assert looks.paper["buttons"] == []
    assert looks.paper["open"] == looks.paper["solutions"]


def test_a_dark_page_is_printed_in_light_colours(looks: Looks) -> None:
    assert looks.printed_from_dark == ["dark", "light", "dark"]
