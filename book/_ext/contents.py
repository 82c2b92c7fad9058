"""What the pages say about the book: paths, times, citations, versions, addresses.

All of it is read from the pages and from their execution in this build, so that no
page repeats a number that another one knows.
"""

import json
import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

import gate
import yaml
from docutils import nodes
from ledger import Cell, columns
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)

PAGE_SECONDS = 60.0
"""Budget of a chapter on one core; the strict build fails if it takes longer."""

WORDS_PER_MINUTE = 80
"""A slow pace: it leaves time for the formulas and the figures."""

PREREQUISITES = "Prerequisites and time"
PACKAGES = (
    "fpbook",
    "numpy",
    "scipy",
    "matplotlib",
    "torch",
    "joblib",
    "ipywidgets",
    "scikit-learn",
    "sympy",
    "jupyter-book",
    "sphinx",
    "myst-nb",
    "jupytext",
)
NOT_READ = (nodes.literal_block, nodes.raw, nodes.math, nodes.math_block, nodes.comment)


class about(nodes.General, nodes.Element):  # noqa: N801  (docutils names nodes so)
    """Place of something that is known only when all pages have been read."""


def _directive(kind: str) -> type[SphinxDirective]:
    class About(SphinxDirective):
        """Puts the place into the page."""

        def run(self) -> list[nodes.Node]:
            return [about(kind=kind)]

    return About


# --- what is collected from the pages -----------------------------------------------


def chapters(env: Any) -> dict[str, tuple[str, str]]:
    """Map the numbered pages, in order, to the caption of their part and their number.

    Parameters
    ----------
    env
        The environment of the Sphinx build.
    """
    contents = yaml.safe_load((Path(env.srcdir) / "_toc.yml").read_text("utf-8"))
    found: dict[str, tuple[str, str]] = {}
    for part in contents["parts"]:
        if part.get("numbered"):
            for chapter in part["chapters"]:
                found[chapter["file"]] = part["caption"], str(len(found) + 1)
    return found


def _store(env: Any, name: str) -> dict[str, Any]:
    if not hasattr(env, name):
        setattr(env, name, {})
    store: dict[str, Any] = getattr(env, name)
    return store


def _forget(app: Any, env: Any, docname: str) -> None:
    for name in ("fpbook_words", "fpbook_needs"):
        _store(env, name).pop(docname, None)


def _collect(app: Any, doctree: nodes.document) -> None:
    env = app.env
    words = 0
    for text in doctree.findall(nodes.Text):
        if not any(isinstance(above, NOT_READ) for above in _above(text)):
            words += len(text.astext().split())
    _store(env, "fpbook_words")[env.docname] = words
    for section in doctree.findall(nodes.section):
        if section[0].astext() == PREREQUISITES:
            _store(env, "fpbook_needs")[env.docname] = [
                link["reftarget"]
                for link in section.findall(addnodes.pending_xref)
                if link.get("reftype") in ("doc", "myst")
            ]


def _above(node: nodes.Node) -> list[nodes.Node]:
    found = []
    while node.parent is not None:
        node = node.parent
        found.append(node)
    return found


def needs(env: Any, page: str) -> list[str]:
    """List the chapters that a chapter says one has to read before it.

    Parameters
    ----------
    env
        The environment of the Sphinx build.
    page
        Name of the chapter's document.
    """
    known = chapters(env)
    return [name for name in _store(env, "fpbook_needs").get(page, []) if name in known]


def _minutes(env: Any, page: str) -> int:
    words: int = _store(env, "fpbook_words")[page]
    return max(5, 5 * round(words / WORDS_PER_MINUTE / 5))


def _seconds(env: Any, page: str) -> float | None:
    data = NbMetadataCollector.get_exec_data(env, page)
    return None if data is None else data["runtime"]


def _check_times(app: Any, env: Any) -> None:
    """Warn of chapters over their budget, and leave the times for the command line."""
    allowed = float(os.environ.get("FPBOOK_PAGE_SECONDS", PAGE_SECONDS))
    times = {}
    for page in chapters(env):
        seconds = _seconds(env, page)
        if seconds is None:
            continue
        times[page.rpartition("/")[2]] = round(seconds, 1)
        if seconds > allowed:
            LOGGER.warning(
                "the page took %.0f s to run, its budget is %.0f s "
                "(FPBOOK_PAGE_SECONDS allows a slower computer more)",
                seconds,
                allowed,
                location=page,
                type="fpbook",
                subtype="budget",
            )
    file = gate.build_folder(app) / "run_times.json"
    file.write_text(json.dumps(times, indent=1), "utf-8")


