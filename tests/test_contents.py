"""What the pages say about the book: paths, times, citations, addresses, versions."""

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from conftest import BUILT, PAGES, PYTHON, ROOT, SITE, Page
from pybtex.database import parse_string
from test_export import load

pytestmark = pytest.mark.usefixtures("site")

INDEX = PAGES[0]
CHAPTERS = [page for page in PAGES if page.chapter]
REDIRECTS = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"][
    "config"
]["redirects"]


def article(page: Page) -> Tag:
    tree = BeautifulSoup(page.built.read_text("utf-8"), "html.parser")
    (found,) = tree.select("article.bd-article")
    return found


def text_of(tag: Tag) -> str:
    return " ".join(tag.get_text().split())


def target(page: Page, link: Tag) -> Path:
    return (page.built.parent / urlsplit(str(link["href"])).path).resolve()


def prerequisites(page: Page) -> list[Page]:
    """The chapters that the source of a chapter links to as prerequisites."""
    source = page.source.read_text("utf-8")
    section = source.split("## Prerequisites and time\n")[1].split("\n## ")[0]
    named = [
        (page.source.parent / link).resolve()
        for link in re.findall(r"\]\(([\w./-]+\.md)\)", section)
    ]
    return [chapter for file in named for chapter in CHAPTERS if chapter.source == file]


# --- the first page -----------------------------------------------------------------


def test_the_first_page_lists_every_chapter_with_its_times() -> None:
    (table,) = article(INDEX).select("table.fpbook-contents")
    rows = table.select("tbody tr")
    assert len(rows) == len(CHAPTERS)
    for number, (row, chapter) in enumerate(zip(rows, CHAPTERS, strict=True), start=1):
        title, before, read, run = row.select("td")
        (link,) = title.select("a")
        assert target(INDEX, link) == chapter.built
        assert text_of(title).startswith(f"{number} ")
        wanted = [page.built for page in prerequisites(chapter)]
        assert [target(INDEX, link) for link in before.select("a")] == wanted
        assert re.fullmatch(r"\d+ min", text_of(read))
        assert re.fullmatch(r"\d+ s", text_of(run))


def test_the_path_leads_to_every_chapter() -> None:
    (drawing,) = article(INDEX).select("svg.fpbook-path")
    found = [target(INDEX, link) for link in drawing.select("a")]
    assert found == [chapter.built for chapter in CHAPTERS]
    arrows = drawing.select("path[marker-end]")
    assert len(arrows) == sum(len(prerequisites(chapter)) for chapter in CHAPTERS)
    assert str(drawing["aria-label"]).startswith("Reading path: chapter 1 after none;")


def test_only_the_first_chapter_needs_none() -> None:
    assert [page for page in CHAPTERS if not prerequisites(page)] == [CHAPTERS[0]]


def test_what_is_needed_comes_earlier(chapter: Page) -> None:
    for needed in prerequisites(chapter):
        assert CHAPTERS.index(needed) < CHAPTERS.index(chapter)


# --- chapters -----------------------------------------------------------------------


def test_a_chapter_says_how_long_it_takes(chapter: Page) -> None:
    said = re.search(
        r"Reading this page takes about (\d+) minutes\. "
        r"It ran for (\d+) s when it was built\.",
        text_of(article(chapter)),
    )
    assert said
    assert 20 <= int(said[1]) <= 90
    times = json.loads((BUILT / "run_times.json").read_text())
    # Both are rounded, the times to a tenth.
    assert abs(int(said[2]) - times[chapter.source.stem]) <= 0.55


def test_a_chapter_can_be_cited(chapter: Page) -> None:
    (box,) = article(chapter).select("div.fpbook-cite")
    listing = box.select_one("pre")
    assert listing is not None
    ((_, entry),) = parse_string(listing.get_text(), "bibtex").entries.items()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert entry.type == "incollection"
    assert entry.fields["booktitle"].strip("{}") == citation["title"]
    assert entry.fields["chapter"] == str(CHAPTERS.index(chapter) + 1)
    assert entry.fields["note"] == f"Version {citation['version']}"
    heading = article(chapter).select_one("h1")
    assert heading is not None
    assert entry.fields["title"].strip("{}") in text_of(heading)


