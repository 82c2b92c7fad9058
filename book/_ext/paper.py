"""The pages as one book on paper: what the site does by HTML and CSS, for LaTeX.

Only ``pdf.py`` loads this extension. Parts and chapters get their order and numbers,
claims and boxes their own look, explorers are printed as their first frame.
"""

import html
import json
import re
from typing import Any, cast

import contents
import ledger
from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import texescape
from sphinx.writers.latex import LaTeXTranslator
from sphinx_exercise.nodes import (
    exercise_enumerable_node,
    exercise_node,
    solution_node,
)

LEFT_OUT = ("book/api", "genindex")
"""Pages that are not printed: a reference to the code, and what LaTeX makes itself."""

LONG_TABLE = 20
"""Rows beyond which a table may break over pages."""

CHARACTERS = 88
"""What fits into a line of a table."""

BOXES = {
    "paper": "paper",
    "derived": "derived",
    "measured": "measured",
    "fpbook-finding-holds": "derived",
    "fpbook-finding-does-not-hold": "measured",
}
"""Look of a box, by its class on the site; the others are grey."""

SMALL_TABLES = {"fpbook-ledger", "fpbook-findings", "fpbook-speed"}
NUMBER_OF_PART = re.compile(r"^[IVX]+ ")


class claim(nodes.General, nodes.Element):  # noqa: N801  (docutils names nodes so)
    """A claim as one printed row; its attributes are the fields of the row."""


class panel(nodes.Admonition, nodes.Element):  # noqa: N801  (docutils names nodes so)
    """A box or an exercise or a solution, with a title; ``kind`` says which."""


class work(nodes.General, nodes.Element):  # noqa: N801  (docutils names nodes so)
    """An entry of the bibliography."""


def _around(node: nodes.Element, kind: type[nodes.Element]) -> nodes.Element | None:
    """Find the nearest node of a kind that a node stands in."""
    above = node.parent
    while above is not None and not isinstance(above, kind):
        above = above.parent
    return above


class FromTheSite(SphinxPostTransform):
    """Read the claims and the texts of explorers before only their plain text is left.

    It runs before MyST-NB selects one format of each output.
    """

    builders = ("latex",)
    default_priority = 1

    def run(self, **_: Any) -> None:
        for bundle in list(self.document.findall(nodes.container)):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            formats = {
                shown["mime_type"]: shown
                for shown in bundle.children
                if isinstance(shown, nodes.Element)
            }
            page = formats.get("text/html", nodes.Text("")).astext()
            found = ledger.CLAIM.findall(page)
            if found:
                ((anchor, data),) = found
                row = json.loads(html.unescape(data))
                bundle.replace_self(claim(ids=[anchor], **row))
            elif 'class="fpbook-explorer"' in page:
                self._tell_what_is_shown(bundle, formats["text/plain"].astext())

    def _tell_what_is_shown(self, bundle: nodes.Element, text: str) -> None:
        figure = _around(bundle, nodes.figure)
        for part in [] if figure is None else figure.children:
            if isinstance(part, nodes.caption):
                told = f" In print: {text.rstrip('.')}. The sliders are on the web."
                part += nodes.emphasis(text=told)


class PlacesOfEachPage(SphinxPostTransform):
    """Fill in what depends on the page, as long as it is known which one it is."""

    builders = ("latex",)
    default_priority = 2

    def run(self, **_: Any) -> None:
        for file in list(self.document.findall(addnodes.start_of_file)):
            for fill in (contents._fill, ledger._fill):
                # They search the tree below what they get, a document or a file in it.
                fill(self.app, cast(nodes.document, file), file["docname"])
        contents._fill(self.app, self.document, self.config.root_doc)
        for drawing in list(self.document.findall(nodes.raw)):
            if 'class="fpbook-path"' in drawing.astext():
                drawing.replace_self(_tex(reading_path(self.env)))


