"""What the tests of the built book share: its pages, and a word on what was skipped."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import yaml
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
# The build that is tested: that of make book, or _build/sphinx for that of make sphinx.
BUILT = ROOT / os.environ.get("FPBOOK_BUILT", "_build")
SITE = BUILT / "html"
# What it was built by: plain Sphinx has an environment of its own, beside its site.
OWN = BUILT / ".venv" / "bin" / "python"
PYTHON = str(OWN) if OWN.exists() else sys.executable
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]


@dataclass(frozen=True)
class Page:
    """A page of the table of contents; a chapter is a page of a numbered part."""

    name: str
    chapter: bool

    @property
    def source(self) -> Path:
        return ROOT / f"{self.name}.md"

    @property
    def built(self) -> Path:
        return SITE / f"{self.name}.html"

    @property
    def notebook(self) -> Path:
        return BUILT / "jupyter_execute" / f"{self.name}.ipynb"

    @property
    def executable(self) -> bool:
        return self.source.read_text("utf-8").startswith("---\njupytext:")


def read_contents() -> list[Page]:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    pages = [Page(contents["root"], chapter=False)]
    for part in contents["parts"]:
        numbered = bool(part.get("numbered", False))
        pages += [Page(entry["file"], numbered) for entry in part["chapters"]]
    return pages


PAGES = read_contents()
# Arguments of a test that stand for every page of one kind.
KINDS = {
    "page": PAGES,
    "executable_page": [page for page in PAGES if page.executable],
    "chapter": [page for page in PAGES if page.chapter],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once per page if it has an argument named in ``KINDS``."""
    for argument, pages in KINDS.items():
        if argument in metafunc.fixturenames:
            names = [page.name.removeprefix("book/") for page in pages]
            metafunc.parametrize(argument, pages, ids=names)


@pytest.fixture(scope="session")
def pages() -> list[Page]:
    return PAGES


@pytest.fixture(scope="session")
def site() -> Path:
    """The built site, which has to hold every page of the table of contents."""
    missing = [page.name for page in PAGES if not page.built.exists()]
    if missing:
        pytest.fail(f"run make book first: not built are {missing}", pytrace=False)
    return SITE


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What progress bars are told: total and description, then each amount."""
    said: list[Any] = []

    class Recorder:
        def __init__(self, total: float, description: str) -> None:
            said.append((total, description))

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *exception: object) -> None:
            return None

        def update(self, amount: float) -> None:
            said.append(amount)

    monkeypatch.setattr("fpbook.progress.bar", Recorder)
    return said


def find_browser() -> str | None:
    found = (shutil.which(name) for name in BROWSERS)
    return next((path for path in found if path), None)


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell the words of each chapter, and loudly that no browser was found."""
    told = {
        f"{name}: {value}"
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", [])
    }
    if told:
        terminalreporter.section("size of the book")
        for line in sorted(told):
            terminalreporter.line(line)
    if find_browser() is None:
        terminalreporter.section("NO BROWSER", sep="!", red=True, bold=True)
        terminalreporter.line(
            f"None of {', '.join(BROWSERS)} is installed: the pages were NOT tried in "
            "a browser (mathematics, sliders, narrow screens)."
        )
        if os.environ.get("FPBOOK_REQUIRE_BROWSER") != "1":
            terminalreporter.line("FPBOOK_REQUIRE_BROWSER=1 makes this a failure.")
