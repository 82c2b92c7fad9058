"""The course: what students get, what they do not get, and that a stub is no answer.

Both sets are executed as a whole by a command of its own, ``make check-notebooks``.
"""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from conftest import PAGES, ROOT, SITE, Page
from nbclient import NotebookClient
from nbformat.v4 import new_markdown_cell, new_notebook
from test_export import load

course = load("course")
export = course.export
BOOK = export.read_book(ROOT)
LABEL = next(label for label in BOOK.numbers if label.startswith("ex-"))
LOCAL_LINK = re.compile(r"\]\(((?!https?:)[^)\s]+\.\w+(?:#[^)\s]*)?)\)")
TOGETHER = 6
"""So many words and signs in a row are a piece of a solution, not of the language."""


def pieces(notebook: Any) -> set[tuple[str, ...]]:
    found = set()
    for cell in notebook.cells:
        words = re.findall(r"\w+|[^\w\s]", cell.source)
        starts = range(len(words) - TOGETHER + 1)
        found |= {tuple(words[i : i + TOGETHER]) for i in starts}
    return found


def hidden(task: Any, page: Page) -> Any:
    """What students must not see of a solution, as a notebook says it."""
    text: str = task.solution
    for check in task.checks:
        text = text.replace(check, "")
    return export.export(page.source, BOOK, text=text)


def secrets(page: Page) -> dict[str, set[tuple[str, ...]]]:
    """Pieces of each solution that stand nowhere else in the page."""
    rest = page.source.read_text("utf-8")
    tasks = course.exercises(rest)
    for task in tasks:
        rest = rest.replace(task.solution, "\n".join(task.checks))
    known = pieces(export.export(page.source, BOOK, text=rest))
    return {task.label: pieces(hidden(task, page)) - known for task in tasks}


def leaks(page: Page, notebook: Any) -> set[str]:
    """Name the exercises of whose solutions a notebook has a piece."""
    told = pieces(notebook)
    return {label for label, secret in secrets(page).items() if secret & told}


# --- every chapter ------------------------------------------------------------------


def test_all_exercises_are_found_and_every_kind_is_there(chapter: Page) -> None:
    text = chapter.source.read_text("utf-8")
    tasks = course.exercises(text)
    assert len(tasks) == text.count("```{exercise-start}")
    assert {task.kind for task in tasks} == set(course.KINDS)
    assert {task.place for task in tasks} == set(course.PLACES)
    assert "easy" in {task.level for task in tasks}
    checked = {task.kind for task in tasks if task.checks}
    assert checked >= {"Derivation", "Computation", "Prediction"}


def test_no_piece_of_a_solution_is_in_the_student_notebook(chapter: Page) -> None:
    for label, secret in secrets(chapter).items():
        assert len(secret) > 10, f"{label} has no solution to hide"
    assert not leaks(chapter, course.notebook(chapter.source, BOOK, "student"))
    # The same test finds all of them where they are.
    told = course.notebook(chapter.source, BOOK, "instructor")
    assert leaks(chapter, told) == set(secrets(chapter))


def test_a_single_leaked_line_would_be_found(chapter: Page) -> None:
    text = chapter.source.read_text("utf-8")
    for task in course.exercises(text):
        made = course.notebook(chapter.source, BOOK, "student")
        secret = secrets(chapter)[task.label]
        line = next(
            line
            for cell in hidden(task, chapter).cells
            for line in cell.source.splitlines()
            if pieces(new_notebook(cells=[new_markdown_cell(line)])) & secret
        )
        made.cells.append(new_markdown_cell(line))
        assert task.label in leaks(chapter, made)


