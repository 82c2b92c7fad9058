"""Make the pages complete without a network, and set the public address."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

# What tex-chtml.js loads by itself: its fonts, and TeX extensions on first use.
MATHJAX_PARTS = ("tex-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def _mathjax() -> Path:
    found = importlib.util.find_spec("sphinx-mathjax-offline")
    if found is None or found.origin is None:
        raise RuntimeError("sphinx-mathjax-offline is not installed")
    return Path(found.origin).parent / "static" / "mathjax"


def _copy_mathjax(app: Any, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "mathjax"
    for part in MATHJAX_PARTS:
        source = _mathjax() / part
        if source.is_dir():
            shutil.copytree(source, target / part, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / part)


def _drop_thebe(
    app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Leave out sphinx-thebe: it names an outside host and is loaded twice."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in str(getattr(script, "filename", script)).lower()
        and "thebe" not in str(getattr(script, "attributes", {})).lower()
    ]


def _set_address(app: Any, config: Any) -> None:
    """Give launch buttons the address of the published repository, if there is one."""
    address = os.environ.get("REPOSITORY_URL", "")
    options = config.html_theme_options
    if address:
        options["repository_url"] = address
        options["repository_branch"] = os.environ.get("REPOSITORY_BRANCH", "main")
        options["use_repository_button"] = True
        options["use_issues_button"] = True
    else:
        options["launch_buttons"] = {}


def setup(app: Any) -> dict[str, Any]:
    app.connect("config-inited", _set_address)
    app.connect("html-page-context", _drop_thebe, priority=900)
    app.connect("build-finished", _copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
