"""The build can go red: every trap closes on a cold and on a warm ``_build``.

A book of three pages is built with the real configuration, extensions and package.
Each trap spoils a copy of it: once before anything was built (cold), once after a
green build (warm), and once more after the red build that followed.

With ``FPBOOK_BUILT=_build/sphinx``, by plain Sphinx in the place of Jupyter Book.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import BUILT, PYTHON, ROOT

FOLDER = BUILT.relative_to(ROOT)
SCRIPT = f"book/_ext/{'build' if FOLDER.name == '_build' else 'plain_sphinx'}.py"
BUILD_SECONDS = 120

HEADER = """\
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

"""
CONTENTS = """\
format: jb-book
root: book/index
parts:
  - caption: Numbers
    chapters:
      - file: book/numbers
      - file: book/words
      - file: book/ledger
"""
INDEX = """\
# A tiny book

See {cite:t}`barrett2021implicit`.

```{bibliography}
```
"""
NUMBERS = (
    HEADER
    + """\
# Numbers

$$ n = 2 $$ (number)

```{code-cell} ipython3
from fpbook import claims
from fpbook.tiny import NUMBER

print(f"the number is {NUMBER}")
```

```{code-cell} ipython3
claims.check(
    "1 < number & number < 10",
    measured=NUMBER,
    interval=(1.0, 10.0),
    source="its definition",
)
```
"""
)
WORDS = """\
# Words

As {eq}`number` on [the page of numbers](numbers.md) says.
"""
LEDGER = """\
# Ledger

```{claims-ledger}
```
"""
PAGES = {
    "_toc.yml": CONTENTS,
    "book/index.md": INDEX,
    "book/numbers.md": NUMBERS,
    "book/words.md": WORDS,
    "book/ledger.md": LEDGER,
    "fpbook/tiny.py": "NUMBER = 2.0\n",
}
REAL = (
    "_config.yml",
    "constraints.txt",
    "pyproject.toml",
    "fpbook",
    "book/_ext",
    "book/_static",
    "book/references.bib",
)


@dataclass(frozen=True)
class Book:
    """A book in its own folder."""

    root: Path

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text("utf-8")
        assert text.count(old) == 1, f"{old!r} in {file}"
        path.write_text(text.replace(old, new), "utf-8")

    def run(
        self, *script: str, by: str = sys.executable, **settings: str
    ) -> tuple[int, str]:
        """Run a script of the copy, with the package of the copy."""
        # Of the settings of this run, none may reach the one that is watched. Without
        # PYTHONDONTWRITEBYTECODE, say, it uses the compiled modules of the environment:
        # to compile Sphinx anew takes as long as a build.
        ours = ("FPBOOK_", "REPOSITORY_", "PYTEST_", "COV", "PYTHON")
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(ours)
        }
        own = {"PYTHONPATH": str(self.root), "NO_COLOR": "1"}
        done = subprocess.run(
            [by, *script],
            cwd=self.root,
            env=inherited | own | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
        )
        return done.returncode, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)

    def build(self, **settings: str) -> tuple[int, str]:
        return self.run(SCRIPT, by=PYTHON, **settings)

    def page(self, name: str) -> str:
        return (self.root / FOLDER / "html" / f"{name}.html").read_text("utf-8")


def assert_green(result: tuple[int, str]) -> str:
    code, log = result
    assert code == 0, log
    return log


def write_book(root: Path) -> Book:
    for name in REAL:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy2(source, target)
    for name, text in PAGES.items():
        (root / name).write_text(text, "utf-8")
    return Book(root)


@pytest.fixture
def fresh(tmp_path: Path) -> Book:
    """The book before its first build."""
    return write_book(tmp_path / "book")


@dataclass(frozen=True)
class Green:
    """A green build put aside, to be had back as often as it was spoilt."""

    saved: Path
    work: Path
    log: str

    def restore(self) -> Book:
        """Put it where it was built: Sphinx starts anew in any other folder."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.saved, self.work)
        return Book(self.work)


@pytest.fixture(scope="module")
def green(tmp_path_factory: pytest.TempPathFactory) -> Green:
    folder = tmp_path_factory.mktemp("gate")
    book = write_book(folder / "work")
    log = assert_green(book.build())
    shutil.copytree(book.root, folder / "saved")
    return Green(folder / "saved", folder / "work", log)


@pytest.fixture
def built(green: Green) -> Book:
    """The book after a green build."""
    return green.restore()


# --- traps --------------------------------------------------------------------------


