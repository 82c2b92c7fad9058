"""The command line: ``python -m fpbook``.

``doctor`` says what is installed and which chapters can run, ``run`` executes one
chapter without a browser and saves it as a notebook.
"""

import argparse
import ast
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fpbook
from fpbook import progress, runs

PAGE_SECONDS = 60
"""What a chapter may take on one core; the build of the book fails if it takes more."""

TIMES = Path("_build") / "run_times.json"
"""Where the build of the book leaves the seconds of each chapter."""

MODULES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "matplotlib": "matplotlib",
    "joblib": "joblib",
    "torch": "torch",
    "psutil": "psutil",
    "tqdm": "tqdm",
    "ipywidgets": "ipywidgets",
    "sklearn": "scikit-learn",
    "sympy": "sympy",
    "jupytext": "jupytext",
    "nbclient": "nbclient",
    "ipykernel": "ipykernel",
    "distributed": "distributed",
}
"""Packages by the name of their module."""

TO_RUN = ("jupytext", "nbclient", "ipykernel")
FOR_CLUSTERS = ("distributed",)

CLUSTER = """\
from dask.distributed import Client
from joblib import parallel_config

cluster = Client({address!r})
parallel_config(backend="dask")
print(f"{{len(cluster.scheduler_info()['workers'])}} workers")
"""


class Chapter(NamedTuple):
    """A chapter of the book: its name, its title and its file."""

    name: str
    title: str
    file: Path


def find_book(given: Path | None = None) -> Path:
    """Find the sources of the book.

    Parameters
    ----------
    given
        The folder that holds ``_toc.yml``; if None, the current folder and those above
        it are tried, then the folder beside the package.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If there is no book.
    """
    beside = Path(__file__).resolve().parents[1]
    here = Path.cwd()
    places = [given] if given is not None else [here, *here.parents, beside]
    for place in places:
        if (place / "_toc.yml").is_file() and (place / "book").is_dir():
            return place
    tried = (
        f"in {given}" if given is not None else f"at {here}, above it or at {beside}"
    )
    raise ValueError(
        f"no book {tried}: a folder with _toc.yml and book/ is needed; get the sources "
        "of the book, or name the folder with --book"
    )


def chapters(book: Path) -> list[Chapter]:
    """List the chapters in the order of the table of contents.

    Parameters
    ----------
    book
        The folder that holds ``_toc.yml``.

    Returns
    -------
    list of Chapter
        Those with code cells.
    """
    found = []
    for line in (book / "_toc.yml").read_text("utf-8").splitlines():
        entry = line.strip().removeprefix("- ")
        if not entry.startswith("file:"):
            continue
        file = book / f"{entry.removeprefix('file:').strip()}.md"
        text = file.read_text("utf-8")
        if text.startswith("---\njupytext:"):
            title = next(line for line in text.splitlines() if line.startswith("# "))
            found.append(Chapter(file.stem, title.removeprefix("# "), file))
    return found


def find_chapter(book: Path, name: str) -> Chapter:
    """Find a chapter by its name, such as ``kpz``.

    Parameters
    ----------
    book
        The folder that holds ``_toc.yml``.
    name
        Name of the chapter; a path that ends in it is taken, too.

    Returns
    -------
    Chapter
        The chapter.

    Raises
    ------
    ValueError
        If there is none of that name; lists those that there are.
    """
    known = chapters(book)
    for chapter in known:
        if Path(name).stem == chapter.name:
            return chapter
    names = ", ".join(chapter.name for chapter in known)
    raise ValueError(f"chapter must be one of {names}; got {name!r}")


def code(chapter: Chapter) -> str:
    """Give the code cells of a chapter, without options and magics."""
    cells, inside, options = [], False, False
    for line in chapter.file.read_text("utf-8").splitlines():
        if line.startswith("```{code-cell}"):
            inside, options = True, False
        elif inside and line == "```":
            inside = False
        elif inside and line == "---":
            options = not options
        elif inside and not options and not line.startswith((":", "%", "!")):
            cells.append(line)
    return "\n".join(cells)


