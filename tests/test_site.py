"""The built site: complete without a network, honest, legible, and as promised.

Reads the build as ``make book`` left it; the promises are those of the authors' page.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from conftest import BUILT, PAGES, ROOT, SITE, Page
from jupyter_cache import get_cache

pytestmark = pytest.mark.usefixtures("site")

FIRST_SECTIONS = ["What you will learn", "Prerequisites and time", "The question"]
LAST_SECTIONS = [
    "Claims checked",
    "Limits and open questions",
    "Summary",
    "Exercises",
    "Further reading",
]
# What the authors' page promises: two to four thousand words (a tenth more is not
# worth cutting for), four to six exercises, short cells.
WORDS = (2000, 4500)
EXERCISES = (4, 6)
CELL_LINES = 25
# One number is no evidence; the best books of the kind check none.
CLAIMS = 3
EXPLORERS = {"descent": 3, "linearity": 3, "diffusion": 4, "scale": 4, "circulation": 4}
# A page is read on a phone: 2 MB take ten seconds on a slow mobile line.
PAGE_BYTES = 2_000_000
# The budget of a page on one core, and of the whole book on two.
PAGE_SECONDS = 60.0
BOOK_SECONDS = 600.0


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def article(page: Page) -> Tag:
    (found,) = soup(page.built).select("article.bd-article")
    return found


def text_of(tag: Tag) -> str:
    return " ".join(tag.get_text().split())


@cache
def code_cells(page: Page) -> list[Any]:
    """The executed code cells of a page, with their outputs.

    From the cache that the build read them from: the notebooks in ``jupyter_execute``
    hold no outputs if the cache did (myst-nb 1.4). Found by their code, since the keys
    of the cache depend on the release of MyST.
    """
    executed = get_cache(str(BUILT / ".jupyter_cache"))
    notebook = executed.get_project_notebook(str(page.source)).nb
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    for record in executed.list_cache_records():
        if record.uri == str(page.source):
            cells = list(executed.get_cache_bundle(record.pk).nb.cells)
            if [cell.source for cell in cells] == code:
                return cells
    pytest.fail(f"run make book first: {page.name} was edited", pytrace=False)


# --- the sources --------------------------------------------------------------------

FENCE = re.compile(r"^(`{3,})([^`\n]*)\n(.*?)^\1`*[ ]*$", re.MULTILINE | re.DOTALL)
CODE_CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CELL_OPTIONS = re.compile(r"\A(---\n.*?^---\n|(:[^\n]*\n)+)", re.MULTILINE | re.DOTALL)


def without_code(text: str) -> str:
    """Take out code cells and listings; the content of other directives stays."""

    def content(block: re.Match[str]) -> str:
        kind, inner = block[2].strip(), block[3]
        is_text = kind.startswith("{") and not kind.startswith("{code-cell}")
        return without_code(inner) if is_text else ""

    return FENCE.sub(content, text)


def prose(page: Page) -> str:
    """The text of a page: no front matter, code, option lines and exercises."""
    text = page.source.read_text("utf-8")
    text = re.sub(r"\A---\n.*?^---\n", "", text, flags=re.MULTILINE | re.DOTALL)
    text = without_code(text)
    text = re.sub(r"^## Exercises$.*?(?=^## |\Z)", "", text, flags=re.M | re.S)
    return re.sub(r"^:.*$|^\([\w-]+\)=$", "", text, flags=re.M)


def count_words(page: Page) -> int:
    """Count words with a letter; a formula in the line is one, a displayed none."""
    text = re.sub(r"\$\$.*?\$\$( *\([\w-]+\))?", " ", prose(page), flags=re.DOTALL)
    text = re.sub(r"\$[^$]+\$", " x ", text)
    return len(re.findall(r"\S*[^\W\d_]\S*", text))


def test_there_are_chapters(pages: list[Page]) -> None:
    """Without chapters the tests of chapters would pass by not running."""
    assert [page.name for page in pages if page.chapter]


def test_a_chapter_has_the_promised_length(
    chapter: Page, record_property: Callable[[str, object], None]
) -> None:
    words = count_words(chapter)
    record_property(f"words of {chapter.name}", words)
    assert WORDS[0] <= words <= WORDS[1], f"{words} words"


def test_code_cells_are_short(executable_page: Page) -> None:
    source = executable_page.source.read_text("utf-8")
    cells = [CELL_OPTIONS.sub("", cell[1]) for cell in CODE_CELL.finditer(source)]
    assert cells
    lengths = [len(cell.strip("\n").splitlines()) for cell in cells]
    too_long = {
        cells[number].strip().splitlines()[0]: length
        for number, length in enumerate(lengths)
        if length > CELL_LINES
    }
    assert not too_long


# Absolute paths of somebody's machine, and places packages come from by themselves.
NOT_PORTABLE = re.compile(
    r"(?<![\w.~-])/(?:work|root|home|Users)/"
    r"|pypi\.(?:org|python)|pythonhosted\.org|npmjs\.(?:org|com)|\banaconda\.(?:org|com)"
)


def test_sources_name_no_machine() -> None:
    """Of what git would hold; binary files are passed over."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    found = []
    for name in sorted(set(done.stdout.split("\0")) - {""}):
        file = ROOT / name
        if not file.is_file() or file == Path(__file__):
            continue
        content = file.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), 1):
            if NOT_PORTABLE.search(line):
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


