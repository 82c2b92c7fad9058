"""The build without Jupyter Book: its settings, its outputs, and the comparison.

What it builds is tested by the tests of the pages, with ``FPBOOK_BUILT=_build/sphinx``.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from jupyter_cache.base import CacheBundleIn
from nbformat.v4 import new_output
from test_export import load

plain = load("plain_sphinx")
compare = load("compare")

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
CONTENTS = """\
format: jb-book
root: book/index
parts:
  - caption: Numbers
    chapters:
      - file: book/numbers
"""
PAGE = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Numbers

```{code-cell} ipython3
---
mystnb:
  image:
    alt: >
      A number.
---
print(1)
```

Words.

```{code-cell} ipython3
print(2)
```
"""


def written(root: Path, **changed: Any) -> Path:
    """Write a ``_config.yml`` with some settings of the book and others instead."""
    (root / "_config.yml").write_text(yaml.safe_dump(CONFIG | changed), "utf-8")
    return root


# --- the settings -------------------------------------------------------------------


def test_jupyter_book_has_no_part_in_it() -> None:
    code = (
        "import sys; sys.path.insert(0, 'book/_ext'); import plain_sphinx, compare; "
        "print([name for name in sys.modules if name.startswith('jupyter_book')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert "jupyter_book" not in plain.configuration(ROOT)["extensions"]


def test_it_is_told_what_the_book_is_told() -> None:
    said = plain.configuration(ROOT)
    assert said["html_title"] == CONFIG["title"]
    assert said["author"] == CONFIG["author"]
    assert said["exclude_patterns"] == CONFIG["exclude_patterns"]
    assert said["external_toc_exclude_missing"] is True
    assert said["external_toc_path"] == str(ROOT / "_toc.yml")
    assert said["nb_execution_mode"] == "cache"
    assert said["nb_execution_raise_on_error"] is True
    assert said["nb_output_stderr"] == "warn"
    assert said["myst_enable_extensions"] == CONFIG["parse"]["myst_enable_extensions"]
    assert said["bibtex_bibfiles"] == ["book/references.bib"]
    assert said["html_favicon"] == CONFIG["html"]["favicon"]
    assert said["nitpicky"] is True
    assert said.items() >= CONFIG["sphinx"]["config"].items()
    buttons = said["html_theme_options"]
    assert buttons["launch_buttons"] == CONFIG["launch_buttons"]
    assert buttons["use_repository_button"] is False


def test_every_extension_of_the_book_is_loaded_after_those_it_builds_on() -> None:
    extensions = plain.configuration(ROOT)["extensions"]
    assert len(set(extensions)) == len(extensions)
    own = [*CONFIG["sphinx"]["extra_extensions"], *CONFIG["sphinx"]["local_extensions"]]
    assert extensions[-len(own) :] == own
    assert {"myst_nb", "sphinx_external_toc", "sphinx_book_theme"} <= set(extensions)


def test_the_settings_of_the_book_come_last(tmp_path: Path) -> None:
    theirs = {"config": {"numfig": False}}
    said = plain.configuration(written(tmp_path, sphinx=theirs, execute={}))
    assert said["numfig"] is False
    assert "nb_execution_mode" not in said
    assert said["extensions"] == list(plain.EXTENSIONS)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"logo": "a.svg"}, "logo"),
        ({"html": {"announcement": "new"}}, "html.announcement"),
        ({"latex": {"latex_engine": "xelatex"}}, "latex"),
    ],
)
def test_a_setting_without_a_known_meaning_is_refused(
    tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=rf"must be one of .*, got {named}$"):
        plain.configuration(written(tmp_path, **changed))