def reading_path(env: Any) -> str:
    """Draw which chapter needs which, in TikZ: one row for each part.

    Parameters
    ----------
    env
        The environment of the Sphinx build.
    """
    known = contents.chapters(env)
    parts = list(dict.fromkeys(part for part, _ in known.values()))
    filled = dict.fromkeys(parts, 0)
    lines, place = [], {}
    for page, (part, number) in known.items():
        column, row = filled[part], parts.index(part)
        filled[part] += 1
        place[page] = column, row
        if column == 0:
            lines.append(rf"\node[part] at (-2.6,{-1.9 * row + 0.78}) {{{part}}};")
        title = texescape.escape(env.titles[page].astext(), "xelatex")
        link = rf"\hyperref[\detokenize{{{page}::doc}}]{{{number} {title}}}"
        x, y = 7.2 * column, -1.9 * row
        lines.append(rf"\node[chapter] ({number}) at ({x},{y}) {{{link}}};")
    for page, (_, number) in known.items():
        for need in contents.needs(env, page):
            (x1, y1), (x2, y2) = place[need], place[page]
            if y1 == y2:
                way = "{}.east) -- ({}.west"
            elif y2 - y1 == 1:
                way = "{}.south) -- ({}.north"
            else:
                # Around the boxes between.
                side, out = ("west", 180) if x1 == x2 == 0 else ("east", 0)
                way = f"{{}}.{side}) to[out={out},in={out}] ({{}}.{side}"
            lines.append(rf"\draw[need] ({way.format(known[need][1], number)});")
    drawn = "\n".join(lines)
    return f"\\begin{{fpbookpath}}\n{drawn}\n\\end{{fpbookpath}}"


class Boxes(SphinxPostTransform):
    """Give boxes, exercises and solutions an environment of their own."""

    builders = ("latex",)
    # After sphinx-exercise has put numbers into the titles.
    default_priority = 30

    def run(self, **_: Any) -> None:
        for node in list(self.document.findall(nodes.Element)):
            match node:
                case exercise_node() | exercise_enumerable_node():
                    self._replace(node, "exercise", f"exercise:{node['label']}")
                case solution_node():
                    file = _around(node, addnodes.start_of_file)
                    page = self.config.root_doc if file is None else file["docname"]
                    self._replace(node, "solution", f"{page}:{node['label']}")
                case nodes.admonition():
                    kinds = [BOXES[look] for look in node["classes"] if look in BOXES]
                    self._replace(node, kinds[0] if kinds else "note")

    def _replace(self, node: nodes.Element, kind: str, label: str = "") -> None:
        box = panel(kind=kind, label=label, ids=node["ids"])
        box += node.children
        node.replace_self(box)


class Outputs(SphinxPostTransform):
    """Set what a cell printed apart from its code."""

    builders = ("latex",)
    default_priority = 410

    def run(self, **_: Any) -> None:
        for output in self.document.findall(nodes.container):
            if output.get("nb_element") == "cell_code_output":
                output.insert(0, _tex(r"\begin{fpbookoutput}"))
                output += _tex(r"\end{fpbookoutput}")


class Tables(SphinxPostTransform):
    """Share the width of the text among the columns, by what they hold."""

    builders = ("latex",)
    default_priority = 500

    def run(self, **_: Any) -> None:
        for table in list(self.document.findall(nodes.table)):
            rows = list(table.findall(nodes.row))
            columns = list(zip(*(row.children for row in rows), strict=True))
            small = not SMALL_TABLES.isdisjoint(table["classes"])
            if small or len(rows) > LONG_TABLE:
                table["classes"].append("longtable")
            shares = column_widths(
                [[visible(entry) for entry in column] for column in columns]
            )
            font = r"\footnotesize" if small else r"\small"
            form = rf">{{{font}\raggedright\arraybackslash}}\X{{{{}}}}{{{sum(shares)}}}"
            spec = "".join(form.replace("{{}}", f"{{{share}}}") for share in shares)
            place = table.parent.index(table)
            table.parent.insert(place, addnodes.tabular_col_spec(spec=spec))


def visible(entry: nodes.Element) -> str:
    """Give the text of a cell, with formulas about as long as they are printed."""
    text = ""
    for node in entry.findall():
        if isinstance(node, nodes.math):
            letters = re.sub(r"\\[a-zA-Z]+", "x", node.astext())
            text += re.sub(r"[{}_^\\\s]", "", letters)
        elif isinstance(node, nodes.Text) and not isinstance(node.parent, nodes.math):
            text += node.astext()
    return text


def column_widths(columns: list[list[str]], line: int = CHARACTERS) -> list[int]:
    """Share a line of text among the columns of a table.

    Each column gets the width of its longest word, or of its longest cell if that is
    short; what is left goes to those that hold more, in proportion to what they lack.

    Parameters
    ----------
    columns
        The texts of the cells, column by column.
    line
        Characters in a line.

    Returns
    -------
    list of int
        Characters for each column, their sum is about ``line``.
    """
    cells = [max(map(len, column)) + 1 for column in columns]
    words = [
        max(len(word) for cell in column for word in [*cell.split(), "word"]) + 1
        for column in columns
    ]
    words = [max(word, min(cell, 15)) for word, cell in zip(words, cells, strict=True)]
    lacking = [max(cell - word, 0) for cell, word in zip(cells, words, strict=True)]
    left = max(line - sum(words), 0)
    part = left / max(sum(lacking), left, 1)
    return [
        word + round(part * lack) for word, lack in zip(words, lacking, strict=True)
    ]