# --- nothing from outside -----------------------------------------------------------

LOADING_LINKS = {"stylesheet", "preload", "modulepreload", "prefetch", "manifest"}
LOADING_LINKS |= {"icon", "apple-touch-icon", "preconnect", "dns-prefetch"}
LOADING = {
    "script": ["src"],
    "img": ["src", "srcset"],
    "image": ["href", "xlink:href"],
    "use": ["href", "xlink:href"],
    "iframe": ["src"],
    "embed": ["src"],
    "object": ["data"],
    "audio": ["src"],
    "video": ["src", "poster"],
    "source": ["src", "srcset"],
    "track": ["src"],
    "input": ["src"],
}
CSS_LOADS = re.compile(
    r"""@import\s+(?:url\(\s*)?["']?([^"')\s;]+)|url\(\s*["']?([^"')]+)"""
)
QUOTED_ADDRESS = re.compile(r"""["'`]((?:https?:|wss?:)?//[\w.-]+[^"'`\s]*)""")


def is_outside(address: str) -> bool:
    parts = urlsplit(address.strip())
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def css_addresses(style: str) -> Iterator[str]:
    style = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL)
    for load in CSS_LOADS.finditer(style):
        yield (load[1] or load[2]).strip()


def loaded(page: Page) -> Iterator[str]:
    """Every address that a browser loads by itself when it shows the page."""
    tree = soup(page.built)
    for name, attributes in LOADING.items():
        for tag in tree.find_all(name):
            for attribute in attributes:
                for candidate in str(tag.get(attribute, "")).split(", "):
                    if candidate:
                        yield candidate.split(" ")[0]
    for link in tree.find_all("link"):
        if LOADING_LINKS & {str(kind).lower() for kind in link.get("rel") or []}:
            yield str(link["href"])
    for style in tree.find_all("style"):
        yield from css_addresses(style.get_text())
    for tag in tree.select("[style]"):
        yield from css_addresses(str(tag["style"]))
    for script in tree.find_all("script"):
        for address in QUOTED_ADDRESS.finditer(script.get_text()):
            yield address[1]


def style_sheets(page: Page) -> list[Path]:
    links = soup(page.built).select("link[rel~=stylesheet]")
    return [local_target(page, str(link["href"]))[0] for link in links]


def test_a_page_loads_nothing_from_outside(page: Page) -> None:
    assert [address for address in loaded(page) if is_outside(address)] == []


def test_style_sheets_load_nothing_from_outside(page: Page) -> None:
    sheets = style_sheets(page)
    assert sheets
    while sheets:
        sheet = sheets.pop()
        for address in css_addresses(sheet.read_text("utf-8")):
            assert not is_outside(address), f"{sheet.name}: {address}"
            if not address.startswith(("data:", "#")):
                file = sheet.parent / unquote(urlsplit(address).path)
                assert file.is_file(), f"{sheet.name}: {address} does not exist"
                if file.suffix == ".css":
                    sheets.append(file)


def test_the_house_style_reaches_the_page(page: Page) -> None:
    """Without it explorers, claims and figures are shown as the browser pleases."""
    house = sorted(file.name for file in (ROOT / "book" / "_static").glob("*.css"))
    assert set(house) <= {sheet.name for sheet in style_sheets(page)}


# --- every reference leads somewhere ------------------------------------------------


def local_target(page: Page, reference: str) -> tuple[Path, str]:
    """File and fragment that a local reference of a page stands for."""
    parts = urlsplit(reference)
    if parts.path:
        file = (page.built.parent / unquote(parts.path)).resolve()
    else:
        file = page.built
    if file.is_dir():
        file = file / "index.html"
    return file, unquote(parts.fragment)


