"""Run the notebooks of the course where readers run them: ``make check-notebooks``.

A new environment gets what ``environment.yml`` names for Binder, which Colab has
too, but not ``fpbook``: that the first cell of the first notebook installs. Each
notebook has one core and 2 GB, as on Binder.

Those for instructors are the notebooks of ``make notebooks`` and run to their end. In
those for students, run as they are, every self-check has to fail and to say what to
do, and nothing else may fail.
"""

import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

import build
import course
import nbformat
import yaml

LIMIT_BYTES = 2 * 1024**3
"""What Binder gives; an allocation beyond it fails, and with it the notebook."""

BUDGET_BYTES = 1.5e9
"""What a chapter may take at its peak."""

SECONDS_PER_CELL = 300
PLACE = build.ROOT / "_build" / "clean"
PIP_NAMES = {"pytorch-cpu": "torch"}
# The interpreter, and what shows notebooks instead of running them.
NOT_TO_INSTALL = {"python", "pip", "jupyterlab", "jupyterlab-myst"}


class Run(NamedTuple):
    """What became of a notebook."""

    kind: str
    name: str
    seconds: float
    peak: float
    """Resident memory in bytes."""
    claims: int
    unanswered: int
    """Self-checks that said what to do."""
    told: str
    """Empty if all is as it should be."""


def requirements(root: Path) -> list[str]:
    """List what Binder installs, by the names that pip knows."""
    entries = yaml.safe_load((root / "environment.yml").read_text("utf-8"))
    found = []
    for entry in entries["dependencies"]:
        if isinstance(entry, str):
            name = entry.split("=")[0].split(">")[0].split("<")[0]
            if name not in NOT_TO_INSTALL:
                found.append(entry.replace(name, PIP_NAMES.get(name, name), 1))
    return found


def make_environment(root: Path, place: Path) -> Path:
    """Make an environment without fpbook; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    python = place / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet"]
    uv += ["--python", str(python)]
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")
    there = {**os.environ, "UV_FIND_LINKS": links}
    # As the Makefile: a CPU build of torch where its index can be reached.
    for backend in (["--torch-backend=cpu"], []):
        wanted = [*uv, *backend, *requirements(root)]
        if subprocess.run(wanted, env=there).returncode == 0:
            return python
    raise RuntimeError("the packages of environment.yml could not be installed")


def run(python: Path, kind: str, notebook: Path, core: int) -> Run:
    """Execute a notebook on one core within the limit of memory."""

    def limit() -> None:
        # Data, not address space: torch reserves far more addresses than it uses.
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
        os.sched_setaffinity(0, {core})

    executed = notebook.with_name(f"{notebook.stem}-executed.ipynb")
    log = notebook.with_suffix(".log")
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    hidden = {"VIRTUAL_ENV", "PYTHONPATH"}
    there = {name: v for name, v in os.environ.items() if name not in hidden}
    # Nobody is there to move a slider; and with the messages of widgets and bars a run
    # without a front end has stood still.
    there["FPBOOK_STATIC"] = "1"
    command = [str(python), "-m", "jupyter", "execute", f"--output={executed.name}"]
    command += [f"--timeout={SECONDS_PER_CELL}", notebook.name]
    if kind == "student":
        command.append("--allow-errors")
    started = time.monotonic()
    with log.open("w") as told:
        process = subprocess.Popen(
            command,
            cwd=notebook.parent,
            env={**there, "PATH": path},
            stdout=told,
            stderr=subprocess.STDOUT,
            preexec_fn=limit,
        )
        _, status, used = os.wait4(process.pid, 0)
    code = process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    failed = log.read_text("utf-8")[-4000:] if code else ""
    peak = 1024.0 * used.ru_maxrss
    if not failed and peak > BUDGET_BYTES:
        failed = f"{peak / 1e9:.2f} GB, the budget is {BUDGET_BYTES / 1e9:.1f} GB"
    claims = unanswered = 0
    if executed.exists():
        done = nbformat.read(executed, 4)
        if kind == "student" and not failed:
            failed = "\n".join(course.faults(done))
        outputs = [out for cell in done.cells for out in cell.get("outputs", [])]
        texts = [out.get("data", {}).get("text/plain", "") for out in outputs]
        claims = sum(text.startswith("HOLDS: ") for text in texts)
        unanswered = sum(out.output_type == "error" for out in outputs)
    return Run(kind, notebook.stem, seconds, peak, claims, unanswered, failed)


def main() -> int:
    """Run all notebooks, print a table; return 0 if every one ran."""
    shutil.rmtree(PLACE, ignore_errors=True)
    os.environ["REPOSITORY_URL"] = ""
    list(course.write(build.ROOT, PLACE / "sets"))
    python = make_environment(build.ROOT, PLACE / "environment")
    # -P: not from the current folder.
    looks = [str(python), "-P", "-c", "import fpbook"]
    if subprocess.run(looks, capture_output=True).returncode == 0:
        raise RuntimeError("fpbook is there before the first cell has installed it")
    first, *others = [
        (kind, PLACE / "sets" / kind / page.relative_to(build.ROOT))
        for kind in ("instructor", "student")
        for page in build.chapters(build.ROOT)
        # Without exercises both sets have the same notebook.
        if kind == "instructor" or course.exercises(page.read_text("utf-8"))
    ]
    cores: Queue[int] = Queue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)

    def run_on_a_core(wanted: tuple[str, Path]) -> Run:
        kind, page = wanted
        core = cores.get()
        try:
            return run(python, kind, page.with_suffix(".ipynb"), core)
        finally:
            cores.put(core)

    done = [run_on_a_core(first)]
    if not done[0].told:
        with ThreadPoolExecutor(cores.qsize()) as workers:
            done += workers.map(run_on_a_core, others)
    print(f"{'notebook':36s} seconds  peak GB  claims  unanswered")
    for each in done:
        print(
            f"{each.kind:11s} {each.name:24s} {each.seconds:7.0f} "
            f"{each.peak / 1e9:8.2f} {each.claims:7d} {each.unanswered:11d}"
        )
    failed = [each for each in done if each.told]
    for each in failed:
        print(f"\n{each.kind} {each.name} failed:\n{each.told}")
    print(f"{len(done) - len(failed)} notebooks ran, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
