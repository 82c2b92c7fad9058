"""The progress bar: there for a reader who waits, absent from built pages."""

import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tqdm.std import tqdm

from fpbook import progress


@pytest.fixture(autouse=True)
def shown_at_once(monkeypatch):
    monkeypatch.delenv(progress.STATIC_ENVIRONMENT, raising=False)
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 0.0)


def drawn(capsys):
    with progress.bar(4, "descending") as bar:
        for _ in range(4):
            bar.update(1)
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_a_bar_is_drawn(capsys):
    assert "descending" in drawn(capsys)


def test_the_bar_is_one_of_tqdm_and_counts():
    bar = progress.bar(2.5, "integrating")
    assert isinstance(bar, tqdm)
    with bar:
        bar.update(1.0)
        bar.update(1.5)
    assert bar.n == bar.total == 2.5


def test_times_that_add_up_to_the_total_but_for_rounding_do_not_pass_it(capsys):
    # 400 steps of 0.05 are 20 + 2e-13: tqdm would warn, and warnings fail tests.
    with progress.bar(20.0, "integrating") as bar:
        for _ in range(400):
            bar.update(0.05)
        bar.refresh()
        assert bar.n == pytest.approx(20.0, abs=1e-9)
        assert bar.n <= bar.total


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-3, 1e6), st.integers(1, 300))
def test_equal_parts_of_any_work_end_at_its_total(total, parts):
    with progress.bar(total, "integrating") as bar:
        for _ in range(parts):
            bar.update(total / parts)
            assert bar.n <= bar.total
        assert bar.n == pytest.approx(total, rel=1e-12)


def test_more_work_than_announced_is_not_hidden():
    with progress.bar(20.0, "integrating") as bar:
        bar.update(20.001)
    assert bar.n == 20.001


def test_bars_share_one_watching_thread(capsys):
    """A thread per bar once filled 2 GB of Binder with stacks."""
    drawn(capsys)
    threads = threading.active_count()
    for _ in range(20):
        drawn(capsys)
    assert threading.active_count() <= threads


def test_the_bar_leaves_no_trace(capsys):
    # The last thing written blanks the line.
    assert drawn(capsys).endswith("\r")


def test_short_work_draws_nothing(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_SHOWN", 60.0)
    assert drawn(capsys) == ""


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_static_pages_draw_nothing(value, capsys, monkeypatch):
    monkeypatch.setenv("FPBOOK_STATIC", value)
    assert progress.building_static_pages()
    assert drawn(capsys) == ""


@pytest.mark.parametrize("value", ["", "0"])
def test_off_means_interactive(value, capsys, monkeypatch):
    monkeypatch.setenv("FPBOOK_STATIC", value)
    assert not progress.building_static_pages()
    assert "descending" in drawn(capsys)


def test_without_tqdm_nothing_is_drawn(capsys, monkeypatch):
    progress._rounded_bar.cache_clear()
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)  # makes the import fail
    assert drawn(capsys) == ""


@pytest.mark.parametrize("static", [True, False])
def test_errors_pass_through(static, monkeypatch):
    monkeypatch.setenv("FPBOOK_STATIC", "1" if static else "0")
    with pytest.raises(KeyError), progress.bar(1, "failing"):
        raise KeyError
