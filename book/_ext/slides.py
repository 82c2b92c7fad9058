"""Make one deck of slides per part, of what its chapters say and of their figures.

A deck goes sideways through the questions and the sections of the chapters, and down
into their equations and further figures. It is static: reveal.js, MathJax and figures
lie beside it in the site, and sliders move as they do there.
"""

import base64
import html
import importlib.util
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import build
import course
import export
import yaml
from nbconvert import SlidesExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from traitlets.config import Config

FOLDER = "slides"
HERE = Path(__file__).parent
FROM_REVEAL = ("dist/reveal.js", "dist/reveal.css", "LICENSE")
QUESTION, SUMMARY = "The question", "Summary"
LEARN, EXERCISES = "What you will learn", "Exercises"
SECTION = re.compile(r"^## (?P<title>.*)$", re.MULTILINE)
PAPER = re.compile(
    r"^:::\{admonition\} (?P<title>.*)\n:class: paper\n(?P<body>(?:.*\n)*?):::$", re.M
)
BLOCK = re.compile(r"^(?:```|:::)\{.*?^(?:```|:::)$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?P<file>\.{0,2}[\w./-]+)\.(?:ipynb|md)\b")
ROWS_PER_SLIDE = 10


class Section(NamedTuple):
    """A section of a chapter: its text, and its figures as HTML with captions."""

    title: str
    text: str
    figures: list[tuple[str, str]]


def sections(notebook: Any, book: export.Book) -> Iterator[Section]:
    """Divide an executed chapter at its headings.

    Parameters
    ----------
    notebook
        The chapter with its outputs.
    book
        What :func:`export.read_book` returns.
    """
    title, text = "", ""
    figures: list[tuple[str, str]] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts = SECTION.split(cell.source)
            text += parts[0]
            for heading, body in zip(parts[1::2], parts[2::2], strict=True):
                yield Section(title, text, figures)
                title, text, figures = heading, body, []
            text += "\n\n"
        elif "figure" in cell.metadata.get("mystnb", {}):
            figures.append(_figure(cell, book))
    yield Section(title, text, figures)


def _figure(cell: Any, book: export.Book) -> tuple[str, str]:
    options = cell.metadata["mystnb"]
    (output,) = (out for out in cell.outputs if "data" in out)
    data = output["data"]
    if "text/html" in data:
        shown = data["text/html"]
    else:
        kind = next(name for name in ("image/svg+xml", "image/png") if name in data)
        raw = data[kind]
        code = base64.b64encode(raw.encode()).decode() if "svg" in kind else raw
        told = html.escape(" ".join(options["image"]["alt"].split()))
        shown = f'<img src="data:{kind};base64,{code.strip()}" alt="{told}">'
    number = book.numbers[options["figure"]["name"]]
    return shown, f"**{number}.** {options['figure']['caption']}"


def _markdown(text: str, kind: str = "-") -> Any:
    return new_markdown_cell(text, metadata={"slideshow": {"slide_type": kind}})


def _picture(shown: str) -> Any:
    output = new_output("display_data", {"text/html": shown})
    meta = {"slideshow": {"slide_type": "-"}}
    return new_code_cell("", outputs=[output], metadata=meta)


def chapter(page: Path, notebook: Any, book: export.Book) -> list[Any]:
    """Make the slides of one chapter.

    Parameters
    ----------
    page
        The chapter's file.
    notebook
        The chapter with its outputs.
    book
        What :func:`export.read_book` returns.
    """

    def said(text: str) -> str:
        return LINK.sub(to_site, export.plain(text, page, book))

    def to_site(found: re.Match[str]) -> str:
        target = (page.parent / found["file"]).resolve().relative_to(book.root)
        return f"](../{target.as_posix()}.html"

    title = book.titles[page]
    address = page.relative_to(book.root).with_suffix(".html").as_posix()
    cells = [_markdown(f"# [{title}](../{address})", "slide")]
    for section in sections(notebook, book):
        if section.title == LEARN:
            cells.append(_markdown(f"You will learn\n\n{said(section.text)}"))
        elif section.title == QUESTION:
            question = BLOCK.sub("", section.text).strip()
            cells.append(_markdown(f"## {QUESTION}\n\n{said(question)}", "slide"))
            for box in PAPER.finditer(section.text):
                text = f"### {box['title']}\n\n{said(box['body'])}"
                cells.append(_markdown(text, "subslide"))
            cells += _shown(section, said, "subslide")
        elif section.title == SUMMARY:
            points = "\n".join(re.findall(r"^(?:- .*|  .*)$", section.text, re.M))
            first = section.text.strip().split("\n\n")[0]
            text = f"## {SUMMARY}\n\n{said(points or first)}"
            cells.append(_markdown(text, "slide"))
        elif section.title == EXERCISES:
            cells += _class_work(page, book, said)
        else:
            cells += _shown(section, said, "slide")
    return cells