# --- what is written into the pages -------------------------------------------------


def _fill(app: Any, doctree: nodes.document, docname: str) -> None:
    write = {
        "time-needed": _time_needed,
        "chapter-table": _chapter_table,
        "reading-path": _reading_path,
        "versions": _versions,
        "short-addresses": _short_addresses,
    }
    for place in list(doctree.findall(about)):
        place.replace_self(write[place["kind"]](app, docname))
    if docname in chapters(app.env):
        _add_citation(app, doctree, docname)


def _time_needed(app: Any, docname: str) -> list[nodes.Node]:
    seconds = _seconds(app.env, docname)
    ran = "" if seconds is None else f" It ran for {seconds:.0f} s when it was built."
    text = f"Reading this page takes about {_minutes(app.env, docname)} minutes.{ran}"
    return [nodes.paragraph(text=text)]


def _link(app: Any, docname: str, page: str, text: str) -> nodes.reference:
    address = app.builder.get_relative_uri(docname, page)
    return nodes.reference("", text, refuri=address, internal=True)


def _chapter_table(app: Any, docname: str) -> list[nodes.Node]:
    env, known = app.env, chapters(app.env)
    rows: list[list[Cell]] = []
    for page, (_, number) in known.items():
        before: list[nodes.Node] = []
        for need in needs(env, page):
            before += [nodes.Text(", ")] if before else []
            before.append(_link(app, docname, need, known[need][1]))
        seconds = _seconds(env, page)
        title = env.titles[page].astext()
        rows.append(
            [
                [_link(app, docname, page, f"{number} {title}")],
                before or [nodes.Text("nothing")],
                [nodes.Text(f"{_minutes(env, page)} min")],
                [nodes.Text("" if seconds is None else f"{seconds:.0f} s")],
            ]
        )
    widths = {"chapter": 3, "read first": 1, "to read": 1, "to run": 1}
    return [columns("fpbook-contents", widths, rows)]


def _versions(app: Any, docname: str) -> list[nodes.Node]:
    told = {"Python": python_version()}
    for name in PACKAGES:
        # Jupyter Book has no part in a build by plain Sphinx.
        with suppress(PackageNotFoundError):
            told[name] = version(name)
    rows: list[list[Cell]] = [
        [nodes.Text(name), nodes.Text(number)] for name, number in told.items()
    ]
    return [columns("fpbook-contents", {"package": 1, "version": 1}, rows)]


# --- the reading path ---------------------------------------------------------------

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, LEFT = 300, 74, 50, 58, 70


