"""The notebooks for Colab and Jupyter say what the pages say, in plain Markdown.

Their execution is a command of its own, ``make check-notebooks``.
"""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import PAGES, ROOT, Page

CHAPTERS = [page for page in PAGES if page.chapter]


def load(name: str) -> ModuleType:
    """Import a script of the book, which is not a package."""
    folder = ROOT / "book" / "_ext"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


export = load("export")
BOOK = export.read_book(ROOT)


def cells_of(notebook: Any, kind: str) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def said(text: str, page: Path = CHAPTERS[0].source) -> str:
    plain: str = export.plain(text, page, BOOK)
    return plain


def test_the_code_is_that_of_the_page(executable_page: Page) -> None:
    first, *rest = cells_of(export.export(executable_page.source, BOOK), "code")
    assert "%pip install" in first
    text = executable_page.source.read_text("utf-8")
    written = re.findall(
        r"^```\{code-cell\}[^\n]*\n(?:---\n.*?^---\n|(?::[^\n]*\n)+)?(.*?)^```$",
        text,
        re.MULTILINE | re.DOTALL,
    )
    assert rest == [cell.strip("\n") for cell in written]


def test_it_is_a_valid_notebook_of_plain_markdown(executable_page: Page) -> None:
    notebook = export.export(executable_page.source, BOOK)
    nbformat.validate(notebook)
    for text in cells_of(notebook, "markdown"):
        assert not re.search(r"^(?:```|:::)\{|\{[a-z:]+\}`", text, re.MULTILINE), text
    # The same twice: no random identifiers.
    assert notebook == export.export(executable_page.source, BOOK)


@pytest.mark.usefixtures("site")
def test_numbers_are_those_of_the_site(chapter: Page) -> None:
    """Sphinx counts by its own rules; here they are counted again from the sources."""
    page = BeautifulSoup(chapter.built.read_text("utf-8"), "html.parser")
    found = {}
    for equation in page.select("article div.math:has(> .eqno)"):
        number = equation.select_one(".eqno")
        assert number is not None
        found[str(equation["id"]).removeprefix("equation-")] = number.get_text()
    for figure in page.select("article figure:has(.caption-number)"):
        number = figure.select_one(".caption-number")
        assert number is not None
        found[str(figure["id"])] = number.get_text()
    for exercise in page.select("article div.exercise"):
        number = exercise.select_one(".caption-number")
        assert number is not None
        found[str(exercise["id"])] = number.get_text()
    shown = {name: text.strip().rstrip("#¶") for name, text in found.items()}
    counted = {name: BOOK.numbers[name] for name in shown}
    assert shown == counted
    assert len(shown) > 10


def test_every_number_is_used_for_one_thing() -> None:
    assert len(set(BOOK.numbers.values())) == len(BOOK.numbers)


class TestPlain:
    def test_equations_keep_their_numbers(self) -> None:
        label = next(name for name in BOOK.numbers if name.startswith("eq-nt"))
        number = BOOK.numbers[label].strip("()")
        assert said(f"$$ a = b $$ ({label})") == f"$$ a = b \\tag{{{number}}} $$"
        assert said(f"by {{eq}}`{label}`,") == f"by ({number}),"

    def test_boxes_become_quotations(self) -> None:
        box = ":::{admonition} We derive\n:class: derived\nOne.\n\n$$ x $$\n:::"
        assert said(box) == "> **We derive**\n>\n> One.\n>\n> $$ x $$"

    def test_works_are_linked(self) -> None:
        text = said("{cite:t}`miyagawa2022toward` and {cite}`jacot2018neural`")
        assert text.startswith("[Miyagawa (2022)](https://doi.org/10.")
        assert "and ([Jacot *et al.*, 2018](https://doi.org/10." in text

    def test_links_lead_to_notebooks_of_chapters_only(self) -> None:
        text = said("[](symmetric_layers.md), [here](../notation.md)")
        title = BOOK.titles[ROOT / "book/descent/symmetric_layers.md"]
        assert text == f"[{title}](symmetric_layers.ipynb), [here](../notation.md)"

    def test_marked_words_stay(self) -> None:
        assert (
            said("{index}`a flow <flow>` and {term}`descent`") == "a flow and descent"
        )

    def test_exercises_and_solutions_are_headed(self) -> None:
        label = next(name for name in BOOK.numbers if name.startswith("ex-"))
        text = said(
            f"```{{exercise-start}} Try\n:label: {label}\n```\nDo it.\n"
            f"```{{exercise-end}}\n```\n\n```{{solution-start}} {label}\n"
            ":class: dropdown\n```\nSo.\n```{solution-end}\n```"
        )
        number = BOOK.numbers[label]
        assert [part.strip() for part in re.split(r"\n{2,}", text)] == [
            f"**{number}: Try**",
            "Do it.",
            f"**Solution of {number}**",
            "So.",
        ]

    @pytest.mark.parametrize("text", ["```{video} x\n```", "{abbr}`GD`"])
    def test_what_cannot_be_said_is_an_error(self, text: str) -> None:
        with pytest.raises(ValueError, match="cannot say in plain Markdown"):
            said(text)


class TestInstall:
    def test_from_the_published_repository(self) -> None:
        page = CHAPTERS[0].source
        code = export.install(page, BOOK, "https://example.org/o/r", "notebooks")
        assert '"fpbook[chapters] @ git+https://example.org/o/r@notebooks"' in code

    def test_from_the_checkout_it_lies_in(self) -> None:
        page = CHAPTERS[0].source
        code = export.install(page, BOOK, "", "main")
        (place,) = re.findall(r'"([./]+)\[chapters\]"', code)
        assert (page.parent / place).resolve() == ROOT
