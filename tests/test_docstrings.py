"""The examples in docstrings do what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import fpbook

MODULES = sorted(
    path.stem
    for path in Path(fpbook.__file__).parent.glob("*.py")
    if ">>> " in path.read_text("utf-8")
)


def test_there_are_examples() -> None:
    assert {"equation_of_motion", "fokker_planck"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = doctest.testmod(importlib.import_module(f"fpbook.{name}"))
    assert results.attempted > 0
    assert results.failed == 0, capsys.readouterr().out
