"""Run ruff, lint and format, on the code cells of the chapters.

``lint_chapters.py`` checks, ``lint_chapters.py --fix`` writes what ruff mends back
into the pages.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Longer lines would scroll sideways in the text column of a page.
COLUMNS_ON_A_PAGE = 78
CELL = re.compile(
    r"(?P<head>```\{code-cell\}[^\n]*\n(?:---\n.*?\n---\n|:[^\n]*\n)*\n?)"
    r"(?P<code>.*?)(?P<tail>\n```)",
    re.DOTALL,
)


def notebook(page: str) -> str:
    """Turn the code cells of a page into a notebook, which ruff reads as one file."""
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{number}",
            "metadata": {},
            "outputs": [],
            "source": match["code"].splitlines(keepends=True),
        }
        for number, match in enumerate(CELL.finditer(page))
    ]
    meta = {"language_info": {"name": "python"}}
    return json.dumps(
        {"cells": cells, "metadata": meta, "nbformat": 4, "nbformat_minor": 5}
    )


def with_code(page: str, mended: str) -> str:
    """Put the code of a mended notebook back into its page."""
    sources = ["".join(cell["source"]) for cell in json.loads(mended)["cells"]]
    parts = iter(sources)
    return CELL.sub(lambda match: match["head"] + next(parts) + match["tail"], page)


def main() -> int:
    """Check all pages of ``book/``; return 0 if ruff has nothing to say."""
    fix = "--fix" in sys.argv[1:]
    pages = sorted((ROOT / "book").rglob("*.md"))
    with tempfile.TemporaryDirectory() as folder:
        copies = {}
        for page in pages:
            text = page.read_text(encoding="utf-8")
            if text.startswith("---\njupytext:"):
                copy = Path(folder) / page.relative_to(ROOT).with_suffix(".ipynb")
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(notebook(text), encoding="utf-8")
                copies[page] = copy
        config = ["--config", str(ROOT / "pyproject.toml")]
        config += ["--line-length", str(COLUMNS_ON_A_PAGE)]
        commands = [
            ["check", *config, *(["--fix"] if fix else []), "."],
            ["format", *config, *([] if fix else ["--check", "--diff"]), "."],
        ]
        codes = [
            subprocess.run(
                [sys.executable, "-m", "ruff", *command], cwd=folder
            ).returncode
            for command in commands
        ]
        if fix:
            for page, copy in copies.items():
                text = page.read_text(encoding="utf-8")
                page.write_text(with_code(text, copy.read_text(encoding="utf-8")))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
