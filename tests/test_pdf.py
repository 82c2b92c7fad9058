"""The printed book, as far as it can be tested without TeX."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document
from sphinx import addnodes
from test_export import load

from fpbook.claims import Row

pdf = load("pdf")
paper = load("paper")

LOG = """\
Overfull \\hbox (3.1pt too wide) in paragraph at lines 8--9
Overfull \\hbox (40.5pt too wide) in paragraph at lines 10--12
Overfull \\hbox (83.4pt too wide) detected at line 7
LaTeX Font Warning: Font shape `TU/x/m/it' undefined
"""
LOST = (
    "LaTeX Warning: Hyper reference `book/kpz:fig' on page 3 undefined.",
    "LaTeX Warning: Reference `equation:eq' on page 3 undefined on input line 4.",
    "LaTeX Warning: Label `eq' multiply defined.",
    "Missing character: There is no ∮ (U+222E) in font X!",
)
ERROR = "./book.tex:12: Undefined control sequence.\nl.12 \\nonsense\n"


def test_wide_lines_are_told_the_widest_first() -> None:
    assert pdf.wide_lines(LOG) == [
        (83.4, "detected at line 7"),
        (40.5, "in paragraph at lines 10--12"),
    ]


@pytest.mark.parametrize("line", LOST)
def test_a_lost_reference_or_letter_is_a_fault(line: str) -> None:
    assert pdf.faults(LOG) == []
    assert pdf.faults(f"{LOG}{line}\n{line}\n") == [line]


def test_after_an_error_of_tex_only_the_error_is_told() -> None:
    (told,) = pdf.faults(f"{LOG}{LOST[0]}\n{ERROR}")
    assert told.startswith("./book.tex:12: Undefined")
    assert "nonsense" in told


def test_letters_beyond_latin_are_looked_up_in_a_second_font() -> None:
    assert pdf.letters("Größe — “x”") == ""
    assert pdf.letters("η² + ✅ + η") == (
        '\\newunicodechar{η}{\\fpbookletter{"3B7}}\n'
        '\\newunicodechar{✅}{\\fpbookletter{"2713}}\n'
    )


def test_the_preamble_names_fonts_that_are_there() -> None:
    assert "FONTPATH" not in pdf.preamble()
    assert f"Path={pdf.FONTS}/" in pdf.preamble()
    for style in ("DejaVuSans", "DejaVuSansMono"):
        for variant in ("", "-Bold", "-Oblique", "-BoldOblique"):
            assert (pdf.FONTS / f"{style}{variant}.ttf").exists()


def test_the_configuration_adds_to_that_of_the_site() -> None:
    config = pdf.configuration(ROOT)
    extensions = config["sphinx"]["local_extensions"]
    assert {"paper", "gate", "ledger", "contents"} <= set(extensions)
    assert all(Path(folder).is_absolute() for folder in extensions.values())
    (document,) = config["sphinx"]["config"]["latex_documents"]
    assert document[:2] == ["book/index", "physics-of-training.tex"]
    assert config["execute"]["execute_notebooks"] == "cache"


def test_without_tex_the_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pdf.shutil, "which", lambda program: None)
    assert pdf.main() == 1
    told = capsys.readouterr().out
    assert "latexmk and xelatex" in told
    assert "texlive-xetex" in told


def test_columns_hold_their_longest_word_and_share_the_rest() -> None:
    code = "name_of_a_function(...)"
    widths = paper.column_widths(
        [["x", "y"], ["many words " * 20, "few"], [code, ""]], line=88
    )
    assert widths[0] < 8
    assert widths[2] == len(code) + 1
    assert widths[1] > 50
    assert sum(widths) == 88


def test_a_formula_counts_as_long_as_it_is_printed() -> None:
    entry = nodes.entry("", nodes.paragraph("", "", nodes.Text("so ")))
    entry[0] += nodes.math(text=r"\frac{\partial L}{\partial \theta}")
    assert paper.visible(entry) == "so xxLxx"


def bundle(formats: dict[str, str]) -> nodes.container:
    """Give an output as MyST-NB hands it on: one node for each format."""
    shown = []
    for mime_type, text in formats.items():
        node = nodes.raw("", text, format="html")
        node["mime_type"] = mime_type
        shown.append(node)
    return nodes.container("", *shown, nb_element="mime_bundle")


def test_a_claim_keeps_its_fields_and_its_address() -> None:
    row = Row("1 < x & x < 2", "1 to 2", "1.5 ± 0.1", "holds", 'a "definition"')
    document = new_document("page", get_default_settings())
    document += bundle(row._repr_mimebundle_())
    paper.FromTheSite(document).run()
    (claim,) = document.children
    assert claim["ids"] == [row.anchor]
    assert claim["statement"] == row.statement
    assert claim["measured"] == row.measured
    assert claim["source"] == row.source


def test_the_caption_of_an_explorer_tells_what_is_printed() -> None:
    page = '<div class="fpbook-explorer"></div>'
    explorer = bundle({"text/html": page, "text/plain": "The error is 0.1."})
    document = new_document("page", get_default_settings())
    document += nodes.figure("", explorer, nodes.caption(text="Move the slider."))
    paper.FromTheSite(document).run()
    assert document.astext().endswith(
        "Move the slider. In print: The error is 0.1. The sliders are on the web."
    )


def list_of_pages(*names: str) -> nodes.compound:
    pages = [
        addnodes.start_of_file(
            "", nodes.section("", nodes.title(text=name)), docname=name
        )
        for name in names
    ]
    return nodes.compound("", *pages, classes=["toctree-wrapper"])


def test_the_book_goes_from_a_preface_through_numbered_parts() -> None:
    document = new_document("index", get_default_settings())
    link = nodes.reference("", "the package", refuri="%book/api#module-fpbook")
    document += nodes.section(
        "",
        nodes.title(text="The book"),
        nodes.paragraph("", "Welcome to ", link),
        list_of_pages("book/notation"),
        list_of_pages("book/one", "book/two"),
        list_of_pages("book/ledger", "book/api"),
    )
    lists = [("Before", 0), ("I Descent", 999), ("Back matter", 0)]
    kept = nodes.section()
    for caption, numbered in lists:
        kept += addnodes.toctree(caption=caption, numbered=numbered)
    document.settings.env = SimpleNamespace(
        get_doctree=lambda name: kept, config=SimpleNamespace(root_doc="index")
    )
    paper.Parts(document).run()
    told = [
        line
        for node in document[0]
        for line in node.astext().strip().splitlines()
        if line
    ]
    assert told == [
        "The book",
        r"\setcounter{secnumdepth}{-1}",
        "About this book",
        "Welcome to the package",
        "book/notation",
        r"\part{Descent}\setcounter{secnumdepth}{2}",
        "book/one",
        "book/two",
        r"\fpbookpart{Back matter}\setcounter{secnumdepth}{-1}",
        "book/ledger",
    ]
    assert not list(document.findall(nodes.reference))
