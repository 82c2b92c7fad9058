"""Break the physics in one place at a time, and see that a test or a claim notices.

``make mutants`` reads ``mutants.toml``, which lists the mutants: a file of the package
or a chapter, a text that occurs in it once, the wrong text that takes its place, what
is wrong with it in words, and the killer that has to go red:

- tests, as pytest selects them; without a killer, those of the module's test file;
- a chapter: its code cells run up to the first claim that fails. Cells before the
  mutated one run once for all mutants of a chapter, of which each goes on in a fork.

Killers have to be green without the mutant. Nothing is changed but copies. The table is
Markdown; the exit code is 1 if a mutant survives, and 2 if the list is at fault.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import jupytext

ROOT = Path(__file__).resolve().parents[1]
LISTED = Path("tests", "mutants.toml")
NOT_COPIED = shutil.ignore_patterns(".*", "_build", "__pycache__", "*.egg-info")
SECONDS = 120
"""A mutant that keeps its killer busy for longer counts as not killed."""


class Mutant(NamedTuple):
    """One wrong text in one file."""

    name: str
    file: str
    old: str
    new: str
    breaks: str
    """What is wrong, in a few words."""
    killer: str = ""
    """Tests as pytest selects them, or a chapter; the related ones if empty."""

    @property
    def judge(self) -> str:
        """The killer, or what is run to find one."""
        related = self.file.replace("fpbook/", "tests/test_")
        return self.killer or related

    @property
    def judged_by_claims(self) -> bool:
        return self.judge.endswith(".md")


class Verdict(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    killed_by: str
    """Test or claim; empty if it survived."""
    seconds: float


class ListError(Exception):
    """The list of mutants does not fit the tree, or a killer is red without one."""


def read_mutants(root: Path) -> list[Mutant]:
    """Read the list of a tree."""
    entries = tomllib.loads((root / LISTED).read_text("utf-8"))["mutant"]
    return [Mutant(**entry) for entry in entries]


def mutated(root: Path, mutant: Mutant) -> str:
    """Text of the mutant's file with the wrong text in it."""
    text = (root / mutant.file).read_text("utf-8")
    found = text.count(mutant.old)
    if found != 1:
        raise ListError(
            f"{mutant.name}: {mutant.old!r} must occur once in {mutant.file}, "
            f"it occurs {found} times"
        )
    return text.replace(mutant.old, mutant.new)


def environment(root: Path) -> dict[str, str]:
    # A mutant may have the size and the second of the original: no stale bytecode.
    changed = {
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(root),
    }
    return {**os.environ, **changed}


# --- killed by tests ----------------------------------------------------------------


def red_tests(root: Path, selection: Sequence[str], *options: str) -> str | None:
    """Run tests in a tree: the first red one, nothing if green, None without answer."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *options, *selection],
            cwd=root,
            env=environment(root),
            capture_output=True,
            text=True,
            timeout=SECONDS if "-x" in options else None,
        )
    except subprocess.TimeoutExpired:
        return None
    red = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1) or (done.returncode == 1) != bool(red):
        raise ListError(f"pytest could not run: {done.stdout[-800:]}{done.stderr}")
    return ", ".join(red)


def judged_by_tests(root: Path, mutant: Mutant) -> Verdict:
    """Run the killer of a mutant in a copy of the tree."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        shutil.copytree(root, tree, ignore=NOT_COPIED)
        (tree / mutant.file).write_text(mutated(root, mutant), "utf-8")
        red = red_tests(tree, [mutant.judge], "-x")
    by = (red or "").removeprefix("tests/")
    return Verdict(mutant, by, time.monotonic() - started)


# --- killed by claims ---------------------------------------------------------------