@cache
def anchors(file: Path) -> set[str]:
    tree = soup(file)
    named = {str(tag["name"]) for tag in tree.select("a[name]")}
    return {str(tag["id"]) for tag in tree.select("[id]")} | named


def local_references(page: Page) -> Iterator[str]:
    for name, attribute in (
        ("script", "src"),
        ("link", "href"),
        ("img", "src"),
        ("a", "href"),
    ):
        for tag in soup(page.built).select(f"{name}[{attribute}]"):
            reference = str(tag[attribute]).strip()
            parts = urlsplit(reference)
            if not parts.scheme and not parts.netloc and reference:
                yield reference


def test_local_references_resolve(page: Page) -> None:
    broken = []
    for reference in sorted(set(local_references(page))):
        file, fragment = local_target(page, reference)
        known = file.is_file() and file.is_relative_to(SITE)
        if known and fragment and file.suffix == ".html":
            known = fragment in anchors(file)
        if not known:
            broken.append(reference)
    assert broken == []


def test_the_front_door_leads_to_the_book() -> None:
    (refresh,) = soup(SITE / "index.html").select('meta[http-equiv="Refresh" i]')
    address = str(refresh["content"]).partition("url=")[2]
    assert SITE / address == PAGES[0].built


# --- figures ------------------------------------------------------------------------


def is_description(alt: str, source: str) -> bool:
    """Tell words for a reader from a path, a hash or a place-holder."""
    alt = alt.strip()
    path_or_hash = re.fullmatch(r"\S*[/\\]\S*|\S+\.\w{3,4}|[0-9a-f]{12,}", alt)
    return bool(alt) and alt != source and not path_or_hash and len(alt.split()) > 1


def test_images_are_described(page: Page) -> None:
    silent = []
    for image in soup(page.built).find_all("img"):
        if image.get("role") == "presentation" or image.get("aria-hidden") == "true":
            continue
        alt, source = str(image.get("alt", "")), str(image["src"])
        if not is_description(alt, source):
            silent.append(f"{source[:80]}: alt={alt!r}")
    assert silent == []


def test_cell_figures_are_numbered_and_captioned(page: Page) -> None:
    for shown in article(page).select(".cell_output img, .fpbook-explorer"):
        figure = shown.find_parent("figure")
        assert isinstance(figure, Tag), f"not in a figure: {str(shown)[:100]}"
        assert figure.get("id"), "the figure has no name to refer to"
        number = figure.select_one("figcaption .caption-number")
        caption = figure.select_one("figcaption .caption-text")
        assert number is not None, f"{figure['id']} has no number"
        assert text_of(number).startswith("Fig. ")
        assert caption is not None, f"{figure['id']} has no caption"
        assert len(text_of(caption).split()) > 2


def explorers_of(part: str) -> list[Tag]:
    return [
        explorer
        for page in PAGES
        if page.name.startswith(f"book/{part}/")
        for explorer in article(page).select(".fpbook-explorer")
    ]


@pytest.mark.parametrize(("part", "number"), EXPLORERS.items(), ids=EXPLORERS)
def test_a_part_can_be_explored(part: str, number: int) -> None:
    assert len(explorers_of(part)) >= number


def test_densities_flow_at_the_press_of_a_button() -> None:
    assert any(e.select(".fpbook-explorer-play") for e in explorers_of("diffusion"))


def test_a_page_is_light(page: Page) -> None:
    sources = {str(image["src"]) for image in soup(page.built).select("img[src]")}
    files = {
        local_target(page, source)[0]
        for source in sources
        if not source.startswith("data:")
    }
    weight = sum(file.stat().st_size for file in [page.built, *files])
    assert weight <= PAGE_BYTES


# --- chapters -----------------------------------------------------------------------


def section_title(heading: Tag) -> str:
    number = heading.select_one(".section-number")
    title = text_of(heading).removesuffix("#").strip()
    return title.removeprefix(text_of(number)).strip() if number else title


def test_a_chapter_has_the_sections_of_the_template(chapter: Page) -> None:
    titles = [section_title(heading) for heading in article(chapter).select("h2")]
    assert titles[: len(FIRST_SECTIONS)] == FIRST_SECTIONS
    assert titles[-len(LAST_SECTIONS) :] == LAST_SECTIONS
    assert len(titles) > len(FIRST_SECTIONS) + len(LAST_SECTIONS)
    for heading in article(chapter).select("h2"):
        section = heading.find_parent("section")
        assert isinstance(section, Tag)
        assert len(text_of(section)) > len(text_of(heading)), f"empty: {heading}"