def test_students_get_every_stub_and_every_self_check(chapter: Page) -> None:
    text = chapter.source.read_text("utf-8")
    made = course.notebook(chapter.source, BOOK, "student")
    by_tag: dict[str, list[str]] = {"stub": [], "self-check": []}
    for cell in made.cells:
        for tag in set(cell.metadata.get("tags", [])) & set(by_tag):
            by_tag[tag].append(cell.source)
        if cell.cell_type == "code":
            assert not cell.outputs
    tasks = course.exercises(text)
    assert by_tag["stub"] == [task.stub.rstrip() for task in tasks if task.stub]
    checks = [
        course.CODE.fullmatch(check)["code"].rstrip()
        for task in tasks
        for check in task.checks
    ]
    assert by_tag["self-check"] == checks
    # And room for words with each.
    texts = [cell.source for cell in made.cells]
    assert texts.count(course.TO_WRITE) == len(tasks)


def names(code: str) -> set[str]:
    """The names that code defines at its top level."""
    found = set()
    for line in ast.parse(code).body:
        if isinstance(line, ast.FunctionDef):
            found.add(f"{line.name}({', '.join(a.arg for a in line.args.args)})")
        elif isinstance(line, ast.Assign):
            for target in line.targets:
                parts = ast.walk(target)
                found |= {part.id for part in parts if isinstance(part, ast.Name)}
    return found


def test_solutions_define_what_the_stubs_ask_for(chapter: Page) -> None:
    for task in course.exercises(chapter.source.read_text("utf-8")):
        if task.stub:
            answer = "\n".join(
                cell["code"]
                for cell in course.CODE.finditer(task.solution)
                if cell[0] not in task.checks
            )
            assert names(task.stub), task.label
            assert names(task.stub) <= names(answer), task.label
            assert "..." in task.stub or "claims.NotYetError(" in task.stub


def test_every_self_check_has_a_hint(chapter: Page) -> None:
    for task in course.exercises(chapter.source.read_text("utf-8")):
        checks = [course.CODE.fullmatch(check)["code"] for check in task.checks]
        called = [code for code in checks if "claims.check(" in code]
        assert bool(called) == bool(task.stub), task.label
        for code in called:
            words = [
                word.arg
                for node in ast.walk(ast.parse(code))
                if isinstance(node, ast.Call)
                and ast.unparse(node.func) == "claims.check"
                for word in node.keywords
            ]
            assert "hint" in words, f"{task.label}: {code}"


def test_the_instructor_notebook_is_that_of_the_page(executable_page: Page) -> None:
    made = course.notebook(executable_page.source, BOOK, "instructor")
    exported = export.export(executable_page.source, BOOK)
    for one, other in zip(made.cells, exported.cells, strict=True):
        assert one.cell_type == other.cell_type
        without_links = course.OTHER_PAGE.sub(r"\g<text>", other.source)
        assert one.source in (other.source, without_links)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    into = tmp_path_factory.mktemp("course")
    return dict(zip(course.SETS, course.write(ROOT, into), strict=True))


class TestArchives:
    @pytest.fixture(params=list(course.SETS))
    def unpacked(
        self, request: pytest.FixtureRequest, archives: dict[str, Path], tmp_path: Path
    ) -> Path:
        with zipfile.ZipFile(archives[request.param]) as packed:
            packed.extractall(tmp_path)
        (folder,) = tmp_path.iterdir()
        return folder

    def test_all_chapters_are_there_and_valid(self, unpacked: Path) -> None:
        found = {
            str(file.relative_to(unpacked).with_suffix(""))
            for file in unpacked.rglob("*.ipynb")
        }
        assert found == {page.name for page in PAGES if page.executable}
        for file in unpacked.rglob("*.ipynb"):
            nbformat.validate(nbformat.read(file, 4))

    def test_no_link_leads_out_of_it(self, unpacked: Path) -> None:
        links = 0
        for file in unpacked.rglob("*.ipynb"):
            for cell in nbformat.read(file, 4).cells:
                if cell.cell_type != "markdown":
                    continue
                for address in LOCAL_LINK.findall(cell.source):
                    links += 1
                    assert (file.parent / address.partition("#")[0]).exists(), address
        assert links > 10

    def test_it_has_what_installs_it(self, unpacked: Path) -> None:
        """What the first cell, Binder and pip look for."""
        wanted = yaml.safe_load((unpacked / "environment.yml").read_text("utf-8"))
        assert {"pip": ["-e ."]} in wanted["dependencies"]
        assert (unpacked / "fpbook" / "__init__.py").exists()
        notebook = next(unpacked.rglob("kpz.ipynb"))
        first = nbformat.read(notebook, 4).cells[0].source
        (place,) = re.findall(r'"([./]+)\[chapters\]"', first)
        assert (notebook.parent / place).resolve() == unpacked.resolve()

    def test_the_doctor_looks_after_it(self, unpacked: Path) -> None:
        command = [sys.executable, "-m", "fpbook", "doctor"]
        done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "No sources of the book here. Its notebooks can run." in done.stdout

    def test_no_secret_is_in_the_archive_of_students(
        self, archives: dict[str, Path]
    ) -> None:
        with zipfile.ZipFile(archives["student"]) as packed:
            for page in PAGES:
                if page.chapter:
                    (name,) = (
                        name
                        for name in packed.namelist()
                        if name.endswith(f"{page.name}.ipynb")
                    )
                    notebook = nbformat.reads(packed.read(name).decode(), 4)
                    assert not leaks(page, notebook)

    def test_the_same_source_makes_the_same_bytes(
        self, archives: dict[str, Path], tmp_path: Path
    ) -> None:
        again = dict(zip(course.SETS, course.write(ROOT, tmp_path), strict=True))
        for kind, archive in archives.items():
            assert archive.read_bytes() == again[kind].read_bytes()