def judged_by_claims(root: Path, chapter: str, mutants: list[Mutant]) -> list[Verdict]:
    """Run a chapter with each of some mutants, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, f"--root={root}", f"--chapter={chapter}"],
        cwd=root,
        env=environment(root),
        input=json.dumps(mutants),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ListError(f"{chapter} without a mutant:\n{done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    return [Verdict(mutant, *pair) for mutant, pair in zip(mutants, found, strict=True)]


class Red(NamedTuple):
    """Cell that went red, and the claim in it; no text if none did."""

    cell: int
    told: str


def run_chapter(
    root: Path, chapter: str, mutants: list[Mutant]
) -> list[tuple[str, float]]:
    """Claims that go red, and seconds, for each mutant from its cell on.

    The chapter without mutants has to be green as far as the last of these claims.
    """
    cells = code_cells((root / chapter).read_text("utf-8"))
    first = {mutant: first_cell(root, chapter, cells, mutant) for mutant in mutants}
    verdicts: dict[Mutant, tuple[str, float]] = {}
    names: dict[str, Any] = {"__name__": "__main__"}
    furthest = -1
    for number in range(-1, len(cells)):
        for mutant in [m for m in mutants if first[m] == number]:
            started = time.monotonic()
            red = in_a_fork(root, chapter, mutant, number, names)
            verdicts[mutant] = red.told, time.monotonic() - started
            furthest = max(furthest, red.cell)
        if len(verdicts) == len(mutants) and number > furthest:
            break
        if number == -1:
            without_explorers()
        else:
            run_cell(chapter, number, cells[number], names)
    return [verdicts[mutant] for mutant in mutants]


def code_cells(text: str) -> list[str]:
    cells = jupytext.reads(text, "md:myst").cells
    return [cell.source for cell in cells if cell.cell_type == "code"]


def first_cell(root: Path, chapter: str, cells: list[str], mutant: Mutant) -> int:
    """Number of the mutated cell; -1, before the imports, if it is the package."""
    if mutant.file != chapter:
        return -1
    wrong = code_cells(mutated(root, mutant))
    changed = [n for n, cell in enumerate(cells) if wrong[n] != cell]
    if len(changed) != 1:
        raise ListError(f"{mutant.name} must change one code cell, not {len(changed)}")
    return changed[0]


def without_explorers() -> None:
    """Draw no frames: explorers show what claims check."""
    from fpbook import explore

    explore.explore = lambda *_, **__: None


def run_cell(chapter: str, number: int, cell: str, names: dict[str, Any]) -> None:
    exec(compile(cell, f"<{chapter}, cell {number}>", "exec"), names)


def in_a_fork(
    root: Path, chapter: str, mutant: Mutant, first: int, names: dict[str, Any]
) -> Red:
    """Go on with a mutant, and leave this process as it is."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with tempfile.TemporaryDirectory() as folder:
                red = first_red(root, Path(folder), chapter, mutant, first, names)
            os.write(writing, json.dumps(red).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    if not told:
        raise ListError(f"{chapter} broke off with {mutant.name}")
    return Red(*json.loads(told))


def first_red(
    root: Path,
    folder: Path,
    chapter: str,
    mutant: Mutant,
    first: int,
    names: dict[str, Any],
) -> Red:
    """Run the cells with a mutant until a claim fails."""
    wrong = mutated(root, mutant)
    if mutant.file == chapter:
        cells = code_cells(wrong)
    else:
        cells = code_cells((root / chapter).read_text("utf-8"))
        shutil.copytree(root / "fpbook", folder / "fpbook", ignore=NOT_COPIED)
        (folder / mutant.file).write_text(wrong, "utf-8")
        sys.path.insert(0, str(folder))
        without_explorers()
    from fpbook.claims import FalseClaimError

    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(SECONDS)
    for number in range(max(first, 0), len(cells)):
        try:
            run_cell(chapter, number, cells[number], names)
        except TimeoutError:
            break
        except FalseClaimError as claim:
            told = str(claim).splitlines()[0].split(" | ")[0]
            return Red(number, told.removeprefix("FAILS: "))
        except Exception as problem:
            return Red(number, f"stops with {problem!r:.100}")
    return Red(first, "")


def out_of_time(signum: int, frame: FrameType | None) -> None:
    raise TimeoutError


# --- all of them --------------------------------------------------------------------


def judged(root: Path, mutants: Sequence[Mutant], jobs: int) -> list[Verdict]:
    """Judge mutants, the chapters first: they take longest."""
    for mutant in mutants:
        mutated(root, mutant)
    by_tests = [mutant for mutant in mutants if not mutant.judged_by_claims]
    chapters: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        if mutant.judged_by_claims:
            chapters.setdefault(mutant.judge, []).append(mutant)
    green = sorted({mutant.judge for mutant in by_tests})
    if green:
        red = red_tests(root, green, *(["-n", str(jobs)] if jobs > 1 else []))
        if red:
            raise ListError(f"red without a mutant: {red}")
    with ThreadPoolExecutor(jobs) as workers:
        pages = [
            workers.submit(
                judged_by_claims,
                root,
                chapter,
                [m for m in mutants if m.judge == chapter],
            )
            for chapter in chapters
        ]
        tests = [workers.submit(judged_by_tests, root, mutant) for mutant in by_tests]
        found = [verdict for page in pages for verdict in page.result()]
        found += [test.result() for test in tests]
    verdicts = {verdict.mutant.name: verdict for verdict in found}
    return [verdicts[mutant.name] for mutant in mutants]


def table(verdicts: Sequence[Verdict]) -> str:
    """Table in Markdown."""
    rows = ["| mutant | in | what is wrong | killed by | s |", "|---|---|---|---|--:|"]
    for (name, file, _, _, breaks, _), by, seconds in verdicts:
        cells = [name, file, breaks, by or "**nothing**", f"{seconds:.0f}"]
        rows.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the mutants and print a table; return 0 if none survives."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("-k", default="", help="only where name, file or killer has it")
    parser.add_argument("--table", type=Path, help="file for the table")
    parser.add_argument("--chapter", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.chapter:
        mutants = [Mutant(*fields) for fields in json.load(sys.stdin)]
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            found = run_chapter(asked.root, asked.chapter, mutants)
        print(json.dumps(found))
        return 0
    started = time.monotonic()
    try:
        mutants = [m for m in read_mutants(asked.root) if asked.k in " ".join(m)]
        verdicts = judged(asked.root, mutants, asked.jobs)
    except ListError as fault:
        print(fault, file=sys.stderr)
        return 2
    print(table(verdicts))
    if asked.table:
        asked.table.write_text(table(verdicts) + "\n", "utf-8")
    survivors = [verdict.mutant.name for verdict in verdicts if not verdict.killed_by]
    for name in survivors:
        print(f"survived: {name}")
    killed = len(verdicts) - len(survivors)
    seconds = time.monotonic() - started
    print(f"{killed} of {len(verdicts)} mutants killed in {seconds:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
