"""Write the chapters as notebooks that need no book: what ``make notebooks`` runs.

A notebook for Colab, or for Jupyter without extensions, shows plain Markdown only. So
what Sphinx would resolve is resolved here, from the sources of all pages: numbers of
equations, figures and exercises, citations, links between pages, boxes. Captions are
written under their figures. The first cell installs ``fpbook`` where it is missing.
"""

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import build
import jupytext
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from pybtex.database import Entry, parse_file
from pybtex.richtext import Text

EQUATION = re.compile(
    r"\$\$(?P<body>(?:(?!\$\$).)*)\$\$ *\((?P<label>[\w-]+)\)", re.DOTALL
)
EXERCISE = re.compile(
    r"^```\{exercise-start\} (?P<title>.*)\n:label: (?P<label>[\w-]+)\n```$", re.M
)
SOLUTION = re.compile(
    r"^```\{solution-start\} (?P<label>[\w-]+)\n(?::.*\n)*```$", re.MULTILINE
)
END = re.compile(r"^```\{(?:exercise|solution)-end\}\n```$", re.MULTILINE)
LEDGER = re.compile(r"^```\{claims-ledger\}\n(?::.*\n)*```$", re.MULTILINE)
# What only the site knows: times of its build, and links among all of its pages.
ONLY_ON_THE_SITE = re.compile(
    r"^```\{(?:time-needed|reading-path|chapter-table)\}\n```$", re.MULTILINE
)
BOX = re.compile(
    r"^:::\{admonition\} (?P<title>.*)\n(?::.*\n)*(?P<body>(?:.*\n)*?):::$", re.M
)
ROLE = re.compile(r"\{(?P<role>[a-z]+(?::[a-z])?)\}`(?P<content>[^`]+)`")
PAGE_LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<file>[\w./-]+)\.md(?P<at>#[^)]*)?\)")
LEFT_OVER = re.compile(r"^(?:```|:::)\{|\{[a-z]+(?::[a-z])?\}`", re.MULTILINE)
MOST_AUTHORS = 2


class Book(NamedTuple):
    """What one page has to know of the others."""

    root: Path
    numbers: dict[str, str]
    """By label: "(3.1)" of an equation, "Fig. 3.1", "Exercise 3.1"."""
    titles: dict[Path, str]
    works: dict[str, Entry]


def read_book(root: Path) -> Book:
    """Number everything with a label, in the order of the pages.

    Parameters
    ----------
    root
        The repository.
    """
    contents = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    numbered = [
        root / f"{chapter['file']}.md"
        for part in contents["parts"]
        if part.get("numbered")
        for chapter in part["chapters"]
    ]
    numbers: dict[str, str] = {}
    for place, page in enumerate(numbered, start=1):
        text = page.read_text("utf-8")
        figures = [
            cell.metadata["mystnb"]["figure"]["name"]
            for cell in jupytext.reads(text, fmt="md:myst").cells
            if "figure" in cell.metadata.get("mystnb", {})
        ]
        for kind, labels in (
            ("({}.{})", [found["label"] for found in EQUATION.finditer(text)]),
            ("Fig. {}.{}", figures),
            ("Exercise {}.{}", [found["label"] for found in EXERCISE.finditer(text)]),
        ):
            for number, label in enumerate(labels, start=1):
                numbers[label] = kind.format(place, number)
    pages = sorted((root / "book").rglob("*.md"))
    titles = {page: _title(page) for page in pages}
    return Book(root, numbers, titles, parse_file(root / "book/references.bib").entries)


def _title(page: Path) -> str:
    found = re.search(r"^# (.*)$", page.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError(f"{page} has no title")
    return found[1]


def export(
    page: Path,
    book: Book,
    address: str = "",
    branch: str = "main",
    text: str | None = None,
) -> Any:
    """Turn a chapter into a notebook of plain Markdown and code.

    Parameters
    ----------
    page
        The chapter's file.
    book
        What :func:`read_book` returns.
    address
        Public address of the repository, from which ``fpbook`` is installed; if empty,
        it is installed from the checkout that the notebook lies in.
    branch
        Branch or tag at that address.
    text
        The chapter's text, if not that of its file.

    Returns
    -------
    NotebookNode
        The notebook, without outputs.

    Raises
    ------
    ValueError
        If the page uses something that cannot be said in plain Markdown yet.
    """
    source = page.read_text("utf-8") if text is None else text
    notebook = jupytext.reads(source, fmt="md:myst")
    cells: list[NotebookNode] = [new_code_cell(install(page, book, address, branch))]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = plain(cell.source, page, book)
            if text:
                cells.append(new_markdown_cell(text))
            continue
        options = cell.metadata.pop("mystnb", {})
        if "hide-input" in cell.metadata.get("tags", []):
            cell.metadata["jupyter"] = {"source_hidden": True}
        cells.append(cell)
        if "figure" in options:
            name, caption = options["figure"]["name"], options["figure"]["caption"]
            # A figure of the first page has no number.
            number = f"**{book.numbers[name]}.** " if name in book.numbers else ""
            cells.append(new_markdown_cell(number + plain(caption, page, book)))
    for position, cell in enumerate(cells):
        # Random identifiers would make every export a different file.
        cell["id"] = f"cell-{position}"
    notebook.cells = cells
    notebook.metadata.pop("jupytext", None)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def install(page: Path, book: Book, address: str, branch: str) -> str:
    """Write the code of the first cell."""
    if address:
        what = f"fpbook[chapters] @ git+{address}@{branch}"
    else:
        up = os.path.relpath(book.root, page.parent)
        what = f"{up}[chapters]"
    return (
        "# Where the code of the book is missing, as on Colab: install it.\n"
        "import importlib.util\n\n"
        'if importlib.util.find_spec("fpbook") is None:\n'
        f'    %pip install --quiet "{what}"'
    )


def plain(text: str, page: Path, book: Book) -> str:
    """Say in plain Markdown what a page says with directives and roles."""
    numbers = book.numbers

    def tagged(found: re.Match[str]) -> str:
        number = numbers[found["label"]].strip("()")
        return f"$${found['body'].rstrip()} \\tag{{{number}}} $$"

    def boxed(found: re.Match[str]) -> str:
        lines = [f"**{found['title']}**", "", *found["body"].strip().splitlines()]
        return "\n".join(f"> {line}".rstrip() for line in lines)

    text = BOX.sub(boxed, text)
    text = EQUATION.sub(tagged, text)
    text = EXERCISE.sub(
        lambda found: f"**{numbers[found['label']]}: {found['title']}**\n", text
    )
    text = SOLUTION.sub(
        lambda found: f"**Solution of {numbers[found['label']]}**\n", text
    )
    text = END.sub("", text)
    text = LEDGER.sub("Each claim above was checked when its cell ran.", text)
    text = ONLY_ON_THE_SITE.sub("", text)
    text = ROLE.sub(lambda found: _said(found["role"], found["content"], book), text)
    text = PAGE_LINK.sub(lambda found: _link(found, page, book), text)
    left = LEFT_OVER.search(text)
    if left is not None:
        line = text[left.start() :].splitlines()[0]
        raise ValueError(f"{page.name}: cannot say in plain Markdown: {line}")
    return text.strip("\n")


def _said(role: str, content: str, book: Book) -> str:
    match role:
        case "eq" | "ref" | "numref":
            return book.numbers[content]
        case "index" | "term":
            return re.sub(r"\s*<[^>]*>$", "", content)
        case "cite:t":
            return ", ".join(_work(key, book, " ({})") for key in _keys(content))
        case "cite" | "cite:p":
            works = "; ".join(_work(key, book, ", {}") for key in _keys(content))
            return f"({works})"
        case _:
            return f"{{{role}}}`{content}`"


def _keys(content: str) -> Iterator[str]:
    return (key.strip() for key in content.split(","))


def _work(key: str, book: Book, year: str) -> str:
    """Name a work by its authors and year, with a link to it."""
    entry = book.works[key]
    people = entry.persons["author"]
    names = [" ".join([*person.prelast_names, *person.last_names]) for person in people]
    if len(names) > MOST_AUTHORS:
        names = [f"{names[0]} *et al.*"]
    said = str(Text.from_latex(" and ".join(names))) + year.format(entry.fields["year"])
    return f"[{said}](https://doi.org/{entry.fields['doi']})"


def _link(found: re.Match[str], page: Path, book: Book) -> str:
    target = (page.parent / f"{found['file']}.md").resolve()
    text = found["text"] or book.titles[target]
    is_chapter = target in build.chapters(book.root)
    kind = "ipynb" if is_chapter else "md"
    return f"[{text}]({found['file']}.{kind})"


def main() -> None:
    """Write every chapter as a notebook, beside it or into a folder."""
    asked = argparse.ArgumentParser(description=main.__doc__)
    asked.add_argument("--into", type=Path, help="folder; default: beside the chapters")
    into = asked.parse_args().into
    root = build.ROOT
    book = read_book(root)
    for page in build.chapters(root):
        notebook = export(
            page,
            book,
            os.environ.get("REPOSITORY_URL", ""),
            os.environ.get("REPOSITORY_BRANCH", "main"),
        )
        file = (into or root) / page.relative_to(root).with_suffix(".ipynb")
        file.parent.mkdir(parents=True, exist_ok=True)
        jupytext.write(notebook, file)
        print(file)


if __name__ == "__main__":
    main()
