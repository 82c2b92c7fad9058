"""What the papers say: every claim has a verdict, and the numbers that show it.

The first part reads the built site. The second builds tiny books with nothing but the
extension, good ones and careless ones.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from bs4 import Tag
from conftest import PAGES, ROOT, Page
from test_site import Claim, article, claims_of, local_target, text_of

from fpbook.claims import Row

VERDICTS = ("holds", "holds with conditions", "does not hold", "not tested")
PAPERS = ("miyagawa2022toward", "shemur2024weak", "bu2025fokker", "qiu2024optimization")
# Of each abstract, and of all pages; the abstracts have seven sentences and more.
PAPER_CLAIMS = 4
PAGE_CLAIMS = 80

# --- the built site -----------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """A claim of a paper, as the page of findings shows it."""

    anchor: str
    paper: str
    statement: str
    verdict: str
    explanation: str
    shown: tuple[tuple[Path, str], ...]


def page_named(name: str) -> Page:
    (found,) = (page for page in PAGES if page.name == name)
    return found


def finding(block: Tag) -> Finding:
    page = page_named("book/findings")
    section = block.find_parent("section")
    assert section is not None
    heading = section.select_one("h2")
    assert heading is not None
    title, statement, *rest = block.find_all("p", recursive=False)
    said, explanation = text_of(statement), [text_of(p) for p in rest]
    assert said.startswith("The paper says: ")
    links = block.select("ul a")
    if links:
        assert explanation.pop() == "Shown by:"
    return Finding(
        str(block["id"]),
        text_of(heading).rstrip("#"),
        said.removeprefix("The paper says: "),
        text_of(title).lower(),
        " ".join(explanation),
        tuple(local_target(page, str(link["href"])) for link in links),
    )


@pytest.fixture(scope="module")
def findings(site: Path) -> list[Finding]:
    blocks = article(page_named("book/findings")).select(".fpbook-finding")
    return [finding(block) for block in blocks]


@pytest.fixture(scope="module")
def claims(site: Path) -> dict[tuple[Path, str], Claim]:
    stated = [claim for page in PAGES for claim in claims_of(page)]
    return {(claim.page, claim.anchor): claim for claim in stated}


def test_findings_are_explained_and_named_once(findings: list[Finding]) -> None:
    assert len({found.anchor for found in findings}) == len(findings)
    assert len({found.statement for found in findings}) == len(findings)
    assert {found.verdict for found in findings} <= set(VERDICTS)
    assert [found.anchor for found in findings if not found.explanation] == []


def test_findings_are_shown_by_claims_that_hold(
    findings: list[Finding], claims: dict[tuple[Path, str], Claim]
) -> None:
    for found in findings:
        assert bool(found.shown) == (found.verdict != "not tested"), found.anchor
        assert len(set(found.shown)) == len(found.shown), found.anchor
        for target in found.shown:
            assert target in claims, f"{found.anchor}: {target}"
            assert claims[target].data["verdict"] == "holds"


def test_a_link_says_the_claim_that_it_leads_to(
    site: Path, claims: dict[tuple[Path, str], Claim]
) -> None:
    page = page_named("book/findings")
    links = article(page).select(".fpbook-finding ul a")
    assert links
    for link in links:
        claim = claims[local_target(page, str(link["href"]))]
        assert text_of(link) == " ".join(claim.data["statement"].split())


def test_every_paper_is_cited_and_has_its_claims(findings: list[Finding]) -> None:
    papers = [found.paper for found in findings]
    assert len(set(papers)) == len(PAPERS)
    assert min(papers.count(paper) for paper in papers) >= PAPER_CLAIMS
    source = page_named("book/findings").source.read_text("utf-8")
    sections = re.split(r"^## ", source, flags=re.MULTILINE)[1:]
    for paper, section in zip(PAPERS, sections, strict=False):
        assert f"{{cite:t}}`{paper}`" in section
        assert "```{paper-claim}" in section


def test_every_chapter_is_named_among_the_findings(chapter: Page, site: Path) -> None:
    page = page_named("book/findings")
    links = article(page).select("a[href]")
    targets = {
        local_target(page, str(link["href"]))[0]
        for link in links
        if not str(link["href"]).startswith("http")
    }
    assert chapter.built in targets


def test_the_ledger_lists_the_findings(findings: list[Finding]) -> None:
    ledger, page = page_named("book/ledger"), page_named("book/findings")
    (table,) = article(ledger).select("table.fpbook-findings")
    rows = []
    for row in table.select("tbody tr"):
        paper, statement, verdict = row.select("td")
        (link,) = verdict.select("a")
        target = local_target(ledger, str(link["href"]))
        rows.append((text_of(paper), text_of(statement), text_of(verdict), target))
    assert rows == [
        (f.paper, f.statement, f.verdict, (page.built, f.anchor)) for f in findings
    ]
    verdicts = [found.verdict for found in findings]
    counts = ", ".join(f"{verdict}: {verdicts.count(verdict)}" for verdict in VERDICTS)
    summary = f"{len(findings)} claims of {len(PAPERS)} papers; {counts}."
    assert summary in text_of(article(ledger))
    first, *_ = article(ledger).select("table")
    assert first is table


def test_the_book_makes_many_claims(claims: dict[tuple[Path, str], Claim]) -> None:
    assert len(claims) >= PAGE_CLAIMS


# --- tiny books ---------------------------------------------------------------------

CONFIGURATION = f"""\
import sys