# --- outputs of another build -------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A book that Jupyter Book has executed, in ``_build``."""
    for name, text in (
        ("_toc.yml", CONTENTS),
        ("book/index.md", "# A tiny book\n"),
        ("book/numbers.md", PAGE),
        ("book/_ext/nothing.py", ""),
        ("fpbook/tiny.py", "NUMBER = 1\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    lender = tmp_path / "_build"
    plain.gate.drop_stale_outputs(tmp_path, lender)
    cache = plain.build.executed(lender)
    page = str(tmp_path / "book" / "numbers.md")
    cache.add_nb_to_project(page, read_data=plain.build.READER)
    notebook = cache.get_project_notebook(page).nb
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        cell.outputs = [new_output("stream", text=f"{number}\n")]
        cell.execution_count = number
    data = {"execution_seconds": 3.0}
    cache.cache_notebook_bundle(CacheBundleIn(notebook, page, data=data))
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text("utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), "utf-8")


def borrowed(root: Path) -> int:
    taken: int = plain.borrow_outputs(root, root / "_build/sphinx", root / "_build")
    return taken


def found(root: Path) -> tuple[list[str], float] | None:
    """What the build would find in its cache: outputs of the page, and its time."""
    cache = plain.build.executed(root / "_build" / "sphinx")
    record = cache.get_cached_project_nb(str(root / "book" / "numbers.md"))
    if record is None:
        return None
    cells = cache.get_cache_bundle(record.pk).nb.cells
    outputs = [output.text for cell in cells for output in cell.outputs]
    return outputs, record.data["execution_seconds"]


def test_outputs_are_taken_once(root: Path) -> None:
    assert borrowed(root) == 1
    assert found(root) == (["1\n", "2\n"], 3.0)
    assert borrowed(root) == 0
    assert found(root) == (["1\n", "2\n"], 3.0)


def test_they_are_taken_if_only_the_options_of_a_cell_are_read_otherwise(
    root: Path,
) -> None:
    edit(root / "book" / "numbers.md", "alt: >\n", "alt: >-\n")
    assert borrowed(root) == 1
    assert found(root) == (["1\n", "2\n"], 3.0)


def test_they_are_left_if_the_code_was_edited(root: Path) -> None:
    edit(root / "book" / "numbers.md", "print(2)", "print(3)")
    assert borrowed(root) == 0
    assert found(root) is None


def test_they_are_left_if_the_package_was_edited(root: Path) -> None:
    edit(root / "fpbook" / "tiny.py", "1", "2")
    assert borrowed(root) == 0


def test_they_are_left_if_there_was_no_build(root: Path) -> None:
    (root / "_build" / plain.gate.FINGERPRINT).unlink()
    assert borrowed(root) == 0


# --- the comparison -----------------------------------------------------------------

BAR = '<header class="bd-header"><button>Search</button></header>'
SHOWN = """\
<nav><figure id="no-part"></figure></nav>
<article class="bd-article"><section><h1>1. Numbers<a class="headerlink"></a></h1>
<p>As <a class="reference internal" href="#number">(1.1)</a> says,
<span class="math">n</span> is two.</p>
<div class="math" id="number"><span class="eqno">(1.1)</span>n = 2</div>
<figure id="fig"><div class="fpbook-explorer"></div>
<figcaption><span class="caption-number">Fig. 1.1 </span></figcaption></figure>
<div class="exercise admonition"><p class="admonition-title">Exercise 1.1</p></div>
<div class="fpbook-claim"></div></section></article>
"""


def counted(folder: Path, text: str) -> dict[str, Counter[str]]:
    page = folder / "html" / "book" / "numbers.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text, "utf-8")
    (folder / "html" / "search.html").write_text("<p>no article</p>", "utf-8")
    pages: dict[str, Counter[str]] = compare.site(folder)
    return pages


def test_it_counts_what_a_page_shows(tmp_path: Path) -> None:
    ((name, page),) = counted(tmp_path, SHOWN).items()
    assert name == "book/numbers.html"
    shown = {kind for kind in compare.COUNTED if page[kind] == 1}
    assert shown >= {"claims", "figures", "exercises", "explorers", "equations"}
    assert shown >= {"formulas in the text", "boxes", "sections"}
    assert page["tables"] == 0
    assert page["references"] == page["references: (1.1) -> #number"] == 1
    assert page["numbers of equations: (1.1)"] == page["captions: Fig. 1.1"] == 1
    assert page["titles: Exercise 1.1"] == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('<div class="fpbook-claim"></div>', "", "claims: 0 by plain Sphinx, 1 by"),
        ('<div class="fpbook-explorer"></div>', "", "explorers: 0 by plain Sphinx"),
        ('"exercise admonition"', '"admonition"', "exercises: 0 by plain Sphinx"),
        ("Fig. 1.1", "Fig. 2.1", "captions: Fig. 2.1: 1 by plain Sphinx, 0 by"),
        ("#number", "#other", "references: (1.1) -> #other: 1 by plain Sphinx"),
        ("<nav>", f"{BAR}<nav>", "buttons of a bar on top: 1 by plain Sphinx, 0 by"),
        (">(1.1)</span>", ">(1.2)</span>", "numbers of equations: (1.2): 1 by plain"),
    ],
)
def test_it_tells_what_differs(tmp_path: Path, old: str, new: str, told: str) -> None:
    theirs = counted(tmp_path, SHOWN)
    assert list(compare.differences(theirs, theirs)) == []
    assert SHOWN.count(old) == 1
    ours = counted(tmp_path, SHOWN.replace(old, new))
    lines = list(compare.differences(ours, theirs))
    assert any(line.startswith(f"book/numbers.html: {told}") for line in lines)


def test_it_tells_a_page_that_one_site_lacks(tmp_path: Path) -> None:
    ours = counted(tmp_path, SHOWN)
    assert list(compare.differences(ours, {})) == [
        "book/numbers.html: only in one of the sites"
    ]


@pytest.mark.parametrize("edited", [None, "book/numbers.md", "fpbook/tiny.py"])
def test_only_sites_of_the_same_files_are_compared(
    root: Path, edited: str | None
) -> None:
    folder = root / "_build"
    assert not compare.is_of_these_files(root, folder)
    counted(folder, SHOWN)
    door = folder / "html" / "index.html"
    door.write_text("", "utf-8")
    if edited is not None:
        (root / edited).write_text("edited", "utf-8")
        later = door.stat().st_mtime + 1
        os.utime(root / edited, (later, later))
    assert compare.is_of_these_files(root, folder) is (edited is None)


def test_a_page_without_an_article_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must have an article, got .*numbers"):
        counted(tmp_path, "<p>nothing</p>")
