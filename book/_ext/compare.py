"""Compare the site of plain Sphinx with that of Jupyter Book: ends ``make sphinx``.

Every page has to have as many claims, figures, exercises, explorers and so on in both,
the same numbers of equations, figures and exercises, and the same references.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import build
import gate
import plain_sphinx
from bs4 import BeautifulSoup, Tag

COUNTED = {
    "claims": ".fpbook-claim",
    "figures": "figure[id]",
    "exercises": "div.exercise",
    "solutions": "div.solution",
    "explorers": ".fpbook-explorer",
    "equations": "div.math",
    "formulas in the text": "span.math",
    "code cells": "div.cell",
    "outputs": "div.cell_output",
    "boxes": "div.admonition",
    "tables": "table",
    "sections": "section",
    "terms": "dt",
    "words of the index": "span.target",
}
"""What is counted in the article of a page, by its selector in CSS."""

AROUND = "buttons of a bar on top"
READ = {
    "numbers of equations": "span.eqno",
    "captions": "figcaption .caption-number",
    "titles": "h1, h2, h3, p.admonition-title",
}
"""What has to say the same."""


def contents(page: Path) -> Counter[str]:
    """Count what a built page has.

    Parameters
    ----------
    page
        The HTML file.

    Returns
    -------
    Counter
        By kind; numbers, titles and references are of a kind each.

    Raises
    ------
    ValueError
        If the page has no article.
    """
    tree = BeautifulSoup(page.read_text("utf-8"), "html.parser")
    article = tree.select_one("article.bd-article")
    if article is None:
        raise ValueError(f"page must have an article, got {page}")
    found = Counter({AROUND: len(tree.select("header.bd-header button"))})
    for kind, selector in COUNTED.items():
        found[kind] = len(article.select(selector))
    for kind, selector in READ.items():
        found.update(f"{kind}: {_said(tag)}" for tag in article.select(selector))
    for link in article.select("a.reference[href]"):
        found["references"] += 1
        found[f"references: {_said(link)} -> {link['href']}"] += 1
    return found


def _said(tag: Tag) -> str:
    return " ".join(tag.get_text().split())


def differences(
    ours: dict[str, Counter[str]], theirs: dict[str, Counter[str]]
) -> Iterator[str]:
    """Say what differs between two sites.

    Parameters
    ----------
    ours, theirs
        What :func:`contents` found, by the name of the page.
    """
    for name in sorted(ours.keys() ^ theirs.keys()):
        yield f"{name}: only in one of the sites"
    for name in sorted(ours.keys() & theirs.keys()):
        for kind in sorted(ours[name].keys() | theirs[name].keys()):
            if ours[name][kind] != theirs[name][kind]:
                yield (
                    f"{name}: {kind}: {ours[name][kind]} by plain Sphinx, "
                    f"{theirs[name][kind]} by Jupyter Book"
                )


def site(folder: Path) -> dict[str, Counter[str]]:
    """Count what every page of the table of contents has.

    Parameters
    ----------
    folder
        Folder of the build.
    """
    pages = (folder / "html").rglob("*.html")
    return {
        page.relative_to(folder / "html").as_posix(): contents(page)
        for page in sorted(pages)
        if page.relative_to(folder / "html").parts[0] == "book"
    }


def is_of_these_files(root: Path, folder: Path) -> bool:
    """Tell whether a site was built of the package and the pages as they are now.

    Parameters
    ----------
    root
        The repository.
    folder
        Folder of the build.
    """
    stamp, door = folder / gate.FINGERPRINT, folder / "html" / "index.html"
    if not (door.exists() and stamp.exists()):
        return False
    built = door.stat().st_mtime
    edited = any(page.stat().st_mtime > built for page in root.glob("book/**/*.md"))
    return not edited and stamp.read_text("utf-8").split()[-1] == gate.sources(root)


def main() -> int:
    """Compare ``_build/sphinx`` with ``_build``; return 0 if nothing differs."""
    if not is_of_these_files(build.ROOT, build.BUILD):
        print("not compared: make book has not built a site of these files")
        return 0
    ours, theirs = site(plain_sphinx.FOLDER), site(build.BUILD)
    found = list(differences(ours, theirs))
    for line in found:
        print(line)
    total: Counter[str] = sum(ours.values(), Counter())
    for kind in [*COUNTED, "references", AROUND]:
        print(f"{total[kind]} {kind}")
    print(f"{len(ours)} pages compared, {len(found)} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
