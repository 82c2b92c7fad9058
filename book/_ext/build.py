"""Execute the chapters in parallel and build the site: what ``make book`` runs."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gate
import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.executors import load_executor

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "_build"
SECONDS_PER_CELL = 120
READER = {"name": "myst_nb_md", "type": "plugin"}


def chapters(root: Path) -> list[Path]:
    """List the executable pages of the table of contents, in its order."""
    contents = yaml.safe_load((root / "_toc.yml").read_text())
    files = [contents["root"]]
    for part in contents.get("parts", []):
        files += [chapter["file"] for chapter in part["chapters"]]
    pages = [root / f"{file}.md" for file in files]
    return [page for page in pages if page.read_text().startswith("---\njupytext:")]


def executed(folder: Path) -> Any:
    """Open the cache of the executed pages in the folder of a build."""
    return get_cache(str(folder / ".jupyter_cache"))


def execute(root: Path, folder: Path) -> None:
    """Run the chapters that are not in the cache, one kernel per core.

    Pages that fail stay out of the cache; the build runs them again and reports.
    """
    cache = executed(folder)
    for page in chapters(root):
        cache.add_nb_to_project(str(page), read_data=READER)
    result = load_executor("local-parallel", cache=cache).run_and_cache(
        filter_uris=[str(page) for page in chapters(root)], timeout=SECONDS_PER_CELL
    )
    print(f"executed: {len(result.succeeded)}, failed: {len(result.excepted)}")


def fill_downloads(root: Path, folder: Path) -> None:
    """Give the notebooks to download their outputs, which cached pages lack."""
    cache = executed(folder)
    sources = folder / "html" / "_sources"
    for page in chapters(root):
        download = sources / page.relative_to(root).with_suffix(".ipynb")
        if download.exists():
            notebook = cache.get_project_notebook(str(page)).nb
            nbformat.write(cache.merge_match_into_notebook(notebook)[1], download)


def prepare(folder: Path = BUILD) -> None:
    """Run what is not in the cache, so that a build finds every output.

    Parameters
    ----------
    folder
        Folder of the build.
    """
    # Two kernels share the cores; more threads in each would only compete.
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"
    os.environ["FPBOOK_STATIC"] = "1"
    gate.drop_stale_outputs(ROOT, folder)
    started = time.monotonic()
    execute(ROOT, folder)
    print(f"chapters ready after {time.monotonic() - started:.0f} s")


def main() -> int:
    """Build the site into ``_build/html``; return the exit code of the build."""
    prepare()
    strict = ["-W", "-n", "--keep-going"]
    builder = Path(sys.executable).with_name("jupyter-book")
    code = subprocess.run([builder, "build", str(ROOT), *strict]).returncode
    if code == 0:
        fill_downloads(ROOT, BUILD)
        print(f"open {BUILD / 'html' / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