def _shown(section: Section, said: Any, first: str) -> list[Any]:
    """Make the slides of a section: its numbered equations, then its figures."""
    cells, kind = [], first
    for found in _fitting(export.EQUATION.finditer(section.text)):
        text = said("\n\n".join(found))
        cells.append(_markdown(f"## {section.title}\n\n{text}", kind))
        kind = "subslide"
    for shown, caption in section.figures:
        cells += [_markdown(f"## {section.title}", kind), _picture(shown)]
        cells.append(_markdown(said(caption)))
        kind = "subslide"
    return cells


def _fitting(found: Iterable[re.Match[str]]) -> Iterator[list[str]]:
    """Group equations so that each group fits on a slide."""
    group: list[str] = []
    filled = 0
    for equation in found:
        rows = 2 + equation["body"].count(r"\\")
        if group and filled + rows > ROWS_PER_SLIDE:
            yield group
            group, filled = [], 0
        group.append(equation[0])
        filled += rows
    if group:
        yield group


def _class_work(page: Path, book: export.Book, said: Any) -> list[Any]:
    """Make a slide of each exercise that suits the class."""
    cells, kind = [], "slide"
    for task in course.exercises(page.read_text("utf-8")):
        if task.place == "class":
            head = f"## {book.numbers[task.label]}: {task.title}"
            cells.append(_markdown(f"{head}\n\n{said(task.text)}", kind))
            kind = "subslide"
    return cells


def deck(root: Path, folder: Path, part: dict[str, Any], book: export.Book) -> str:
    """Make the deck of a part as one HTML page.

    Parameters
    ----------
    root
        The repository.
    folder
        Folder of the build that has the outputs.
    part
        The part's entry in ``_toc.yml``.
    book
        What :func:`export.read_book` returns.
    """
    cache = build.executed(folder)
    pages = [root / f"{entry['file']}.md" for entry in part["chapters"]]
    listed = "\n".join(f"- {book.titles[page]}" for page in pages)
    cells = [_markdown(f"# {part['caption']}\n\n{listed}", "slide")]
    for page in pages:
        notebook = cache.get_project_notebook(str(page)).nb
        executed = cache.merge_match_into_notebook(notebook)[1]
        cells += chapter(page, executed, book)
    made = new_notebook(cells=cells, metadata={"title": part["caption"]})
    config = Config()
    config.TemplateExporter.extra_template_basedirs = [str(HERE)]
    exporter = SlidesExporter(template_name="deck", config=config)
    exporter.mathjax_url = "../_static/mathjax/tex-chtml.js"
    exporter.reveal_url_prefix, exporter.reveal_theme = "reveal", "deck"
    text: str = exporter.from_notebook_node(made)[0]
    return text


def name(part: dict[str, Any]) -> str:
    """Name the file of a part's deck."""
    return f"{Path(part['chapters'][0]['file']).parent.name}.html"


def write(root: Path, folder: Path) -> Iterator[Path]:
    """Write the decks and what they load into a site, and name them.

    Parameters
    ----------
    root
        The repository.
    folder
        Folder of the build, with its chapters executed and its site in ``html``.
    """
    into = folder / "html" / FOLDER
    shutil.rmtree(into, ignore_errors=True)
    (into / "reveal" / "dist" / "theme").mkdir(parents=True)
    found = importlib.util.find_spec("sphinx_revealjs")
    if found is None or found.origin is None:
        raise RuntimeError("sphinx-revealjs, which brings reveal.js, is not installed")
    revealjs = Path(found.origin).parent / "_static" / "revealjs"
    for needed in FROM_REVEAL:
        shutil.copy2(revealjs / needed, into / "reveal" / needed)
    shutil.copy2(HERE / "deck" / "deck.css", into / "reveal" / "dist" / "theme")
    book = export.read_book(root)
    for part in yaml.safe_load((root / "_toc.yml").read_text("utf-8"))["parts"]:
        if part.get("numbered"):
            file = into / name(part)
            file.write_text(deck(root, folder, part, book), "utf-8")
            yield file
