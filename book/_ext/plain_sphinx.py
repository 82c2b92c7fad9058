"""Build the site by Sphinx alone, without Jupyter Book: what ``make sphinx`` runs.

Jupyter Book 1 holds Sphinx and its extensions at old releases. Here the same pages,
with the same extensions and checks, are built by the newest ones, into
``_build/sphinx``. Of Jupyter Book, only the two files that configure it are used.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import build
import gate
import yaml
from jupyter_cache.base import CacheBundleIn
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

FOLDER = build.BUILD / "sphinx"
EXTENSIONS = (
    "sphinx_togglebutton",
    "sphinx_copybutton",
    "myst_nb",
    "sphinx_external_toc",
    "sphinx_design",
    "sphinx_book_theme",
    "sphinxcontrib.bibtex",
)
"""What Jupyter Book loads by itself, as far as the book uses it."""

MEANINGS = {
    "title": "html_title",
    "author": "author",
    "copyright": "copyright",
    "exclude_patterns": "exclude_patterns",
    "only_build_toc_files": "external_toc_exclude_missing",
    "bibtex_bibfiles": "bibtex_bibfiles",
    "execute.execute_notebooks": "nb_execution_mode",
    "execute.timeout": "nb_execution_timeout",
    "execute.allow_errors": "nb_execution_allow_errors",
    "execute.raise_on_error": "nb_execution_raise_on_error",
    "execute.stderr_output": "nb_output_stderr",
    "parse.myst_enable_extensions": "myst_enable_extensions",
    "html.favicon": "html_favicon",
}
"""Settings of ``_config.yml`` by their names in Sphinx."""

OF_THE_THEME = {
    "launch_buttons": "launch_buttons",
    "html.use_issues_button": "use_issues_button",
    "html.use_repository_button": "use_repository_button",
}
"""Settings of ``_config.yml`` that are options of the theme."""

OF_SPHINX = ("sphinx.extra_extensions", "sphinx.local_extensions", "sphinx.config")

DEFAULTS: dict[str, Any] = {
    "html_theme": "sphinx_book_theme",
    "html_sourcelink_suffix": "",
    "myst_url_schemes": ["mailto", "http", "https"],
    "numfig": True,
    "pygments_style": "sphinx",
    "suppress_warnings": ["myst.domains"],
    "use_multitoc_numbering": True,
}
"""What Jupyter Book sets unless told otherwise."""


def settings(root: Path) -> dict[str, Any]:
    """Read ``_config.yml``, with names such as ``"execute.timeout"``.

    Parameters
    ----------
    root
        The repository.
    """
    read = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    return dict(_flat(read))


def _flat(read: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in read.items():
        if name in ("execute", "parse", "html", "sphinx"):
            yield from ((f"{name}.{part}", of_part) for part, of_part in value.items())
        else:
            yield name, value


def configuration(root: Path) -> dict[str, Any]:
    """Say to Sphinx what ``_config.yml`` and ``_toc.yml`` say to Jupyter Book.

    Parameters
    ----------
    root
        The repository.

    Returns
    -------
    dict
        What would stand in a ``conf.py``.

    Raises
    ------
    ValueError
        If ``_config.yml`` has a setting whose meaning is not known here.
    """
    told = settings(root)
    known = [*MEANINGS, *OF_THE_THEME, *OF_SPHINX]
    for name in told:
        if name not in known:
            raise ValueError(
                f"_config.yml: a setting must be one of {', '.join(known)}, got {name}"
            )
    extensions = [*EXTENSIONS]
    for name in ("sphinx.extra_extensions", "sphinx.local_extensions"):
        extensions += told.get(name, [])
    return {
        **DEFAULTS,
        **_renamed(told, MEANINGS),
        "extensions": extensions,
        "external_toc_path": str(root / "_toc.yml"),
        "html_theme_options": {
            "home_page_in_toc": True,
            # The search is in the sidebar; otherwise a bar on top has a second one.
            "navbar_persistent": [],
            "search_bar_text": "Search this book...",
            **_renamed(told, OF_THE_THEME),
        },
        "nitpicky": True,
        **told.get("sphinx.config", {}),
    }


def _renamed(told: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {theirs: told[ours] for ours, theirs in names.items() if ours in told}


def borrow_outputs(root: Path, folder: Path, lender: Path) -> int:
    """Take the outputs of another build as far as it ran the same code.

    Its Python and its packages may be others, but not ``fpbook``. The cache of outputs
    cannot tell: its keys hold the options of cells, which releases of MyST read
    differently, down to the space at the end of a text.

    Parameters
    ----------
    root
        The repository.
    folder
        Folder of the build; outputs that it has stay.
    lender
        Folder of the other build.

    Returns
    -------
    int
        Number of chapters whose outputs were taken.
    """
    gate.drop_stale_outputs(root, folder)
    stamp = lender / gate.FINGERPRINT
    if not stamp.exists() or stamp.read_text("utf-8").split()[-1] != gate.sources(root):
        return 0
    ours, theirs = build.executed(folder), build.executed(lender)
    lent = {}
    for record in theirs.list_cache_records():
        bundle = theirs.get_cache_bundle(record.pk)
        lent[_code(bundle.nb)] = bundle.nb, record.data
    taken = 0
    for page in build.chapters(root):
        ours.add_nb_to_project(str(page), read_data=build.READER)
        notebook = ours.get_project_notebook(str(page)).nb
        known = ours.get_cached_project_nb(str(page)) is not None
        if known or _code(notebook) not in lent:
            continue
        executed, data = lent[_code(notebook)]
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for cell, done in zip(cells, executed.cells, strict=True):
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
        ours.cache_notebook_bundle(CacheBundleIn(notebook, str(page), data=data))
        taken += 1
    return taken


def _code(notebook: Any) -> tuple[str, ...]:
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return tuple(cell.source for cell in cells)


def run_sphinx(root: Path, folder: Path) -> int:
    """Build the site into ``html`` of a folder; return 0 if nothing was amiss.

    Parameters
    ----------
    root
        The repository.
    folder
        Folder of the build.
    """
    config = configuration(root)
    for place in set(settings(root).get("sphinx.local_extensions", {}).values()):
        sys.path.append(str(root / place))
    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            srcdir=root,
            confdir=None,
            outdir=folder / "html",
            doctreedir=folder / ".doctrees",
            buildername="html",
            confoverrides=config,
            warningiserror=True,
        )
        app.build()
        return app.statuscode


def main() -> int:
    """Build the site into ``_build/sphinx/html``; return 0 if nothing was amiss."""
    started = time.monotonic()
    taken = borrow_outputs(build.ROOT, FOLDER, build.BUILD)
    print(f"outputs of {taken} pages taken from {build.BUILD}")
    build.prepare(FOLDER)
    code = run_sphinx(build.ROOT, FOLDER)
    if code == 0:
        build.fill_downloads(build.ROOT, FOLDER)
        page = FOLDER / "html" / "index.html"
        print(f"open {page} ({time.monotonic() - started:.0f} s)")
    return code


if __name__ == "__main__":
    sys.exit(main())