# --- the pages for teachers ---------------------------------------------------------


def article(name: str) -> Tag:
    page = next(page for page in PAGES if page.name == name)
    found = BeautifulSoup(page.built.read_text("utf-8"), "html.parser")
    body = found.select_one("article")
    assert body is not None
    return body


@pytest.mark.usefixtures("site")
class TestPages:
    def test_the_syllabus_has_a_week_for_each_chapter(self) -> None:
        weeks = article("book/syllabus").select("section > section")
        chapters = [page for page in PAGES if page.chapter]
        assert len(weeks) == len(chapters) == 10
        for number, (week, page) in enumerate(zip(weeks, chapters, strict=True), 1):
            heading = week.select_one("h2")
            assert heading is not None
            assert heading.get_text().startswith(f"Week {number}: ")
            text = page.source.read_text("utf-8")
            rows = week.select("tbody tr")
            tasks = course.exercises(text)
            for row, task in zip(rows, tasks, strict=False):
                link = row.select_one("a")
                assert link is not None
                assert str(link["href"]).endswith(f"{page.name}.html#{task.label}"[5:])
                cells = [cell.get_text().strip() for cell in row.select("td")]
                named = f"{BOOK.numbers[task.label]}: {task.title}"
                assert cells == [
                    named,
                    task.kind,
                    task.level,
                    task.place,
                    str(task.points),
                ]
            total = rows[-1].get_text().split()
            assert total == ["sum", str(sum(task.points for task in tasks))]
            assert len(rows) == len(tasks) + 1
            learnt = week.select("ul > li")
            listed = text.partition("## What you will learn")[2].partition("\n## ")[0]
            assert len(learnt) == len(re.findall(r"^- ", listed, re.MULTILINE))

    def test_the_page_for_teachers_links_to_all_that_is_made(self) -> None:
        links = {
            str(link["href"])
            for link in article("book/teach").select("a.reference.internal")
        }
        made = {link for link in links if re.search(r"/(?:slides|course)/", link)}
        files = {
            file.relative_to(SITE).as_posix()
            for pattern in ("slides/*.html", "course/*.zip")
            for file in SITE.glob(pattern)
        }
        assert {link.removeprefix("../") for link in made} == files
        assert len(files) == 5 + 2


# --- one small chapter --------------------------------------------------------------