sys.path.insert(0, {str(ROOT / "book" / "_ext")!r})
extensions = ["myst_parser", "ledger"]
html_theme = "basic"
"""
INDEX = """\
# A tiny book

```{toctree}
numbers
findings
ledger
```
"""
LEDGER = """\
# Ledger

```{paper-claims-ledger}
```

```{claims-ledger}
```
"""
GOOD = """\
# Findings

## Somebody

```{paper-claim} two
---
verdict: holds with conditions
shown: |
  - one & one
    is two
---
One and one *are* two.

If neither is a drop of water.
```

```{paper-claim} three
:verdict: not tested

Three is a crowd.

Of what we do not know.
```
"""
CARELESS = """\
# Findings

## Somebody

```{paper-claim} unknown
---
verdict: holds
shown: |
  - one & one is two
  - one and one is three
---
A statement.

An explanation.
```

```{paper-claim} unshown
:verdict: holds

A statement.

An explanation.
```

```{paper-claim} shown
---
verdict: not tested
shown: |
  - one & one is two
---
A statement.

An explanation.
```

```{paper-claim} verdict
---
verdict: plausible
shown: |
  - one & one is two
---
A statement.

An explanation.
```

```{paper-claim} unexplained
:verdict: not tested

A statement.
```

```{paper-claim} empty
:verdict: not tested
```

```{paper-claim} unshown
:verdict: not tested

A statement.

An explanation.
```
"""
COMPLAINTS = (
    "paper-claim: 0 pages claim 'one and one is three', must be one",
    "paper-claim unshown: the verdict 'holds' must be shown by a claim, got none",
    "paper-claim shown: what a claim shows is tested, got the verdict 'not tested'",
    "paper-claim verdict: verdict must be one of holds, holds with conditions, does "
    "not hold, not tested, got 'plausible'",
    "paper-claim unexplained: needs a paragraph of the paper's and one that explains",
    "paper-claim empty: needs a paragraph of the paper's and one that explains",
    "two claims of papers have one name: finding-unshown",
)


def claim_on_page(statement: str) -> str:
    """A page that makes one claim, as a notebook's output would."""
    row = Row(statement, "2", "2", "holds", "arithmetic")
    shown = row._repr_mimebundle_()["text/html"]
    return f"# Numbers\n\n```{{raw}} html\n{shown}\n```\n"


def build(folder: Path, findings: str, builder: str = "html") -> tuple[int, str]:
    """Build a tiny book as strictly as the real one; return exit code and log."""
    pages = {
        "conf.py": CONFIGURATION,
        "index.md": INDEX,
        "numbers.md": claim_on_page("one & one is two"),
        "findings.md": findings,
        "ledger.md": LEDGER,
    }
    for name, text in pages.items():
        (folder / name).write_text(text, "utf-8")
    strict = ["-q", "-W", "-n", "--keep-going", "--no-color", "-b", builder]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *strict, ".", builder],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


def test_a_finding_leads_to_its_claim_and_stands_in_the_ledger(tmp_path: Path) -> None:
    code, log = build(tmp_path, GOOD)
    assert code == 0, log
    page = (tmp_path / "html" / "findings.html").read_text("utf-8")
    assert 'id="finding-two"' in page
    assert 'href="numbers.html#claim-one-one-is-two">one &amp; one is two</a>' in page
    ledger = (tmp_path / "html" / "ledger.html").read_text("utf-8")
    assert 'href="findings.html#finding-two">holds with conditions</a>' in ledger
    assert "<p>One and one are two.</p>" in ledger
    assert (
        "2 claims of 1 papers; holds: 0, holds with conditions: 1, does not hold: 0, "
        "not tested: 1." in ledger
    )


def test_every_careless_finding_is_told(tmp_path: Path) -> None:
    code, log = build(tmp_path, CARELESS)
    assert code != 0, log
    for complaint in COMPLAINTS:
        assert re.search(rf"findings.*WARNING: {re.escape(complaint)}", log), log
    assert log.count("WARNING") == len(COMPLAINTS), log


def test_a_finding_can_be_printed(tmp_path: Path) -> None:
    code, log = build(tmp_path, GOOD, builder="latex")
    assert code == 0, log
    (source,) = (tmp_path / "latex").glob("*.tex")
    text = source.read_text("utf-8")
    assert r"one \& one is two" in text
    # The anchors of the outputs are not in print: a link would lead nowhere.
    assert "claim-one-one" not in text
    assert "Holds with conditions" in text