def test_a_chapter_has_exercises_with_executed_solutions(chapter: Page) -> None:
    exercises = article(chapter).select("div.exercise")
    number = len(exercises)
    assert EXERCISES[0] <= number <= EXERCISES[1]
    solutions = len(article(chapter).select("div.solution"))
    assert solutions == number
    for exercise in exercises:
        solution = exercise.find_next_sibling("div")
        assert isinstance(solution, Tag)
        kinds = set(solution.get("class") or [])
        assert {"solution", "dropdown"} <= kinds, f"not hidden: {exercise['id']}"
        output = solution.select_one(".cell_input ~ .cell_output")
        assert output is not None, f"not executed: solution of {exercise['id']}"
        assert text_of(output) or output.select("img"), f"no output: {exercise['id']}"


def test_a_chapter_checks_its_numbers(chapter: Page) -> None:
    number = len(article(chapter).select(".fpbook-claim"))
    assert number >= CLAIMS


@cache
def references() -> set[tuple[Path, str]]:
    """All places that the text of the book refers to."""
    return {
        local_target(page, str(link["href"]))
        for page in PAGES
        for link in article(page).select("a.reference[href*='#']")
        if not urlsplit(str(link["href"])).netloc
    }


def test_numbered_equations_are_referred_to(chapter: Page) -> None:
    """A number nobody refers to is noise, or a forgotten reference."""
    numbered = {
        str(box["id"])
        for box in article(chapter).select("div.math")
        if box.select_one(":scope > .eqno")
    }
    assert numbered
    unused = {name for name in numbered if (chapter.built, name) not in references()}
    assert unused == set()


RAW = re.compile(r"\$|\\[a-zA-Z]{2,}|\{(?:eq|cite|numref|ref|doc)[:\w]*\}")
NOT_PROSE = ("pre", "code", "script", "style")


def test_no_markup_is_left_in_the_text(page: Page) -> None:
    """A formula whose line starts with a plus sign, say, becomes a list."""
    raw = []
    for string in article(page).find_all(string=RAW):
        above = [tag for tag in string.parents if isinstance(tag, Tag)]
        in_formula = any("math" in (tag.get("class") or []) for tag in above)
        if not in_formula and not any(tag.name in NOT_PROSE for tag in above):
            raw.append(" ".join(str(string).split()))
    assert raw == []


# --- citations ----------------------------------------------------------------------

ENTRY = re.compile(r"^@\w+\{([^,\s]+),(.*?)^\}", re.MULTILINE | re.DOTALL)
DOI = re.compile(r"^\s*doi\s*=\s*[{\"]10\.\d{4,}/\S+[}\"]", re.MULTILINE)
CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")


def entries() -> dict[str, str]:
    text = (ROOT / "book" / "references.bib").read_text("utf-8")
    assert text.count("@") == len(ENTRY.findall(text))
    return dict(ENTRY.findall(text))


def cited() -> set[str]:
    return {
        key.strip()
        for page in PAGES
        for keys in CITATION.findall(without_code(page.source.read_text("utf-8")))
        for key in keys.split(",")
    }


def test_works_are_cited_and_known() -> None:
    assert cited() == set(entries())


def test_works_have_a_doi() -> None:
    wrong = [
        key
        for key, fields in entries().items()
        if not re.search(
            r"^\s*doi\s*=\s*[{\"]10\.\d{4,}/\S+[}\"]", fields, re.MULTILINE
        )
    ]
    assert wrong == []


# --- claims -------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A claim as its page states it."""

    page: Path
    anchor: str
    data: dict[str, str]


def claims_of(page: Page) -> list[Claim]:
    return [
        Claim(page.built, str(claim["id"]), json.loads(str(claim["data-claim"])))
        for claim in article(page).select(".fpbook-claim")
    ]


def assert_lists(tables: list[Tag], page: Page, claims: list[Claim]) -> None:
    """The tables of a page list exactly these claims, in order, each with its link."""
    rows = []
    for table in tables:
        _, *columns = [text_of(name) for name in table.select("thead th")]
        assert columns
        rows += [(row, columns) for row in table.select("tbody tr")]
    targets = []
    for row, _ in rows:
        (link,) = row.select("a")
        targets.append(local_target(page, str(link["href"])))
    assert targets == [(claim.page, claim.anchor) for claim in claims]
    for (row, columns), claim in zip(rows, claims, strict=True):
        assert claim.anchor in anchors(claim.page)
        fields = [claim.data[name] for name in ("statement", *columns)]
        expected = [" ".join(text.split()) for text in fields]
        assert [text_of(cell) for cell in row.select("td")] == expected