@dataclass(frozen=True)
class Trap:
    """Edits that must turn the build red, and what the log says of each of them."""

    edits: tuple[tuple[str, str, str], ...]
    messages: tuple[str, ...]

    def spoil(self, book: Book) -> None:
        for file, old, new in self.edits:
            book.edit(file, old, new)

    def assert_closes(self, result: tuple[int, str]) -> None:
        code, log = result
        assert code != 0, f"the build passed:\n{log}"
        for message in self.messages:
            assert re.search(message, log), f"the log lacks {message!r}:\n{log}"


FAILING_CELL = Trap(
    (("book/numbers.md", 'print(f"the', '1 / 0\nprint(f"the'),),
    ("ZeroDivisionError: division by zero",),
)
FALSE_CLAIM = Trap(
    (("book/numbers.md", "interval=(1.0", "interval=(3.0"),),
    (r"FalseClaimError: FAILS: 1 < number & number < 10 \| predicted 3 to 10",),
)
CHANGED_PACKAGE = Trap(
    (("fpbook/tiny.py", "2.0", "20.0"),),
    (r"FalseClaimError: FAILS: 1 < number .* measured 20 ",),
)
# Warnings do not hide one another: one build has to tell all of them.
CARELESS_PAGES = Trap(
    (
        (
            "book/numbers.md",
            'print(f"the',
            'import sys\n\nprint("alas", file=sys.stderr)\nprint(f"the',
        ),
        (
            "book/numbers.md",
            "claims.check(",
            'claims.check("1 < number & number < 10", 1, 1, atol=0, source="here")\n'
            "claims.check(",
        ),
        ("book/words.md", "{eq}`number`", "{eq}`numbr`"),
        ("book/words.md", "(numbers.md)", "(nmbers.md)"),
        ("book/index.md", "barrett2021implicit", "nobody1900nothing"),
    ),
    (
        r"numbers\.md.* WARNING: stderr was found",
        r"numbers\.md.* WARNING: two claims say the same: claim-1-number-number-10",
        r"words\.md.* WARNING: .*numbr",
        r"words\.md.* WARNING: .*nmbers\.md",
        r"index\.md.* WARNING: could not find .*nobody1900nothing",
    ),
)
# What a page refers to is taken away elsewhere; the page itself is not edited.
LOST_TARGETS = Trap(
    (
        ("book/numbers.md", "$$ (number)", "$$"),
        ("book/references.bib", "{barrett2021implicit,", "{barrett2021,"),
    ),
    (
        r"words\.md.* WARNING: .*number",
        r"index\.md.* WARNING: could not find .*barrett2021implicit",
    ),
)
TRAPS = {
    "failing cell": FAILING_CELL,
    "false claim": FALSE_CLAIM,
    "careless pages": CARELESS_PAGES,
    "lost targets": LOST_TARGETS,
}


@pytest.mark.xdist_group("gate-cold")
@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_a_first_build_closes_the_trap(trap: Trap, fresh: Book) -> None:
    trap.spoil(fresh)
    trap.assert_closes(fresh.build())


@pytest.mark.xdist_group("gate-warm")
@pytest.mark.parametrize(
    "trap",
    [*TRAPS.values(), CHANGED_PACKAGE],
    ids=[*TRAPS, "changed package"],
)
def test_a_build_after_a_green_one_closes_the_trap(trap: Trap, built: Book) -> None:
    trap.spoil(built)
    trap.assert_closes(built.build())
    # What was told once has to be told again as long as it is not mended.
    trap.assert_closes(built.build())


# --- green builds -------------------------------------------------------------------


@pytest.mark.xdist_group("gate-warm")
def test_a_second_build_runs_no_page_again(green: Green) -> None:
    assert "executed: 1, failed: 0" in green.log
    assert "Using cached notebook" in green.log
    log = assert_green(green.restore().build())
    assert "executed: 0, failed: 0" in log
    assert "Executing notebook" not in log


@pytest.mark.xdist_group("gate-warm")
def test_an_edit_of_the_package_reaches_page_and_ledger(built: Book) -> None:
    assert "the number is 2.0" in built.page("book/numbers")
    assert "predicted 1 to 10, measured 2<" in built.page("book/numbers")
    built.edit("fpbook/tiny.py", "2.0", "3.0")
    log = assert_green(built.build())
    assert "executed: 1, failed: 0" in log
    assert "the number is 3.0" in built.page("book/numbers")
    assert "the number is 2.0" not in built.page("book/numbers")
    assert "1 &lt; number &amp; number &lt; 10</a>" in built.page("book/ledger")
    assert "<td><p>3</p></td>" in built.page("book/ledger")
    assert "1 claims on 1 pages" in built.page("book/ledger")


