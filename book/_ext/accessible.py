"""Mend what the theme and its neighbours leave in the way of assistive technology."""

from pathlib import Path
from typing import Any

from sphinx.errors import ExtensionError

# In the pages as they are written: what is there, and what stands in its place.
PATCHES = {
    # The name of the book and the search button stood outside of every landmark.
    '<div id="pst-primary-sidebar" class="': (
        '<div id="pst-primary-sidebar" role="complementary" aria-label="Contents" '
        'class="'
    ),
    # The list of works is a list; an entry with this role is no item of one.
    'role="doc-biblioentry"': 'role="listitem"',
}


def _quiet_formulas(app: Any, config: Any) -> None:
    """Take MathJax's menu away: it makes a stop for the Tab key of every formula."""
    settings = dict(config.mathjax3_config or {})
    settings["options"] = {**settings.get("options", {}), "enableMenu": False}
    config.mathjax3_config = settings


def _patch(app: Any, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    found: set[str] = set()
    for page in Path(app.outdir).rglob("*.html"):
        before = after = page.read_text("utf-8")
        for flaw, mended in PATCHES.items():
            if flaw in after:
                found.add(flaw)
                after = after.replace(flaw, mended)
        if after != before:
            page.write_text(after, "utf-8")
    missing = sorted(set(PATCHES) - found)
    if missing:
        raise ExtensionError(f"nothing to mend, see accessible.py: {missing}")


def setup(app: Any) -> dict[str, Any]:
    app.add_js_file("accessible.js", loading_method="defer")
    app.connect("config-inited", _quiet_formulas)
    app.connect("build-finished", _patch)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
