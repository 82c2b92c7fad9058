"""The ledger: every claim of every page, and every claim of the papers.

The claims of the pages are read from the built outputs. A claim of a paper is a block
of a page: it has a verdict, and names the claims of the pages that show it.
"""

import html
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)
CLAIM = re.compile(r'class="fpbook-claim[^>]*id="([^"]+)" data-claim="([^"]*)"')
VERDICTS = ("holds", "holds with conditions", "does not hold", "not tested")
# What is kept of each page, and the complaint if it says one thing twice.
KINDS = {
    "claims": "two claims say the same",
    "findings": "two claims of papers have one name",
}
Rows = dict[str, list[dict[str, str]]]
Cell = nodes.Node | list[nodes.Node]


class ledger(nodes.General, nodes.Element):  # noqa: N801  (docutils names nodes so)
    """Place of the ledger in its page."""


class findings(nodes.General, nodes.Element):  # noqa: N801  (docutils names nodes so)
    """Place of the table of the papers' claims in its page."""


class evidence(nodes.General, nodes.Element):  # noqa: N801  (docutils names nodes so)
    """Place of the links from a paper's claim to the claims that show it."""


class Ledger(SphinxDirective):
    """``{claims-ledger}``: the table of all claims, or of those of ``:this-page:``."""

    option_spec = {"this-page": directives.flag}  # noqa: RUF012  (docutils' interface)

    def run(self) -> list[nodes.Node]:
        if "this-page" in self.options:
            return [ledger(page=self.env.docname)]
        return [ledger()]


class Findings(SphinxDirective):
    """``{paper-claims-ledger}``: the table of all claims of the papers."""

    def run(self) -> list[nodes.Node]:
        return [findings()]