def _reading_path(app: Any, docname: str) -> list[nodes.Node]:
    """Draw the chapters, one row per part, with an arrow from each prerequisite."""
    env, known = app.env, chapters(app.env)
    parts = list(dict.fromkeys(part for part, _ in known.values()))
    filled: dict[str, int] = {}
    place = {}
    for page, (part, _) in known.items():
        column = filled.setdefault(part, 0)
        filled[part] += 1
        place[page] = (
            LEFT + column * (BOX_WIDTH + GAP_X),
            30 + parts.index(part) * (BOX_HEIGHT + GAP_Y),
        )
    arrows = [
        _arrow(place[need], place[page]) for page in known for need in needs(env, page)
    ]
    boxes = []
    for page, (part, number) in known.items():
        x, y = place[page]
        address = app.builder.get_relative_uri(docname, page)
        title = _lines(f"{number} {env.titles[page].astext()}")
        text = "".join(
            f'<tspan x="{x + 14}" y="{y + 31 + 25 * line}">{words}</tspan>'
            for line, words in enumerate(title)
        )
        boxes.append(
            f'<a href="{address}"><rect x="{x}" y="{y}" width="{BOX_WIDTH}" '
            f'height="{BOX_HEIGHT}" rx="8"/><text>{text}</text></a>'
        )
        if x == LEFT:
            boxes.append(f'<text class="part" x="{x}" y="{y - 9}">{part}</text>')
    width = LEFT + 10 + max(filled.values()) * (BOX_WIDTH + GAP_X) - GAP_X
    height = 40 + len(parts) * (BOX_HEIGHT + GAP_Y) - GAP_Y
    told = "; ".join(
        f"chapter {known[page][1]} after "
        + (" and ".join(known[need][1] for need in needs(env, page)) or "none")
        for page in known
    )
    drawing = (
        f'<svg class="fpbook-path" viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="Reading path: {told}.">'
        '<defs><marker id="fpbook-path-head" viewBox="0 0 10 10" refX="9" refY="5" '
        'markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 10 5 0 10z"/>'
        f"</marker></defs>{''.join(arrows)}{''.join(boxes)}</svg>"
    )
    return [nodes.raw("", drawing, format="html")]


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Draw an arrow between two boxes, given by their upper left corners."""
    (x1, y1), (x2, y2) = start, end
    middle = BOX_HEIGHT // 2
    if y1 == y2:
        way = f"M{x1 + BOX_WIDTH} {y1 + middle}H{x2}"
    elif y2 - y1 > BOX_HEIGHT + GAP_Y:
        # Around the boxes between, on the left.
        aside = min(x1, x2) - LEFT + 12
        y1, y2 = y1 + middle, y2 + middle
        way = f"M{x1} {y1}C{aside} {y1} {aside} {y2} {x2} {y2}"
    else:
        x1, x2 = x1 + BOX_WIDTH // 2, x2 + BOX_WIDTH // 2
        way = f"M{x1} {y1 + BOX_HEIGHT}L{x2} {y2}"
    return f'<path d="{way}" marker-end="url(#fpbook-path-head)"/>'


def _lines(title: str, longest: int = 27) -> list[str]:
    lines = [""]
    for word in title.split():
        if lines[-1] and len(lines[-1]) + len(word) >= longest:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


# --- citations and addresses --------------------------------------------------------


def _add_citation(app: Any, doctree: nodes.document, docname: str) -> None:
    """End a chapter with how to cite it."""
    citation = yaml.safe_load((Path(app.srcdir) / "CITATION.cff").read_text("utf-8"))
    number = chapters(app.env)[docname][1]
    title = app.env.titles[docname].astext()
    base = app.config.html_baseurl
    address = f"{base.rstrip('/')}/{docname}.html" if base else ""
    key = docname.rpartition("/")[2]
    fields = {
        "author": " and ".join(
            f"{{{person['name']}}}" for person in citation["authors"]
        ),
        "title": f"{{{title}}}",
        "booktitle": f"{{{citation['title']}}}",
        "chapter": number,
        "year": str(citation["date-released"].year),
        "note": f"Version {citation['version']}",
        **({"url": address} if address else {}),
    }
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    entry = f"@incollection{{fpbook-{key},\n{lines}\n}}"
    box = nodes.admonition(classes=["dropdown", "fpbook-cite"])
    box += nodes.title(text="Cite this chapter")
    box += nodes.literal_block(entry, entry, language="none")
    box += nodes.paragraph(text="Please cite the papers that it rests on, too.")
    list(doctree.findall(nodes.section))[-1].append(box)


def _short_addresses(app: Any, docname: str) -> list[nodes.Node]:
    """List the addresses that stay when pages move."""
    rows: list[list[Cell]] = []
    for short, target in app.config.redirects.items():
        page = target.removesuffix(".html")
        title = app.env.titles[page].astext() if page in app.env.titles else target
        rows.append(
            [[nodes.literal(text=f"{short}.html")], [_link(app, docname, page, title)]]
        )
    return [columns("fpbook-contents", {"address": 1, "leads to": 2}, rows)]


def setup(app: Any) -> dict[str, Any]:
    app.add_node(about)
    for kind in (
        "time-needed",
        "chapter-table",
        "reading-path",
        "versions",
        "short-addresses",
    ):
        app.add_directive(kind, _directive(kind))
    app.connect("env-purge-doc", _forget)
    app.connect("doctree-read", _collect)
    app.connect("env-updated", _check_times)
    app.connect("doctree-resolved", _fill)
    return {"version": "1", "env_version": 1, "parallel_read_safe": False}