def missing(chapter: Chapter) -> list[str]:
    """List the packages that a chapter needs and that are not installed."""
    modules = set(TO_RUN)
    for node in ast.walk(ast.parse(code(chapter))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
    modules |= _needed_by_the_package(modules)
    tops = {module.partition(".")[0] for module in modules}
    return sorted(
        package
        for module, package in MODULES.items()
        if module in tops and importlib.util.find_spec(module) is None
    )


def _needed_by_the_package(modules: set[str]) -> set[str]:
    """Follow the imports of ``fpbook`` from module to module."""
    folder = Path(__file__).parent
    seen: set[str] = set()
    waiting = {m for m in modules if m.startswith("fpbook.")}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        file = folder / f"{module.split('.')[1]}.py"
        if not file.is_file():
            continue
        # Only at the top: what a function imports, it can do without or says so.
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.Import):
                seen |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
                waiting |= {n for n in names if n.startswith("fpbook.")} - seen
                seen.add(node.module)
    return seen


def has_full_scale(chapter: Chapter) -> bool:
    """Tell whether a chapter has sizes for ``--full``."""
    return "runs.choose(" in code(chapter)


def doctor(book: Path | None) -> int:
    """Print what is installed and which chapters can run, and how long they take.

    Parameters
    ----------
    book
        The folder that holds ``_toc.yml``; None beside notebooks without sources, as
        in a course.

    Returns
    -------
    int
        0 if every chapter can run, 1 otherwise.
    """
    print(f"fpbook {fpbook.__version__}, Python {platform.python_version()}")
    print(f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}")
    absent = []
    for module, package in MODULES.items():
        there = importlib.util.find_spec(module) is not None
        version = importlib.metadata.version(package) if there else "not installed"
        print(f"  {package:14s} {version}")
        absent += [] if there or module in FOR_CLUSTERS else [package]
    for line in _devices():
        print(line)
    if book is None:
        can = f"need {', '.join(absent)}" if absent else "can run"
        print(f"\nNo sources of the book here. Its notebooks {can}.")
        return 1 if absent else 0
    print(f"\nChapters of {book}")
    times = _times(book)
    all_can = True
    for chapter in chapters(book):
        lacking = missing(chapter)
        all_can = all_can and not lacking
        took = times.get(chapter.name)
        seconds = f"{took:.0f} s when built here" if took else f"< {PAGE_SECONDS} s"
        can = f"needs {', '.join(lacking)}" if lacking else f"can run, {seconds}"
        more = ", --full" if has_full_scale(chapter) else ""
        print(f"  {chapter.name:22s} {can}{more}")
    return 0 if all_can else 1


def _book_if_any(given: Path | None) -> Path | None:
    try:
        return find_book(given)
    except ValueError:
        if given is not None:
            raise
        return None


def _devices() -> Iterator[str]:
    if importlib.util.find_spec("psutil") is not None:
        from fpbook.memory import available_memory

        yield f"memory available: {available_memory() / 1e9:.1f} GB (chapters need 1.5)"
    if importlib.util.find_spec("torch") is None:
        yield "GPU: unknown, torch is not installed"
        return
    import torch

    if torch.cuda.is_available():
        yield f"GPU: {torch.cuda.get_device_name(0)}"
    else:
        yield "GPU: none that torch can use; the chapters do not need one"


def _times(book: Path) -> dict[str, float]:
    file = book / TIMES
    if not file.is_file():
        return {}
    times: dict[str, float] = json.loads(file.read_text("utf-8"))
    return times