def test_every_claim_holds(page: Page) -> None:
    assert {claim.data["verdict"] for claim in claims_of(page)} <= {"holds"}


def test_the_ledger_holds_every_claim_once() -> None:
    (ledger,) = (page for page in PAGES if page.name == "book/ledger")
    stated = [claim for page in PAGES for claim in claims_of(page)]
    assert_lists(article(ledger).select("table.fpbook-ledger"), ledger, stated)
    pages = {claim.page for claim in stated}
    total = f"{len(stated)} claims on {len(pages)} pages, all checked in this build."
    assert total in text_of(article(ledger))


def test_a_chapter_lists_its_own_claims(chapter: Page) -> None:
    tables = article(chapter).select("table.fpbook-ledger")
    assert_lists(tables, chapter, claims_of(chapter))


# --- execution ----------------------------------------------------------------------


def execution_table() -> dict[str, tuple[float, str]]:
    """Seconds and status of each executed page, as the status page shows them."""
    (status,) = (page for page in PAGES if page.name == "book/status")
    table = next(
        table
        for table in article(status).select("table")
        if "Run Time (s)" in text_of(table)
    )
    rows = {}
    for row in table.select("tbody tr"):
        name, _, _, seconds, verdict = (text_of(cell) for cell in row.select("td"))
        rows[name] = float(seconds), verdict
    return rows


def test_executable_pages_are_listed_as_executed() -> None:
    expected = {page.name for page in PAGES if page.executable}
    table = execution_table()
    assert set(table) == expected
    assert {name for name, (_, verdict) in table.items() if verdict != "✅"} == set()


def test_a_page_runs_within_its_budget(
    executable_page: Page, record_property: Callable[[str, object], None]
) -> None:
    seconds, _ = execution_table()[executable_page.name]
    record_property(f"seconds of {executable_page.name}", seconds)
    assert seconds <= PAGE_SECONDS


def test_the_book_runs_within_its_budget() -> None:
    assert sum(seconds for seconds, _ in execution_table().values()) <= BOOK_SECONDS


def test_a_page_ran_from_top_to_bottom(executable_page: Page) -> None:
    cells = code_cells(executable_page)
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1))


def test_a_page_shows_the_cells_that_ran(executable_page: Page) -> None:
    source = executable_page.source.read_text("utf-8")
    written = [CELL_OPTIONS.sub("", cell[1]) for cell in CODE_CELL.finditer(source)]
    shown = article(executable_page).select(".cell_input pre")
    expected = [cell.strip("\n") for cell in written]
    assert [cell["source"] for cell in code_cells(executable_page)] == expected
    assert [cell.get_text().strip("\n") for cell in shown] == expected


def test_a_page_ran_without_a_complaint(executable_page: Page) -> None:
    for cell in code_cells(executable_page):
        for output in cell["outputs"]:
            assert output["output_type"] != "error", output["evalue"]
            assert output.get("name") != "stderr", output["text"]
            kinds = set(output.get("data", {}))
            # A widget of a kernel that is gone looks alive and is not.
            assert not {kind for kind in kinds if "widget" in kind}


def test_figures_have_a_form_for_print(executable_page: Page) -> None:
    """The page shows SVG or an explorer; PDF and Colab need the PNG beside it."""
    for cell in code_cells(executable_page):
        for output in cell["outputs"]:
            kinds = set(output.get("data", {}))
            explored = "fpbook-explorer" in str(output.get("data", {}).get("text/html"))
            if explored or {"image/svg+xml", "image/png"} & kinds:
                assert "image/png" in kinds
                assert explored or "image/svg+xml" in kinds


# Of a traceback, a warning on stdout, tqdm in both its forms.
COMPLAINT = re.compile(
    r"traceback|\w*(?:Error|Exception|Warning):|\d ?%\|| it/s\b|█|▏", re.IGNORECASE
)


def test_outputs_show_no_complaint_and_no_bar(page: Page) -> None:
    for output in article(page).select(".cell_output"):
        text = " ".join(
            str(string)
            for string in output.find_all(string=True)
            if string.parent is not None and string.parent.name != "script"
        )
        assert not COMPLAINT.search(text), text
        assert str(ROOT) not in text, text


def test_the_configuration_is_strict() -> None:
    """Whoever loosens the build has to say so here as well."""
    execution = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["execute"]
    assert execution["allow_errors"] is False
    assert execution["raise_on_error"] is True
    assert execution["stderr_output"] in ("warn", "error")
    assert execution["timeout"] <= 120
    assert '"-W", "-n"' in (ROOT / "book" / "_ext" / "build.py").read_text("utf-8")
