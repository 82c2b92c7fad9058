"""Keep a warm build as strict as a cold one.

Three caches make a rebuild fast, and each of them can turn a red build green:

* jupyter-cache keys a page on its own cells. It does not see ``fpbook`` or the
  installed packages, so their fingerprint is kept beside it and a change empties it.
* Sphinx keeps parsed pages and repeats no warning about them, so ``-W`` fails only
  once. Parsed pages are kept only after a build without a warning.
* Sphinx writes only edited pages again. A link from an unedited page to an equation
  that is gone would pass, and a page taken out of the contents would stay on the
  site. So the site is always written anew.
"""

import hashlib
import os
import shutil
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

FINGERPRINT = "fingerprint"
GREEN = "green"


def fingerprint(root: Path) -> str:
    """Hash what the outputs depend on besides the pages themselves.

    Parameters
    ----------
    root
        The repository.

    Returns
    -------
    str
        A hash of the Python version and the versions of all installed packages, a
        space, and what :func:`sources` returns.
    """
    hashed = hashlib.sha256(sys.version.encode())
    # Only what is installed: sys.path differs between the processes of one build.
    installed = distributions(path=[sysconfig.get_path("purelib")])
    for distribution in sorted(f"{d.name} {d.version}" for d in installed):
        hashed.update(distribution.encode())
    return f"{hashed.hexdigest()} {sources(root)}"


def sources(root: Path) -> str:
    """Hash the files of ``fpbook/``, ``book/_ext/`` and ``constraints.txt``.

    Parameters
    ----------
    root
        The repository.
    """
    hashed = hashlib.sha256()
    files = [root / "constraints.txt"]
    for folder in ("fpbook", "book/_ext"):
        files += sorted((root / folder).rglob("*"))
    for file in files:
        if file.is_file() and "__pycache__" not in file.parts:
            hashed.update(str(file.relative_to(root)).encode())
            hashed.update(file.read_bytes())
    return hashed.hexdigest()


def drop_stale_outputs(root: Path, folder: Path) -> None:
    """Empty the caches of a build if what they depend on has changed.

    Parameters
    ----------
    root
        The repository.
    folder
        Folder of the build.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / FINGERPRINT
    current = fingerprint(root)
    if not stamp.exists() or stamp.read_text() != current:
        for stale in (".jupyter_cache", ".doctrees", "jupyter_execute"):
            shutil.rmtree(folder / stale, ignore_errors=True)
        stamp.write_text(current)


def build_folder(app: Any) -> Path:
    """Name the folder of a build: where it finds the outputs of the pages."""
    # By default the cache lies beside the site; the PDF names that of the site.
    cache = app.config.nb_execution_cache_path
    return Path(cache).parent if cache else Path(app.outdir).parent


def _open(app: Any, config: Any) -> None:
    root = Path(app.srcdir)
    drop_stale_outputs(root, build_folder(app))
    green = Path(app.doctreedir) / GREEN
    if not green.exists():
        shutil.rmtree(app.doctreedir, ignore_errors=True)
    green.unlink(missing_ok=True)
    written = Path(app.outdir)
    if written.is_relative_to(root / "_build"):
        shutil.rmtree(written, ignore_errors=True)
        written.mkdir(parents=True)
    # Kernels inherit it: explorers become pages, progress bars stay out.
    os.environ["FPBOOK_STATIC"] = "1"


def _close(app: Any, exception: Exception | None) -> None:
    if exception is None and app._warncount == 0:
        # Beside the pages that it vouches for: the PDF is built from pages of its own.
        (Path(app.doctreedir) / GREEN).touch()


def setup(app: Any) -> dict[str, Any]:
    app.connect("config-inited", _open, priority=1)
    app.connect("build-finished", _close, priority=999)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
