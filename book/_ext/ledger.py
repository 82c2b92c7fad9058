"""The ledger of claims: every claim of every page, read from the built outputs."""

import html
import json
import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LOGGER = logging.getLogger(__name__)
CLAIM = re.compile(r'class="fpbook-claim[^>]*id="([^"]+)" data-claim="([^"]*)"')


class ledger(nodes.General, nodes.Element):  # noqa: N801  (docutils names nodes so)
    """Place of the ledger in its page."""


class Ledger(SphinxDirective):
    """``{claims-ledger}``: the table of all claims, or of those of ``:this-page:``."""

    option_spec = {"this-page": directives.flag}  # noqa: RUF012  (docutils' interface)

    def run(self) -> list[nodes.Node]:
        if "this-page" in self.options:
            return [ledger(page=self.env.docname)]
        return [ledger()]


def _claims(env: Any) -> dict[str, list[dict[str, str]]]:
    if not hasattr(env, "fpbook_claims"):
        env.fpbook_claims = {}
    claims: dict[str, list[dict[str, str]]] = env.fpbook_claims
    return claims


def _forget(app: Any, env: Any, docname: str) -> None:
    _claims(env).pop(docname, None)


def _collect(app: Any, doctree: nodes.document) -> None:
    env = app.env
    rows: dict[str, dict[str, str]] = {}
    for node in doctree.findall(nodes.raw):
        for anchor, data in CLAIM.findall(node.astext()):
            if anchor in rows:
                LOGGER.warning(
                    "two claims say the same: %s", anchor, location=env.docname
                )
            rows[anchor] = {"anchor": anchor, **json.loads(html.unescape(data))}
    if rows:
        _claims(env)[env.docname] = list(rows.values())


def _fill(app: Any, doctree: nodes.document, docname: str) -> None:
    for place in list(doctree.findall(ledger)):
        if "page" in place:
            rows = _claims(app.env).get(docname, [])
            place.replace_self(_table(rows, "", ("verdict", "source")))
        else:
            place.replace_self(_tables(app, docname))


def _tables(app: Any, docname: str) -> list[nodes.Node]:
    env = app.env
    found = _claims(env)
    ordered = [page for page in _in_reading_order(env) if page in found]
    total = sum(len(found[page]) for page in ordered)
    summary = f"{total} claims on {len(ordered)} pages, all checked in this build."
    parts: list[nodes.Node] = [nodes.paragraph(text=summary)]
    for page in ordered:
        address = app.builder.get_relative_uri(docname, page)
        title = nodes.rubric()
        title += nodes.reference("", env.titles[page].astext(), refuri=address)
        columns = ("predicted", "measured", "source")
        parts += [title, _table(found[page], address, columns)]
    return parts


def _in_reading_order(env: Any) -> list[str]:
    order, waiting = [], [env.config.root_doc]
    while waiting:
        page = waiting.pop(0)
        order.append(page)
        waiting = list(env.toctree_includes.get(page, [])) + waiting
    return order


def _table(
    rows: list[dict[str, str]], address: str, columns: tuple[str, ...]
) -> nodes.Node:
    table = nodes.table(classes=["fpbook-ledger"])
    group = nodes.tgroup(cols=len(columns) + 1)
    table += group
    for width in (2, *(1 for _ in columns)):
        group += nodes.colspec(colwidth=width)
    head = nodes.thead()
    group += head
    head += _row([nodes.Text(name) for name in ("claim", *columns)])
    body = nodes.tbody()
    group += body
    for row in rows:
        link = nodes.reference(
            "", row["statement"], refuri=f"{address}#{row['anchor']}"
        )
        rest = [nodes.Text(row[name]) for name in columns]
        body += _row([link, *rest])
    # The container scrolls sideways on a narrow screen.
    return nodes.container("", table, classes=["fpbook-ledger-scroll"])


def _row(contents: list[nodes.Node]) -> nodes.row:
    row = nodes.row()
    for content in contents:
        row += nodes.entry("", nodes.paragraph("", "", content))
    return row


def setup(app: Any) -> dict[str, Any]:
    app.add_node(ledger)
    app.add_directive("claims-ledger", Ledger)
    app.connect("env-purge-doc", _forget)
    app.connect("doctree-read", _collect)
    app.connect("doctree-resolved", _fill)
    return {"version": "1", "env_version": 3, "parallel_read_safe": False}