class PaperClaim(SphinxDirective):
    """``{paper-claim} name``: what a paper says, our verdict, and what shows it.

    The first paragraph is the paper's statement, the others explain the verdict, one
    of `VERDICTS`. The option ``shown`` lists statements of ``claims.check``, each after
    a dash. The section around the block names the paper.
    """

    required_arguments = 1
    has_content = True
    option_spec = {  # noqa: RUF012  (docutils' interface)
        "verdict": directives.unchanged,
        "shown": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        name, verdict = self.arguments[0], self.options.get("verdict", "")
        shown = _items(self.options.get("shown", ""))
        content = self.parse_content_to_nodes()
        for problem in _problems(verdict, shown, content):
            LOGGER.warning(
                "paper-claim %s: %s", name, problem, location=self.get_location()
            )
        claim = ""
        if content and isinstance(content[0], nodes.paragraph):
            claim = _plain(content[0].astext())
            content[0].insert(0, nodes.strong(text="The paper says: "))
        look = ["fpbook-finding", f"fpbook-finding-{nodes.make_id(verdict)}"]
        anchor = f"finding-{nodes.make_id(name)}"
        block = nodes.admonition(
            "",
            nodes.title("", verdict.capitalize()),
            *content,
            ids=[anchor],
            classes=look,
            claim=claim,
            verdict=verdict,
        )
        self.set_source_info(block)
        if shown:
            block += evidence(shown=shown)
        return [block]


def _items(listing: str) -> list[str]:
    """Split a list with dashes; an item may go on in the next line."""
    items = re.split(r"^\s*- ", listing, flags=re.MULTILINE)
    return [_plain(item) for item in items if item.strip()]


def _plain(text: str) -> str:
    return " ".join(text.split())


def _problems(
    verdict: str, shown: list[str], content: list[nodes.Node]
) -> Iterator[str]:
    if verdict not in VERDICTS:
        yield f"verdict must be one of {', '.join(VERDICTS)}, got {verdict!r}"
    elif verdict == "not tested" and shown:
        yield "what a claim shows is tested, got the verdict 'not tested'"
    elif verdict != "not tested" and not shown:
        yield f"the verdict {verdict!r} must be shown by a claim, got none"
    if len(content) < 2 or not isinstance(content[0], nodes.paragraph):
        yield "needs a paragraph of the paper's and one that explains the verdict"


def _kept(env: Any, kind: str) -> Rows:
    name = f"fpbook_{kind}"
    if not hasattr(env, name):
        setattr(env, name, {})
    rows: Rows = getattr(env, name)
    return rows


def _forget(app: Any, env: Any, docname: str) -> None:
    for kind in KINDS:
        _kept(env, kind).pop(docname, None)


def _collect(app: Any, doctree: nodes.document) -> None:
    env = app.env
    claims = [
        {"anchor": anchor, **json.loads(html.unescape(data))}
        for node in doctree.findall(nodes.raw)
        for anchor, data in CLAIM.findall(node.astext())
    ]
    blocks = [
        {
            "anchor": block["ids"][0],
            "paper": _section(block),
            "claim": block["claim"],
            "verdict": block["verdict"],
        }
        for block in doctree.findall(nodes.admonition)
        if "verdict" in block
    ]
    for kind, rows in (("claims", claims), ("findings", blocks)):
        for anchor, times in Counter(row["anchor"] for row in rows).items():
            if times > 1:
                LOGGER.warning("%s: %s", KINDS[kind], anchor, location=env.docname)
        if rows:
            _kept(env, kind)[env.docname] = rows


def _section(node: nodes.Element) -> str:
    """Title of the section around a node."""
    while not isinstance(node, nodes.section):
        node = node.parent
    return node.children[0].astext()


def _fill(app: Any, doctree: nodes.document, docname: str) -> None:
    for place in list(doctree.findall(ledger)):
        if "page" in place:
            fields = ("verdict", "source")
            place.replace_self(_table(app, docname, docname, fields))
        else:
            place.replace_self(_tables(app, docname))
    for papers in list(doctree.findall(findings)):
        papers.replace_self(_papers(app, docname))
    for shown in list(doctree.findall(evidence)):
        shown.replace_self(_shown(app, docname, shown))


def _tables(app: Any, docname: str) -> list[nodes.Node]:
    env = app.env
    found = _kept(env, "claims")
    ordered = [page for page in _in_reading_order(env) if page in found]
    total = sum(len(found[page]) for page in ordered)
    summary = f"{total} claims on {len(ordered)} pages, all checked in this build."
    parts: list[nodes.Node] = [nodes.paragraph(text=summary)]
    for page in ordered:
        address = app.builder.get_relative_uri(docname, page)
        title = nodes.rubric()
        title += nodes.reference("", env.titles[page].astext(), refuri=address)
        fields = ("predicted", "measured", "source")
        parts += [title, _table(app, docname, page, fields)]
    return parts


def _in_reading_order(env: Any) -> list[str]:
    order, waiting = [], [env.config.root_doc]
    while waiting:
        page = waiting.pop(0)
        order.append(page)
        waiting = list(env.toctree_includes.get(page, [])) + waiting
    return order


def _table(app: Any, docname: str, page: str, fields: tuple[str, ...]) -> nodes.Node:
    """List the claims of a page."""
    rows = []
    for claim in _kept(app.env, "claims").get(page, []):
        link = _link(app, docname, claim["statement"], page, claim["anchor"])
        rows.append([link, *(nodes.Text(claim[name]) for name in fields)])
    widths = {"claim": 2} | dict.fromkeys(fields, 1)
    return columns("fpbook-ledger", widths, rows)


def columns(
    look: str, widths: dict[str, int], rows: Sequence[Sequence[Cell]]
) -> nodes.Node:
    """Make a table that scrolls sideways on a narrow screen.

    Parameters
    ----------
    look
        Class of the table.
    widths
        Relative width by heading.
    rows
        Cells of each row: a node, or several.
    """
    table = nodes.table(classes=[look])
    group = nodes.tgroup(cols=len(widths))
    table += group
    for width in widths.values():
        group += nodes.colspec(colwidth=width)
    head = nodes.thead("", _row([nodes.Text(name) for name in widths]))
    body = nodes.tbody("", *(_row(row) for row in rows))
    group += [head, body]
    return nodes.container("", table, classes=["fpbook-ledger-scroll"])


def _row(cells: Sequence[Cell]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        content = cell if isinstance(cell, list) else [cell]
        row += nodes.entry("", nodes.paragraph("", "", *content))
    return row


def _papers(app: Any, docname: str) -> list[nodes.Node]:
    """Count the papers' claims by verdict, and list them."""
    counted: Counter[str] = Counter()
    rows = []
    for page in _in_reading_order(app.env):
        for block in _kept(app.env, "findings").get(page, []):
            paper, claim, verdict = block["paper"], block["claim"], block["verdict"]
            counted[verdict] += 1
            link = _link(app, docname, verdict, page, block["anchor"])
            rows.append([nodes.Text(paper), nodes.Text(claim), link])
    papers = len({row[0].astext() for row in rows})
    counts = ", ".join(f"{verdict}: {counted[verdict]}" for verdict in VERDICTS)
    summary = f"{len(rows)} claims of {papers} papers; {counts}."
    table = columns("fpbook-findings", {"paper": 1, "claim": 3, "verdict": 1}, rows)
    return [nodes.paragraph(text=summary), table]


def _shown(app: Any, docname: str, place: nodes.Element) -> list[nodes.Node]:
    """Links to the claims that a block names."""
    made: dict[str, list[tuple[str, str]]] = {}
    for page, rows in _kept(app.env, "claims").items():
        for row in rows:
            statement = _plain(row["statement"])
            made.setdefault(statement, []).append((page, row["anchor"]))
    links = nodes.bullet_list()
    for statement in place["shown"]:
        places = made.get(statement, [])
        if len(places) != 1:
            LOGGER.warning(
                "paper-claim: %d pages claim %r, must be one",
                len(places),
                statement,
                location=place.parent,
            )
            continue
        link = _link(app, docname, statement, *places[0])
        links += nodes.list_item("", nodes.paragraph("", "", link))
    heading = nodes.paragraph(text="Shown by:", classes=["fpbook-finding-shown"])
    return [heading, links]


def _link(app: Any, docname: str, text: str, page: str, anchor: str) -> nodes.Node:
    # Only the site has the anchors: elsewhere claims are text.
    if app.builder.format != "html":
        return nodes.Text(text)
    address = app.builder.get_relative_uri(docname, page)
    return nodes.reference("", text, refuri=f"{address}#{anchor}", internal=True)


def setup(app: Any) -> dict[str, Any]:
    for place in (ledger, findings, evidence):
        app.add_node(place)
    app.add_directive("claims-ledger", Ledger)
    app.add_directive("paper-claims-ledger", Findings)
    app.add_directive("paper-claim", PaperClaim)
    app.connect("env-purge-doc", _forget)
    app.connect("doctree-read", _collect)
    app.connect("doctree-resolved", _fill)
    return {"version": "1", "env_version": 4, "parallel_read_safe": False}
