"""Make two sets of notebooks for a course.

They come from the one source. The instructor's set has the solutions. In the
students' a cell to fill in stands in the place of each solution, with the
self-checks after it. Each set is a folder that Binder, Colab and JupyterHub can use as
it is, and the same folder as an archive.

In the pages, an exercise ends with the code to start from, if it has a self-check:

    ```{exercise-start} A name
    :label: ex-name
    ```
    *Computation · easy · class · 2 points*

    The question.

    ```python
    answer = ...
    ```
    ```{exercise-end}
    ```

and cells of its solution tagged ``self-check`` stay in both sets.
"""

import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import build
import export
import jupytext

FOLDER = "course"
SETS = {"student": "students", "instructor": "instructors, with solutions"}
POINTS = {"easy": 2, "medium": 4, "hard": 6}
KINDS = ("Derivation", "Computation", "Prediction", "Open question")
PLACES = ("class", "homework")

BLOCK = re.compile(
    r"^```\{exercise-start\} (?P<title>[^\n]*)\n:label: (?P<label>[\w-]+)\n```\n"
    r"(?P<body>.*?)^```\{exercise-end\}\n```\n"
    r"\s*^```\{solution-start\} (?P=label)\n(?::[^\n]*\n)*```\n"
    r"(?P<solution>.*?)^```\{solution-end\}\n```\n",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile(
    rf"\A\*(?P<kind>{'|'.join(KINDS)}) · (?P<level>{'|'.join(POINTS)}) · "
    rf"(?P<place>{'|'.join(PLACES)}) · (?P<points>\d+) points\*\n"
)
STUB = re.compile(r"^```python\n(?P<code>.*?)^```\n\Z", re.MULTILINE | re.DOTALL)
CODE = re.compile(
    r"^```\{code-cell\} ipython3\n(?P<options>(?::[^\n]*\n)*)\n?(?P<code>.*?)^```\n",
    re.MULTILINE | re.DOTALL,
)
SELF_CHECK = ":tags: [self-check]\n"
# Pages that are not in the sets, such as the findings, are named without a link.
OTHER_PAGE = re.compile(
    r"\[(?P<text>[^\]]*)\]\((?!https?:)(?!.*notation)[^)]*\.md[^)]*\)"
)
TO_WRITE = "*Write here how you found your answer.*"

# What a set needs to run by itself, beside its notebooks.
TO_RUN = (
    "environment.yml",
    "postBuild",
    "pyproject.toml",
    "constraints.txt",
    "LICENSE",
    "LICENSE-TEXT.md",
    "CITATION.cff",
)


README = """\
# The Physics of Neural-Network Training: notebooks for {who}

`book/` has one notebook per chapter; start with `book/index.ipynb`. Run its cells from
the top: the exercises at the end use what the chapter has defined.

On your computer (Python >= 3.11): `pip install ".[chapters]" jupyterlab`, then
`jupyter lab`. On Binder: put this folder into a repository of its own; it has the
`environment.yml` that Binder looks for. On Colab, where a notebook comes without its
folder, the first cell has to know that repository: set `REPOSITORY_URL` to its address
when the notebooks are made.

The cells after an exercise check an answer and say what is missing. They are no
examination: they show how far you are.
"""


class Exercise(NamedTuple):
    """An exercise of a chapter, in the words of its page."""

    title: str
    label: str
    kind: str
    level: str
    place: str
    points: int
    text: str
    stub: str
    """The code to start from; empty if the answer is a text."""
    solution: str
    checks: list[str]
    """The code cells of the self-check, as they stand in the page."""


def exercises(text: str) -> list[Exercise]:
    """Find the exercises of a chapter.

    Parameters
    ----------
    text
        The chapter's text.

    Raises
    ------
    ValueError
        If an exercise does not say its kind, level, place and points, has other points
        than its level, or has code to start from without a self-check or the reverse.
    """
    found = []
    for block in BLOCK.finditer(text):
        label, body = block["label"], block["body"]
        mark = MARK.match(body)
        if mark is None:
            raise ValueError(
                f"{label}: the first line must be '*kind · level · place · points*', "
                f"got {body.splitlines()[0]!r}"
            )
        points = int(mark["points"])
        if points != POINTS[mark["level"]]:
            raise ValueError(f"{label}: {points} points for {mark['level']}")
        body = body[mark.end() :].lstrip("\n")
        start = STUB.search(body)
        checks = [
            cell[0]
            for cell in CODE.finditer(block["solution"])
            if cell["options"] == SELF_CHECK
        ]
        if (start is None) != (not checks):
            raise ValueError(
                f"{label}: code to start from and a self-check go together"
            )
        found.append(
            Exercise(
                block["title"],
                label,
                mark["kind"],
                mark["level"],
                mark["place"],
                points,
                body if start is None else body[: start.start()],
                "" if start is None else start["code"],
                block["solution"],
                checks,
            )
        )
    return found


def for_students(text: str) -> str:
    """Take the solutions out of a chapter and put cells to fill in there.

    Parameters
    ----------
    text
        The chapter's text.

    Returns
    -------
    str
        The text, with the code to start from as cells tagged ``stub``.
    """
    tasks = iter(exercises(text))

    def unsolved(block: re.Match[str]) -> str:
        task = next(tasks)
        mark = MARK.match(block["body"])
        assert mark is not None
        lines = [
            f"```{{exercise-start}} {task.title}\n:label: {task.label}\n```\n",
            f"{mark[0]}\n{task.text}",
            "```{exercise-end}\n```\n",
            f"+++\n\n{TO_WRITE}\n\n+++\n",
        ]
        if task.stub:
            stub = f"```{{code-cell}} ipython3\n:tags: [stub]\n\n{task.stub}```\n"
            lines += [stub, *task.checks]
        return "\n".join(lines)

    return BLOCK.sub(unsolved, text)


def notebook(page: Path, book: export.Book, kind: str) -> Any:
    """Turn a chapter into a notebook of one of the sets.

    Parameters
    ----------
    page
        The chapter's file.
    book
        What :func:`export.read_book` returns.
    kind
        ``"student"`` or ``"instructor"``.
    """
    address = os.environ.get("REPOSITORY_URL", "")
    branch = os.environ.get("REPOSITORY_BRANCH", "main")
    text = page.read_text("utf-8")
    if kind == "student":
        text = for_students(text)
    made = export.export(page, book, address, branch, text)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = OTHER_PAGE.sub(r"\g<text>", cell.source)
        if "self-check" in cell.metadata.get("tags", []):
            # JupyterLab then keeps it as it is.
            cell.metadata |= {"editable": False, "deletable": False}
    return made


def faults(executed: Any) -> list[str]:
    """List what is wrong with a student notebook that was run as it is.

    Every self-check has to fail and to say what to do; nothing else may fail.

    Parameters
    ----------
    executed
        The notebook, run with errors allowed.
    """
    found = []
    for cell in executed.cells:
        if cell.cell_type != "code":
            continue
        errors = [out for out in cell.outputs if out.output_type == "error"]
        is_check = "self-check" in cell.metadata.get("tags", [])
        named = f"{cell.source.splitlines()[0]!r} and what follows"
        if is_check and "claims.check(" in cell.source:
            if not errors:
                found.append(f"a self-check accepts what nobody answered: {named}")
            for error in errors:
                asks = error.evalue.startswith("No answer yet: ")
                if error.ename != "NotYetError" or not asks:
                    found.append(f"{named}: {error.ename}: {error.evalue}")
        else:
            found += [f"{named}: {error.ename}: {error.evalue}" for error in errors]
    return found


def write(root: Path, into: Path) -> Iterator[Path]:
    """Write both sets, as folders and as archives, and name the archives.

    Parameters
    ----------
    root
        The repository.
    into
        Folder for them, emptied first.
    """
    shutil.rmtree(into, ignore_errors=True)
    book = export.read_book(root)
    for kind in SETS:
        place = into / kind
        for name in TO_RUN:
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, place / name)
        ignored = shutil.ignore_patterns("__pycache__")
        (place / "README.md").write_text(README.format(who=SETS[kind]), "utf-8")
        notation = root / "book" / "notation.md"
        (place / "book").mkdir()
        plain = export.plain(notation.read_text("utf-8"), notation, book)
        (place / "book" / "notation.md").write_text(plain + "\n", "utf-8")
        shutil.copytree(root / "fpbook", place / "fpbook", ignore=ignored)
        for page in build.chapters(root):
            file = place / page.relative_to(root).with_suffix(".ipynb")
            file.parent.mkdir(parents=True, exist_ok=True)
            jupytext.write(notebook(page, book, kind), file)
        yield pack(place, into / archive(kind))


def archive(kind: str) -> str:
    """Name the archive of a set."""
    return f"physics-of-training-{kind}.zip"


def pack(folder: Path, target: Path) -> Path:
    """Pack a folder, the same bytes for the same files."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = f"{target.stem}/{file.relative_to(folder).as_posix()}"
                # Without the time of the file.
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (file.stat().st_mode & 0o777) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                packed.writestr(entry, file.read_bytes())
    return target
