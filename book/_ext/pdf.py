"""Print the book: ``make pdf`` writes ``_build/pdf/physics-of-training.pdf``.

The same pages and the same outputs as the site, by way of LaTeX (see ``paper.py``).
References that lead nowhere, TeX errors and missing letters fail.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any

import build
import matplotlib
import yaml
from jupyter_book.sphinx import build_sphinx

NAME = "physics-of-training"
PROGRAMS = ("latexmk", "xelatex", "makeindex")
PACKAGES = (
    "latexmk texlive-latex-recommended texlive-latex-extra "
    "texlive-fonts-recommended texlive-xetex"
)
INSTEAD = {"✅": "✓"}
"""What a font has instead of a letter that it lacks."""

WIDE_POINTS = 20.0
"""A line that sticks out of the text by more is told."""

OVERFULL = re.compile(
    r"Overfull \\hbox \((?P<points>[\d.]+)pt too wide\) (?P<where>[^\n]*)"
)
ERROR = re.compile(r"^(?:! |\./[^:\n]+:\d+: ).*(?:\nl\..*)?", re.MULTILINE)
FAULT = re.compile(
    r"^(?:Missing character: .*|LaTeX Warning: .*(?:undefined|multiply.defined).*)$",
    re.MULTILINE,
)
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
HERE = Path(__file__).parent
ELEMENTS = {
    "papersize": "a4paper",
    "pointsize": "11pt",
    "extraclassoptions": "openany,oneside",
    "fncychap": "",
    "fontpkg": (
        rf"\setmonofont[Path={FONTS}/,Extension=.ttf,Scale=0.86,BoldFont=*-Bold,"
        "ItalicFont=*-Oblique,BoldItalicFont=*-BoldOblique]{DejaVuSansMono}"
    ),
    "figure_align": "htbp",
    "sphinxsetup": (
        "hmargin={26mm,26mm},vmargin={28mm,30mm},verbatimforcewraps=true,"
        "VerbatimBorderColor={HTML}{E4E4E4},VerbatimColor={HTML}{F6F6F6},"
        "TitleColor={HTML}{1B3A57},InnerLinkColor={HTML}{1F5C99},"
        "OuterLinkColor={HTML}{1F5C99}"
    ),
    "extrapackages": r"\usepackage{newunicodechar}",
    "preamble": r"""
\input{preamble}
\input{letters}
""",
}
"""What goes into the template of Sphinx."""


def missing_programs() -> list[str]:
    """List the programs of TeX that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def preamble() -> str:
    """Give the look of the book as TeX, with a font that every matplotlib brings."""
    text = (HERE / "preamble.tex").read_text("utf-8")
    return text.replace("FONTPATH", f"{FONTS}/")


def letters(text: str) -> str:
    """Define each letter beyond Latin-1 so that a font is found that has it.

    Parameters
    ----------
    text
        The book as TeX.

    Returns
    -------
    str
        One line of TeX for each of these letters.
    """
    beyond = sorted(
        letter
        for letter in set(text)
        # Dashes and quotation marks are in every font.
        if ord(letter) > 0xFF and unicodedata.category(letter)[0] not in "PM"
    )
    return "".join(
        f"\\newunicodechar{{{letter}}}"
        f'{{\\fpbookletter{{"{ord(INSTEAD.get(letter, letter)):X}}}}}\n'
        for letter in beyond
    )


def configuration(root: Path) -> dict[str, Any]:
    """Give the configuration of the printed book: that of the site, and its own.

    Parameters
    ----------
    root
        The repository.
    """
    config: dict[str, Any] = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    contents = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    citation = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    extensions = config["sphinx"]["local_extensions"]
    extensions["paper"] = "book/_ext"
    # Relative paths would be looked for beside the file that this is written to.
    config["sphinx"]["local_extensions"] = {
        name: str(root / folder) for name, folder in extensions.items()
    }
    document = (contents["root"], f"{NAME}.tex", config["title"], config["author"])
    config["latex"] = {"latex_engine": "xelatex", "use_jupyterbook_latex": False}
    config["sphinx"]["config"] |= {
        "nitpicky": True,
        "nb_execution_cache_path": str(root / "_build" / ".jupyter_cache"),
        "latex_use_xindy": False,
        "latex_domain_indices": False,
        "latex_table_style": ["booktabs"],
        "latex_documents": [[*document, "manual"]],
        "latex_elements": ELEMENTS,
        "release": str(citation["version"]),
        "today": f"{citation['date-released']:%d %B %Y}",
    }
    return config


def write_tex(root: Path, place: Path) -> bool:
    """Write the book as TeX; return whether there was neither error nor warning.

    Parameters
    ----------
    root
        The repository.
    place
        Folder for what is made on the way, emptied first; the TeX files go to
        ``tex`` in it.
    """
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    config = place / "_config.yml"
    config.write_text(yaml.safe_dump(configuration(root)), "utf-8")
    code = build_sphinx(
        root,
        place / "tex",
        path_config=config,
        noconfig=True,
        doctreedir=place / "doctrees",
        builder="latex",
        freshenv=True,
        warningiserror=True,
        keep_going=True,
        # Jupyter Book takes it out of the settings, and it has to be there.
        confoverrides={"latex_individualpages": False},
    )
    if code != 0:
        return False
    book = (place / "tex" / f"{NAME}.tex").read_text("utf-8")
    (place / "tex" / "preamble.tex").write_text(preamble(), "utf-8")
    (place / "tex" / "letters.tex").write_text(letters(book), "utf-8")
    return True


def typeset(folder: Path) -> tuple[int, str]:
    """Run TeX as often as it takes; return its exit code and its log."""
    command = ["latexmk", "-xelatex", "-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run(
        [*command, "-file-line-error", f"{NAME}.tex"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Otherwise TeX breaks its messages after 79 characters.
        env={**os.environ, "max_print_line": "1000"},
    )
    log = folder / f"{NAME}.log"
    told = log.read_text("utf-8", errors="replace") if log.exists() else ""
    return done.returncode, told


def wide_lines(log: str) -> list[tuple[float, str]]:
    """List what sticks out of the text: by how many points, and where."""
    found = [(float(each["points"]), each["where"]) for each in OVERFULL.finditer(log)]
    return sorted((each for each in found if each[0] > WIDE_POINTS), reverse=True)


def faults(log: str) -> list[str]:
    """List what in a log of TeX fails the build, each once."""
    # A run that an error ended has not seen all targets of references.
    pattern = ERROR if ERROR.search(log) else FAULT
    return list(dict.fromkeys(match[0] for match in pattern.finditer(log)))


def main() -> int:
    """Print the book; return 0 if nothing was amiss."""
    missing = missing_programs()
    if missing:
        print(
            f"make pdf needs {' and '.join(missing)}; on Debian or Ubuntu:\n"
            f"  apt-get install --no-install-recommends {PACKAGES}"
        )
        return 1
    started = time.monotonic()
    build.prepare()
    root, place = build.ROOT, build.ROOT / "_build" / "pdf"
    if not write_tex(root, place):
        return 1
    code, log = typeset(place / "tex")
    amiss = faults(log)
    for line in amiss:
        print(line)
    wide = wide_lines(log)
    print(f"{len(wide)} lines stick out by more than {WIDE_POINTS:g} pt")
    for points, where in wide:
        print(f"  {points:.0f} pt {where}")
    if code != 0 or amiss:
        print(f"the book was not printed, see {place / 'tex' / NAME}.log")
        return code or 1
    shutil.copy2(place / "tex" / f"{NAME}.pdf", place)
    print(f"open {place / NAME}.pdf ({time.monotonic() - started:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