CHECK = """\
```{code-cell} ipython3
:tags: [self-check]

from fpbook import claims

claims.check("exercise: twice three", measured=twice(3), expected=3 + 3, atol=0,
             hint="add it to itself", source="counting")
```
"""
TINY = f"""\
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

# Tiny

```{{exercise-start}} Double
:label: {LABEL}
```
*Computation · easy · class · 2 points*

Double a number.

```python
def twice(x):
    \"\"\"Two times a number.\"\"\"
    return ...
```
```{{exercise-end}}
```

```{{solution-start}} {LABEL}
:class: dropdown
```
Multiplication by two does what is wanted here.

```{{code-cell}} ipython3
def twice(x):
    return 2 * x
```

{CHECK}
```{{solution-end}}
```

## Further reading
"""


def executed(text: str) -> Any:
    notebook = jupytext.reads(text, "md:myst")
    # Errors are what these tests look at: a self-check that nobody answered raises.
    NotebookClient(notebook, timeout=60, allow_errors=True).execute()
    return notebook


class TestTiny:
    def test_for_students(self) -> None:
        text = course.for_students(TINY)
        assert "Multiplication" not in text
        assert "2 * x" not in text
        assert CHECK in text
        head, _, tail = text.partition(":tags: [stub]\n\n")
        assert tail.startswith('def twice(x):\n    """Two times a number."""\n')
        assert "*Computation · easy · class · 2 points*\n\nDouble a number.\n" in head

    def test_an_open_question_leaves_room_for_words_alone(self) -> None:
        text = re.sub(r"```python\n.*?```\n", "", TINY, flags=re.DOTALL)
        made = course.for_students(text.replace(CHECK, ""))
        assert course.TO_WRITE in made
        assert "stub" not in made

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("*Computation ·", "*Sum ·", "the first line must be"),
            ("· easy ·", "· trivial ·", "the first line must be"),
            ("2 points", "3 points", "3 points for easy"),
            (CHECK, "", "go together"),
            ("```python", "```text", "go together"),
        ],
    )
    def test_what_is_not_in_order_is_told(self, old: str, new: str, told: str) -> None:
        with pytest.raises(ValueError, match=f"^{LABEL}: .*{re.escape(told)}"):
            course.exercises(TINY.replace(old, new))

    def test_a_stub_fails_with_a_message_that_helps(self) -> None:
        notebook = executed(course.for_students(TINY))
        assert course.faults(notebook) == []
        (error,) = (
            output
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if output.output_type == "error"
        )
        assert error.evalue == (
            "No answer yet: exercise: twice three\n"
            "Write it where the dots (...) are, and end a function with return; "
            "accepted is the exact answer.\n"
            "Run that cell, then this one. A hint comes after the first try."
        )
        # And nothing of Python's own.
        assert error.traceback == [error.evalue]

    @pytest.mark.parametrize(
        ("stub", "told"),
        [
            ("return 2 * x", "accepts what nobody answered"),
            ("return undefined", "NameError"),
            ("raise NotImplementedError", "NotImplementedError: $"),
            ("return 7", "NotYetError: Not yet: "),
        ],
    )
    def test_faults_of_stubs_are_found(self, stub: str, told: str) -> None:
        text = course.for_students(TINY).replace("return ...", stub)
        (fault,) = course.faults(executed(text))
        assert re.search(told, fault)

    def test_faults_elsewhere_are_found(self) -> None:
        broken = "```{code-cell} ipython3\n1 / 0\n```\n\n## Further"
        text = course.for_students(TINY).replace("## Further", broken)
        (fault,) = course.faults(executed(text))
        assert "ZeroDivisionError" in fault

    @pytest.mark.parametrize(("answer", "accepted"), [("x + x", True), ("x", False)])
    def test_a_student_is_told_whether_the_answer_is_right(
        self, answer: str, accepted: bool
    ) -> None:
        text = course.for_students(TINY).replace("...", answer)
        outputs = [
            output
            for cell in executed(text).cells
            for output in cell.get("outputs", [])
        ]
        if accepted:
            (row,) = outputs
            assert row.data["text/plain"].startswith("HOLDS: exercise: twice three")
        else:
            (error,) = outputs
            assert error.evalue == (
                "Not yet: exercise: twice three\n"
                "Not accepted; accepted is the exact answer.\nHint: add it to itself"
            )
