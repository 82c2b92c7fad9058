"""Sizes and jobs of a run, as the environment asks for them."""

import os
from unittest import mock

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fpbook import runs


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (runs.FULL_ENVIRONMENT, runs.JOBS_ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)


def test_a_page_computes_what_it_shows() -> None:
    assert not runs.full_scale()
    assert runs.choose(10, full=1000) == 10
    assert runs.jobs() == 1


@pytest.mark.parametrize("asked", ["1", "yes"])
def test_full_scale_is_asked_for(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv(runs.FULL_ENVIRONMENT, asked)
    assert runs.full_scale()
    assert runs.choose([16], full=[16, 64]) == [16, 64]


@pytest.mark.parametrize("asked", ["", "0"])
def test_full_scale_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setenv(runs.FULL_ENVIRONMENT, asked)
    assert runs.choose(10, full=1000) == 10


@pytest.mark.parametrize("asked", ["-1", "4"])
def test_jobs_are_those_asked_for(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv(runs.JOBS_ENVIRONMENT, asked)
    assert runs.jobs() == int(asked)


@pytest.mark.parametrize("asked", ["0", "many", "", "1.5"])
def test_jobs_that_make_no_sense(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv(runs.JOBS_ENVIRONMENT, asked)
    with pytest.raises(ValueError, match=f"FPBOOK_JOBS .* got '{asked}'"):
        runs.jobs()


@given(st.integers())
def test_any_number_of_jobs_but_zero_is_read_as_written(asked: int) -> None:
    with mock.patch.dict(os.environ, {runs.JOBS_ENVIRONMENT: f" {asked}"}):
        if asked:
            assert runs.jobs() == asked
        else:
            with pytest.raises(ValueError, match="other than 0"):
                runs.jobs()


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_any_text_but_an_empty_one_and_zero_asks_for_full_scale(asked: str) -> None:
    assume(asked not in ("", "0"))
    with mock.patch.dict(os.environ, {runs.FULL_ENVIRONMENT: asked}):
        assert runs.choose(1, full=2) == 2