def run(
    chapter: Chapter,
    output: Path,
    *,
    full: bool = False,
    jobs: int | None = None,
    scheduler: str | None = None,
) -> int:
    """Execute a chapter from top to bottom and save it as a notebook.

    What was computed is saved also if a cell fails or the run is interrupted.

    Parameters
    ----------
    chapter
        What to execute.
    output
        File for the executed notebook; it must not exist.
    full
        Use the sizes of full scale instead of those of the page.
    jobs
        Number of processes for ensembles, -1 for all cores; None for 1, or for -1 at
        full scale.
    scheduler
        Address of a dask scheduler, such as ``tcp://10.0.0.1:8786``, on whose workers
        the ensembles run; None for this computer.

    Returns
    -------
    int
        0 if all cells ran, 1 if one failed.

    Raises
    ------
    ValueError
        If ``output`` exists, ``full`` is asked of a chapter without full scale, or a
        package is missing.
    """
    if output.exists():
        raise ValueError(f"output must not exist yet, got {output}")
    if full and not has_full_scale(chapter):
        raise ValueError(f"full must be False: {chapter.name} has no larger sizes")
    lacking = missing(chapter)
    if scheduler and importlib.util.find_spec("distributed") is None:
        lacking.append("distributed")
    if lacking:
        raise ValueError(f"{chapter.name} needs {', '.join(lacking)}: not installed")
    import jupytext
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = jupytext.read(chapter.file)
    if scheduler:
        setting = nbformat.v4.new_code_cell(CLUSTER.format(address=scheduler))
        notebook.cells.insert(0, setting)
    if jobs is None:
        jobs = -1 if full or scheduler else 1
    environment = {
        **os.environ,
        progress.STATIC_ENVIRONMENT: "1",
        runs.FULL_ENVIRONMENT: "1" if full else "0",
        runs.JOBS_ENVIRONMENT: str(jobs),
    }
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(chapter.file.parent)}},
    )
    started = time.monotonic()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code_of_exit, told = 0, ""
    with _bar(len(cells), chapter.name) as bar:
        client.on_cell_executed = lambda **_: bar.update(1)
        try:
            client.execute(env=environment)
        except CellExecutionError as problem:
            code_of_exit, told = 1, str(problem)
        finally:
            output.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, output)
    if told:
        print(told, file=sys.stderr)
    seconds = time.monotonic() - started
    held = sum(_holds(out) for cell in cells for out in cell.get("outputs", []))
    print(f"{held} claims hold; {seconds:.0f} s; saved as {output}")
    return code_of_exit


def _holds(output: Any) -> bool:
    text = output.get("data", {}).get("text/plain", "")
    return bool(text.startswith("HOLDS: "))


def _bar(total: int, description: str) -> Any:
    """Show a bar of cells; unlike those of the package it shows itself at once."""
    from tqdm import tqdm

    return tqdm(total=total, desc=description, unit="cell")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Words after ``python -m fpbook``; None for those of this process.

    Returns
    -------
    int
        Exit code: 0 if all went well, 1 if a chapter failed or cannot run, 2 for a
        wrong call.
    """
    parser = argparse.ArgumentParser(
        prog="python -m fpbook", description="Look after the chapters of the book."
    )
    parser.add_argument(
        "--version", action="version", version=f"fpbook {fpbook.__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    looks = commands.add_parser("doctor", help="say what is installed and what can run")
    runs_one = commands.add_parser("run", help="execute one chapter without a browser")
    for command in (looks, runs_one):
        command.add_argument("--book", type=Path, help="folder that holds _toc.yml")
    runs_one.add_argument("chapter", help="its name, such as kpz")
    runs_one.add_argument(
        "--full", action="store_true", help="the sizes of full scale, on all cores"
    )
    runs_one.add_argument("--jobs", type=int, help="processes for ensembles, -1: all")
    runs_one.add_argument("--scheduler", help="address of a dask scheduler")
    runs_one.add_argument(
        "--output", type=Path, help="default: <chapter>.ipynb or <chapter>-full.ipynb"
    )
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "doctor":
            return doctor(_book_if_any(asked.book))
        book = find_book(asked.book)
        chapter = find_chapter(book, asked.chapter)
        suffix = "-full" if asked.full else ""
        return run(
            chapter,
            asked.output or Path(f"{chapter.name}{suffix}.ipynb"),
            full=asked.full,
            jobs=asked.jobs,
            scheduler=asked.scheduler,
        )
    except ValueError as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    sys.exit(main())
