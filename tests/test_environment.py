"""The files around the code agree: environments, version, citation, imports."""

import ast
import datetime
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import fpbook

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

CONDA_NAMES = {"torch": "pytorch-cpu"}
# Not of the project: the interpreter and what Binder needs to show the chapters.
ONLY_ON_BINDER = {"jupyterlab", "jupyterlab-myst", "pip", "python"}

BLOCKED = (
    "torch",
    "ipywidgets",
    "tqdm",
    "psutil",
    "IPython",
    "matplotlib_inline",
    "sklearn",
    "sympy",
    "distributed",
)
IMPORTABLE_WITHOUT_THEM = (
    "fpbook",
    "fpbook.figures",
    "fpbook.explore",
    "fpbook.claims",
    "fpbook.symmetric_layers",
    "fpbook.fokker_planck",
    "fpbook.langevin",
    "fpbook.autoencoder",
    "fpbook.mean_field",
    "fpbook.deep_autoencoder",
    "fpbook.resolved_block",
    "fpbook.scaling",
    "fpbook.kpz",
    "fpbook.callan_symanzik",
    "fpbook.steady_states",
)


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


def specifiers(requirements: Iterable[str]) -> dict[str, SpecifierSet]:
    """Map each package, by its canonical name, to the versions it may have."""
    parsed = map(Requirement, requirements)
    return {canonicalize_name(r.name): r.specifier for r in parsed}


def conda_dependencies() -> list[str]:
    entries = read_yaml("environment.yml")["dependencies"]
    return [entry for entry in entries if isinstance(entry, str)]


class TestBinder:
    def test_versions_are_those_of_the_project(self) -> None:
        extras = PROJECT["optional-dependencies"]
        own, *chapters = extras["chapters"]
        assert own == "fpbook[torch,interactive]"
        listed = [*extras["torch"], *extras["interactive"], *chapters]
        wanted = specifiers([*PROJECT["dependencies"], *listed])
        wanted = {CONDA_NAMES.get(name, name): s for name, s in wanted.items()}

        # conda's `python=3.11` is not a requirement in the sense of packaging.
        listed = [d for d in conda_dependencies() if not d.startswith("python=")]
        found = specifiers(listed)
        assert {n: s for n, s in found.items() if n not in ONLY_ON_BINDER} == wanted

    def test_python_is_one_that_the_project_supports(self) -> None:
        (python,) = (d for d in conda_dependencies() if d.startswith("python="))
        version = python.removeprefix("python=")
        assert SpecifierSet(PROJECT["requires-python"]).contains(version)

    def test_lab_can_show_the_chapters(self) -> None:
        listed = {re.split(r"[=<>]", d)[0] for d in conda_dependencies()}
        assert listed >= ONLY_ON_BINDER
        assert read_yaml("environment.yml")["channels"] == ["conda-forge"]

    def test_the_package_itself_is_installed(self) -> None:
        (pip,) = (
            entry["pip"]
            for entry in read_yaml("environment.yml")["dependencies"]
            if isinstance(entry, dict)
        )
        assert pip == ["-e ."]

    def test_binder_reads_the_environment(self) -> None:
        """What Binder's builder would do, without building: it needs no Docker."""
        builder = Path(sys.executable).with_name("jupyter-repo2docker")
        done = subprocess.run(
            [builder, "--no-build", "--debug", str(ROOT)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        told = done.stdout + done.stderr
        assert done.returncode == 0, told
        assert "Building conda environment for python=3.11" in told
        assert "environment.yml" in told
        assert "RUN ./postBuild" in told

    def test_chapters_open_as_notebooks(self) -> None:
        post_build = ROOT / "postBuild"
        assert os.access(post_build, os.X_OK)
        lines = post_build.read_text("utf-8").splitlines()
        assert lines[0].startswith("#!")
        assert "set -euo pipefail" in lines
        assert "jupytext-config set-default-viewer" in lines


class TestRelease:
    def test_citation_has_the_required_keys(self) -> None:
        citation = read_yaml("CITATION.cff")
        assert citation["cff-version"] == "1.2.0"
        assert citation.keys() >= {"message", "title", "authors", "license", "abstract"}
        assert citation["authors"]
        for reference in citation["references"]:
            assert reference.keys() >= {"type", "title", "authors", "year"}

    def test_one_version_everywhere(self) -> None:
        assert str(read_yaml("CITATION.cff")["version"]) == PROJECT["version"]
        assert fpbook.__version__ == PROJECT["version"]

    def test_changelog_has_the_version_at_the_date_of_the_citation(self) -> None:
        released = read_yaml("CITATION.cff")["date-released"]
        assert isinstance(released, datetime.date)
        headings = (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
        assert f"## [{PROJECT['version']}] - {released.isoformat()}" in headings

    def test_licences_are_there(self) -> None:
        assert PROJECT["license"] == read_yaml("CITATION.cff")["license"]
        assert "BSD 3-Clause" in (ROOT / "LICENSE").read_text("utf-8")
        assert "CC-BY-4.0" in (ROOT / "LICENSE-TEXT.md").read_text("utf-8")


def run_without_optional_packages(statement: str) -> subprocess.CompletedProcess[str]:
    """Run one statement in a new interpreter that cannot import ``BLOCKED``."""
    code = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")

# Not by None in sys.modules: scipy takes that for a torch that is there.
sys.meta_path.insert(0, Blocker())
{statement}
"""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def imported_packages(source: str) -> set[str]:
    """Collect the top-level packages that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


class TestImports:
    @pytest.mark.parametrize("name", BLOCKED)
    def test_blocked_packages_cannot_be_imported(self, name: str) -> None:
        result = run_without_optional_packages(f"import {name}")
        assert result.returncode == 1
        assert "ModuleNotFoundError" in result.stderr

    @pytest.mark.parametrize("name", IMPORTABLE_WITHOUT_THEM)
    def test_core_imports_without_optional_packages(self, name: str) -> None:
        result = run_without_optional_packages(f"import {name}")
        assert result.returncode == 0, result.stderr

    def test_imports_are_found_at_every_level(self) -> None:
        source = (
            "import a.x\n"
            "from . import near\n"
            "def f():\n"
            "    from b.y import z\n"
            "    import c as d\n"
        )
        assert imported_packages(source) == {"a", "b", "c"}

    def test_package_does_not_import_the_book(self) -> None:
        sources = sorted((ROOT / "fpbook").rglob("*.py"))
        assert ROOT / "fpbook" / "__init__.py" in sources
        offenders = [
            path.relative_to(ROOT).as_posix()
            for path in sources
            if "book" in imported_packages(path.read_text("utf-8"))
        ]
        assert offenders == []