class Bibliography(SphinxPostTransform):
    """Keep the works on their page; Sphinx would move them to the end of the book."""

    builders = ("latex",)
    default_priority = 740

    def run(self, **_: Any) -> None:
        for entry in list(self.document.findall(nodes.citation)):
            printed = work(ids=entry["ids"], docname=entry["docname"])
            printed += [part for part in entry if not isinstance(part, nodes.label)]
            entry.replace_self(printed)


class Parts(SphinxPostTransform):
    """Order the book: the first page as a preface, then part by part."""

    builders = ("latex",)
    default_priority = 800

    def run(self, **_: Any) -> None:
        root = next(self.document.findall(nodes.section))
        lists = [
            group
            for group in root.findall(nodes.compound)
            if "toctree-wrapper" in group["classes"]
        ]
        kept = self.env.get_doctree(self.config.root_doc).findall(addnodes.toctree)
        for group in lists:
            group.parent.remove(group)
            group.children = [page for page in group if not _is_left_out(page)]
        preface = nodes.section(ids=["preface"])
        preface += nodes.title(text="About this book")
        preface += root.children[1:]
        root.children = root.children[:1]
        root += [_tex(r"\setcounter{secnumdepth}{-1}"), preface]
        numbered_before = False
        for toctree, group in zip(kept, lists, strict=True):
            caption = toctree["caption"]
            if toctree["numbered"]:
                name = NUMBER_OF_PART.sub("", caption)
                root += _tex(rf"\part{{{name}}}\setcounter{{secnumdepth}}{{2}}")
            elif numbered_before:
                root += _tex(
                    rf"\fpbookpart{{{caption}}}\setcounter{{secnumdepth}}{{-1}}"
                )
            numbered_before = bool(toctree["numbered"])
            root += group.children
        for link in list(root.findall(nodes.reference)):
            if link.get("refuri", "").lstrip("%").partition("#")[0] in LEFT_OUT:
                link.replace_self(link.children)


def _is_left_out(page: nodes.Node) -> bool:
    return isinstance(page, nodes.Element) and page.get("docname") in LEFT_OUT


def _tex(text: str) -> nodes.raw:
    return nodes.raw("", f"\n{text}\n", format="latex")


# --- how the new nodes are written ---------------------------------------------------


def _visit_claim(self: LaTeXTranslator, node: claim) -> None:
    label = self.hypertarget(node["ids"][0])
    fields = ("verdict", "statement", "predicted", "measured", "source")
    texts = "".join(f"{{{self.encode(node[name])}}}" for name in fields)
    self.body.append(f"\n\\fpbookclaim{{{label}}}{texts}\n")
    raise nodes.SkipNode


def _visit_panel(self: LaTeXTranslator, node: panel) -> None:
    label = rf"\phantomsection\label{{{node['label']}}}" if node["label"] else ""
    targets = self.hypertarget_to(node, anchor=True) if node["ids"] else ""
    self.body.append(f"\n\\begin{{fpbook{node['kind']}}}{{{targets}{label}}}")
    if node["kind"] != "solution":
        self.no_latex_floats += 1


def _depart_panel(self: LaTeXTranslator, node: panel) -> None:
    self.body.append(f"\n\\end{{fpbook{node['kind']}}}\n")
    if node["kind"] != "solution":
        self.no_latex_floats -= 1


def _visit_work(self: LaTeXTranslator, node: work) -> None:
    targets = "".join(self.hypertarget(name) for name in node["ids"])
    self.body.append(f"\n\\fpbookwork{{{targets}}}")


def _depart_work(self: LaTeXTranslator, node: work) -> None:
    self.body.append("\n\\par\n")


def setup(app: Any) -> dict[str, Any]:
    for transform in (
        FromTheSite,
        PlacesOfEachPage,
        Boxes,
        Outputs,
        Tables,
        Bibliography,
        Parts,
    ):
        app.add_post_transform(transform)
    app.add_node(claim, latex=(_visit_claim, None))
    app.add_node(panel, latex=(_visit_panel, _depart_panel))
    app.add_node(work, latex=(_visit_work, _depart_work))
    return {"version": "1", "parallel_read_safe": False}