@pytest.mark.xdist_group("gate-warm")
def test_a_published_site_leads_to_notebooks_with_outputs(built: Book) -> None:
    assert "mybinder" not in built.page("book/numbers")
    (built.root / "book" / "numbers.ipynb").write_text("{}")
    address = {
        "REPOSITORY_URL": "https://github.com/some/book",
        "REPOSITORY_BRANCH": "notebooks",
    }
    assert_green(built.build(**address))
    page = built.page("book/numbers")
    for host in ("colab.research.google.com/github", "mybinder.org/v2/gh"):
        (link,) = set(re.findall(rf'href="https://{host}/([^"]+)"', page))
        assert link.startswith("some/book/")
        assert "notebooks" in link
        assert link.endswith("book/numbers.ipynb")
    download = built.root / FOLDER / "html/_sources/book/numbers.ipynb"
    assert "the number is 2.0" in download.read_text("utf-8")


def test_a_page_taken_out_of_the_contents_leaves_the_site(built: Book) -> None:
    built.edit("_toc.yml", "      - file: book/words\n", "")
    log = assert_green(built.build())
    assert "executed: 0, failed: 0" in log
    assert not (built.root / FOLDER / "html" / "book" / "words.html").exists()
    assert "words.html" not in built.page("book/numbers")


# --- what the outputs depend on -----------------------------------------------------


def fingerprint(book: Book) -> str:
    code, printed = book.run(
        "-c",
        "import sys; sys.path.insert(0, 'book/_ext'); import gate, pathlib; "
        "print(gate.fingerprint(pathlib.Path.cwd()))",
    )
    assert code == 0, printed
    return printed.strip()


@pytest.mark.xdist_group("gate-cold")
def test_the_fingerprint_holds_what_pages_do_not_say(fresh: Book) -> None:
    first = fingerprint(fresh)
    fresh.edit("book/words.md", "As ", "As the equation ")
    cache = fresh.root / "fpbook" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "tiny.cpython-311.pyc").write_bytes(b"compiled")
    assert fingerprint(fresh) == first

    seen = {first}
    fresh.edit("fpbook/tiny.py", "2.0", "2.1")
    seen.add(fingerprint(fresh))
    fresh.edit("fpbook/house.mplstyle", "font.size: 11", "font.size: 12")
    seen.add(fingerprint(fresh))
    (fresh.root / "constraints.txt").write_text("numpy==2.0.0\n", "utf-8")
    seen.add(fingerprint(fresh))
    (fresh.root / "book/_ext/offline.py").unlink()
    seen.add(fingerprint(fresh))
    assert len(seen) == 5


# --- the lint of the chapters -------------------------------------------------------

BAD_CODE = """\
import os
from fpbook import claims
from fpbook.tiny import NUMBER
print( f'the number is {NUMBER}' )"""
BAD_PROSE = "As   he said:  `x=1`\n\n```python\ny=( 2 )\n```\n\n\n\n# Größe θ \n"


@pytest.mark.xdist_group("gate-cold")
def test_lint_tells_bad_code_and_mends_nothing_else(fresh: Book) -> None:
    script = "book/_ext/lint_chapters.py"
    assert_green(fresh.run(script))
    page = fresh.root / "book" / "numbers.md"
    fresh.edit("book/numbers.md", "# Numbers\n", f"# Numbers\n\n{BAD_PROSE}")
    good = page.read_bytes()
    assert_green(fresh.run(script))

    good_code = good.decode().split("```{code-cell} ipython3\n")[1].split("\n```")[0]
    page.write_bytes(good.replace(good_code.encode(), BAD_CODE.encode()))
    bad = page.read_bytes()
    assert bad != good
    code, told = fresh.run(script)
    assert code != 0
    assert "F401" in told
    assert "would be reformatted" in told
    assert page.read_bytes() == bad

    assert_green(fresh.run(script, "--fix"))
    assert page.read_bytes() == good
    assert_green(fresh.run(script))


@pytest.mark.xdist_group("gate-cold")
def test_lint_tells_what_it_cannot_mend(fresh: Book) -> None:
    fresh.edit("book/numbers.md", 'print(f"the', 'print(undefined, f"the')
    before = (fresh.root / "book" / "numbers.md").read_bytes()
    code, told = fresh.run("book/_ext/lint_chapters.py", "--fix")
    assert code != 0
    assert "F821" in told
    assert (fresh.root / "book" / "numbers.md").read_bytes() == before
