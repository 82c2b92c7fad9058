"""Mutants: the list fits the tree, and the runner tells survivors from the killed."""

from pathlib import Path

import mutants
import pytest
from conftest import Page
from mutants import ROOT, Mutant, mutated, read_mutants

LISTED = read_mutants(ROOT)
WITHOUT_FORMULAS = {
    "__init__",
    "__main__",
    "claims",
    "explore",
    "figures",
    "memory",
    "progress",
    "runs",
    "validation",
}


def test_every_text_occurs_once():
    for mutant in LISTED:
        assert mutated(ROOT, mutant) != (ROOT / mutant.file).read_text("utf-8")


def test_names_are_unique_and_mutants_many():
    assert len({mutant.name for mutant in LISTED}) == len(LISTED) >= 100


def test_every_module_with_formulas_has_a_mutant():
    modules = {path.stem for path in (ROOT / "fpbook").glob("*.py")}
    broken = {Path(mutant.file).stem for mutant in LISTED}
    assert modules - broken == WITHOUT_FORMULAS


def test_claims_of_every_chapter_kill_a_mutant(chapter: Page):
    name = f"{chapter.name}.md"
    assert any(mutant.file == name == mutant.judge for mutant in LISTED)


def test_killers_are_there():
    for mutant in LISTED:
        file, _, test = mutant.judge.partition("::")
        text = (ROOT / file).read_text("utf-8")
        assert f"def {test.partition('[')[0]}(" in text or not test


# --- the runner, on a small tree ----------------------------------------------------

PHYSICS = "def force(x):\n    return -2 * x\n"
TEST = "from physics import force\n\n\ndef test_force():\n    assert force(3) {}\n"
CHAPTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A chapter

```{{code-cell}} ipython3
from fpbook import claims
```

```{{code-cell}} ipython3
mass = 2
speed = 3
```

```{{code-cell}} ipython3
energy = mass * speed**2 / 2
claims.check(
    "energy of a stone",
    measured=energy,
    {},
    source="mechanics",
)
```
"""
PAGE = "book/part/chapter.md"
DRIFT = Mutant(
    "drift", "physics.py", "-2 * x", "2 * x", "sign", "tests/test_physics.py"
)
MASS = Mutant("mass", PAGE, "mass = 2", "mass = 4", "factor 2", PAGE)


def make_tree(
    root: Path,
    *listed: Mutant,
    asserted: str = "== -6",
    accepted: str = "expected=9,\n    atol=1e-9",
) -> list[str]:
    """Write a tree with one module, one test and one chapter; return arguments."""
    for folder in ("tests", "book/part"):
        (root / folder).mkdir(parents=True)
    (root / "physics.py").write_text(PHYSICS, "utf-8")
    (root / "tests" / "test_physics.py").write_text(TEST.format(asserted), "utf-8")
    (root / PAGE).write_text(CHAPTER.format(accepted), "utf-8")
    lines = []
    for mutant in listed:
        lines.append("[[mutant]]")
        lines += [f"{k} = {v!r}" for k, v in mutant._asdict().items()]
    (root / "tests" / "mutants.toml").write_text("\n".join(lines), "utf-8")
    return [f"--root={root}", "--jobs=1"]


def test_mutants_that_are_killed(tmp_path, capsys):
    arguments = make_tree(tmp_path, DRIFT, MASS)
    assert mutants.main([*arguments, f"--table={tmp_path / 'table.md'}"]) == 0
    rows = (tmp_path / "table.md").read_text("utf-8").splitlines()
    assert rows[2].startswith(
        "| drift | physics.py | sign | test_physics.py::test_force"
    )
    assert rows[3].startswith(f"| mass | {PAGE} | factor 2 | energy of a stone")
    assert "2 of 2 mutants killed" in capsys.readouterr().out
    assert (tmp_path / "physics.py").read_text("utf-8") == PHYSICS


@pytest.mark.parametrize(
    ("mutant", "tree"),
    [
        (DRIFT, {"asserted": "!= 0"}),
        (MASS, {"accepted": "interval=(1, 100)"}),
    ],
)
def test_a_survivor_is_reported(tmp_path, capsys, mutant, tree):
    assert mutants.main(make_tree(tmp_path, mutant, **tree)) == 1
    told = capsys.readouterr().out
    assert f"survived: {mutant.name}" in told
    assert "0 of 1 mutants killed" in told


@pytest.mark.parametrize(
    ("mutant", "tree", "message"),
    [
        (DRIFT, {"asserted": "== 6"}, "red without a mutant: tests/test_physics.py"),
        (MASS, {"accepted": "interval=(100, 200)"}, "FAILS: energy of a stone"),
        (DRIFT._replace(old="x"), {}, "must occur once in physics.py, it occurs 2"),
        (MASS._replace(old="A chapter"), {}, "must change one code cell, not 0"),
    ],
)
def test_a_list_that_does_not_fit_is_an_error(tmp_path, capsys, mutant, tree, message):
    assert mutants.main(make_tree(tmp_path, mutant, **tree)) == 2
    assert message in capsys.readouterr().err


def test_a_killer_is_looked_for_in_the_tests_of_the_module():
    mutant = Mutant("m", "fpbook/kpz.py", "a", "b", "sign")
    assert mutant.judge == "tests/test_kpz.py"
    assert Mutant("m", PAGE, "a", "b", "sign").judge == PAGE


def test_some_can_be_chosen(tmp_path, capsys):
    arguments = make_tree(tmp_path, DRIFT, MASS)
    assert mutants.main([*arguments, "-k", "drift"]) == 0
    assert "1 of 1 mutants killed" in capsys.readouterr().out