def test_a_page_over_its_budget_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings fail the strict build."""
    contents = load("contents")
    told: list[Any] = []
    monkeypatch.setattr(
        contents, "LOGGER", SimpleNamespace(warning=lambda *a, **k: told.append((a, k)))
    )
    monkeypatch.delenv("FPBOOK_PAGE_SECONDS", raising=False)
    seconds = {"book/quick": 59.0, "book/slow": 61.0}
    monkeypatch.setattr(contents, "chapters", lambda env: seconds)
    monkeypatch.setattr(contents, "_seconds", lambda env, page: seconds[page])
    (tmp_path / "_build").mkdir()
    app = SimpleNamespace(
        config=SimpleNamespace(nb_execution_cache_path=""),
        outdir=tmp_path / "_build" / "html",
    )
    env = SimpleNamespace()
    contents._check_times(app, env)
    ((_, where),) = told
    assert where["location"] == "book/slow"
    monkeypatch.setenv("FPBOOK_PAGE_SECONDS", "120")
    contents._check_times(app, env)
    assert len(told) == 1
    left = json.loads((tmp_path / "_build" / "run_times.json").read_text())
    assert left == {"quick": 59.0, "slow": 61.0}


# --- addresses, versions, words -----------------------------------------------------


@pytest.mark.parametrize(("short", "leads_to"), REDIRECTS.items())
def test_a_short_address_leads_to_its_page(short: str, leads_to: str) -> None:
    page = BeautifulSoup((SITE / f"{short}.html").read_text("utf-8"), "html.parser")
    (refresh,) = page.select('meta[http-equiv="refresh" i]')
    assert str(refresh["content"]).partition("url=")[2] == leads_to
    assert (SITE / leads_to).is_file()


def test_every_chapter_has_a_short_address() -> None:
    assert {f"{chapter.name}.html" for chapter in CHAPTERS} <= set(REDIRECTS.values())


def test_the_short_addresses_are_listed() -> None:
    (page,) = (page for page in PAGES if page.name == "book/cite")
    (table,) = article(page).select("table.fpbook-contents")
    found = [text_of(row.select("td")[0]) for row in table.select("tbody tr")]
    assert found == [f"{short}.html" for short in REDIRECTS]


def test_the_status_page_tells_the_versions() -> None:
    (page,) = (page for page in PAGES if page.name == "book/status")
    (table,) = article(page).select("table.fpbook-contents")
    cells = [[text_of(c) for c in row.select("td")] for row in table.select("tbody tr")]
    (python, _), *packages = cells
    assert python == "Python"
    here = installed()
    told = [name for name in load("contents").PACKAGES if name in here]
    assert {"fpbook", "numpy", "torch", "sphinx"} <= set(told)
    assert packages == [[name, here[name]] for name in told]


def installed() -> dict[str, str]:
    """Versions of the packages where the site was built."""
    code = (
        "import json; from importlib.metadata import distributions; "
        "print(json.dumps({d.name.lower(): d.version for d in distributions()}))"
    )
    done = subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, check=True
    )
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def test_the_glossary_says_where_words_are_explained() -> None:
    (page,) = (page for page in PAGES if page.name == "book/glossary")
    terms = article(page).select("dl.glossary dt")
    assert len(terms) >= 60
    names = [text_of(term).rstrip("#").casefold() for term in terms]
    assert names == sorted(names)
    linked = {
        target(page, link)
        for link in article(page).select("dl.glossary dd a")
        if not urlsplit(str(link["href"])).scheme
    }
    assert {chapter.built for chapter in CHAPTERS} <= linked


def test_the_index_knows_words_of_every_chapter() -> None:
    (page,) = (page for page in PAGES if page.name == "genindex")
    tree = BeautifulSoup(page.built.read_text("utf-8"), "html.parser")
    for chapter in CHAPTERS:
        start = f"{chapter.name}.html#"
        links = tree.select(f'.indextable a[href^="{start}"]')
        assert len(links) >= 8, chapter.name
