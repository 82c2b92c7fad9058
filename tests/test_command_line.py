"""``python -m fpbook``, tried on a book of one small chapter."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from conftest import PAGES, ROOT

import fpbook
from fpbook import __main__ as command_line

HEAD = """\
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
WALK = (
    HEAD
    + """\
# A walk

```{code-cell} ipython3
---
tags: [hide-input]
---
import numpy as np

from fpbook import claims, runs
from fpbook.langevin import langevin_ensemble

WALKERS = runs.choose(3000, full=9000)
```

```{code-cell} ipython3
walkers = langevin_ensemble(
    lambda x: -x,
    0.5,
    np.zeros((WALKERS, 1)),
    dt=0.1,
    steps=20,
    seed=1,
    chunk=1000,
    jobs=runs.jobs(),
)[0]
print(len(walkers), float(walkers.sum()).hex())
```

```{code-cell} ipython3
claims.check(
    "variance of the walk",
    measured=walkers.var(),
    expected=0.5,
    atol=0.1,
    source="Ornstein and Uhlenbeck",
)
```
"""
)
PLAIN = HEAD + "# No choice\n\n```{code-cell} ipython3\nprint(6 * 7)\n```\n"
WRONG = PLAIN.replace("# No choice", "# Wrong") + (
    "\n```{code-cell} ipython3\nraise RuntimeError('the number is wrong')\n```\n"
)
CONTENTS = """\
format: jb-book
root: book/index
parts:
  - caption: I
    chapters:
      - file: book/walk
      - file: book/plain
      - file: book/wrong
      - file: book/words
"""


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A book in which one chapter has a full scale and another fails."""
    folder = tmp_path / "tiny"
    (folder / "book").mkdir(parents=True)
    (folder / "_toc.yml").write_text(CONTENTS)
    pages = {"walk": WALK, "plain": PLAIN, "wrong": WRONG, "words": "# Words\n"}
    for name, text in pages.items():
        (folder / "book" / f"{name}.md").write_text(text)
    monkeypatch.chdir(folder)
    return folder


def outputs(file: Path) -> list[str]:
    """What each cell of a saved notebook printed or showed, if anything."""
    notebook = nbformat.read(file, 4)
    # Joined: a print may reach the notebook in pieces.
    shown = [
        "".join(
            output.get("text") or output.get("data", {}).get("text/plain", "")
            for output in cell.outputs
            if output.get("name") != "stderr"
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    return [text for text in shown if text]


def fails(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        command_line.main(arguments)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


class TestBook:
    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert fails("--version") == 0
        assert capsys.readouterr().out == f"fpbook {fpbook.__version__}\n"

    def test_chapters_are_those_of_the_book(self) -> None:
        found = [chapter.file for chapter in command_line.chapters(ROOT)]
        assert found == [page.source for page in PAGES if page.chapter]

    def test_a_book_is_found_from_inside(
        self, book: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(book / "book")
        assert command_line.find_book() == book

    def test_a_book_is_found_beside_the_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert command_line.find_book() == ROOT

    def test_no_book(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert fails("doctor", "--book", str(tmp_path)) == 2
        assert f"no book in {tmp_path}" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["walk", "book/walk.md", "tiny/walk"])
    def test_a_chapter_is_found(self, book: Path, name: str) -> None:
        chapter = command_line.find_chapter(book, name)
        assert (chapter.name, chapter.title) == ("walk", "A walk")

    def test_an_unknown_chapter(
        self, book: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fails("run", "stroll") == 2
        told = capsys.readouterr().err
        assert "one of walk, plain, wrong" in told
        assert "got 'stroll'" in told


class TestDoctor:
    def test_it_knows_what_is_there(
        self, book: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command_line.main(["doctor"]) == 0
        told = capsys.readouterr().out
        assert f"fpbook {fpbook.__version__}" in told
        lines = {line.split()[0]: line for line in told.splitlines() if line.strip()}
        assert lines["walk"].split(maxsplit=1)[1] == "can run, < 60 s, --full"
        assert lines["plain"].split(maxsplit=1)[1] == "can run, < 60 s"
        assert "words" not in lines

    def test_it_tells_how_long_the_build_took(
        self, book: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (book / "_build").mkdir()
        (book / command_line.TIMES).write_text('{"walk": 12.3}')
        command_line.main(["doctor"])
        assert "can run, 12 s when built here" in capsys.readouterr().out

    def test_it_knows_what_is_not_there(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Also what only the package imports: kpz needs no torch, networks do."""
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *rest: None if name == "torch" else find(name, *rest),
        )
        assert command_line.main(["doctor", "--book", str(ROOT)]) == 1
        told = capsys.readouterr().out
        lines = {line.split()[0]: line for line in told.splitlines() if line.strip()}
        assert "not installed" in lines["torch"]
        assert "needs torch" in lines["tangent_kernel"]
        # And beside notebooks without the sources of the book.
        assert command_line.doctor(None) == 1
        assert "Its notebooks need torch." in capsys.readouterr().out
        assert "can run" in lines["kpz"]

    def test_a_need_of_the_package_is_one_of_the_chapter(self, book: Path) -> None:
        page = book / "book" / "plain.md"
        page.write_text(PLAIN.replace("print(6", "import fpbook.networks\nprint(6"))
        needed = command_line._needed_by_the_package({"fpbook.networks"})
        assert "torch" in needed
        assert "torch" not in command_line._needed_by_the_package({"fpbook.kpz"})


class TestRun:
    def test_a_chapter_is_executed_and_saved(
        self, book: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command_line.main(["run", "walk"]) == 0
        printed, claim = outputs(book / "walk.ipynb")
        assert printed.startswith("3000 ")
        assert claim.startswith("HOLDS: variance of the walk")
        told = capsys.readouterr()
        assert "1 claims hold" in told.out
        assert "3/3" in told.err

    def test_a_failure_is_told_and_what_was_computed_is_kept(
        self, book: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command_line.main(["run", "wrong", "--output", "kept/it.ipynb"]) == 1
        assert outputs(book / "kept" / "it.ipynb")[0] == "42\n"
        assert "the number is wrong" in capsys.readouterr().err

    def test_nothing_is_overwritten(
        self, book: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (book / "plain.ipynb").write_text("mine")
        assert fails("run", "plain") == 2
        assert (book / "plain.ipynb").read_text() == "mine"
        assert "must not exist yet, got plain.ipynb" in capsys.readouterr().err

    def test_full_scale_is_not_pretended(
        self, book: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fails("run", "plain", "--full") == 2
        assert "plain has no larger sizes" in capsys.readouterr().err

    def test_a_missing_package_is_told_before_the_run(
        self,
        book: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        find = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *rest: None if name == "distributed" else find(name, *rest),
        )
        assert fails("run", "walk", "--scheduler", "tcp://nowhere:8786") == 2
        assert "walk needs distributed" in capsys.readouterr().err


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a dask cluster of two workers on this computer."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def test_full_scale_is_the_same_alone_in_processes_and_on_a_cluster(
    book: Path, scheduler: str
) -> None:
    ways = {
        "alone": ["--jobs", "1"],
        "processes": ["--jobs", "2"],
        "cluster": ["--scheduler", scheduler],
    }
    found = {}
    for name, how in ways.items():
        call = ["run", "walk", "--full", *how, "--output", f"{name}.ipynb"]
        assert command_line.main(call) == 0
        found[name] = outputs(book / f"{name}.ipynb")
    assert found["alone"][0].startswith("9000 ")
    assert found["processes"] == found["alone"]
    first, *rest = found["cluster"]
    assert first == "2 workers\n"
    assert rest == found["alone"]
