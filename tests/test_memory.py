"""Memory: a container's limit counts if it is the tighter one, and a no says why."""

from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpbook import memory
from fpbook.memory import available_memory, require_memory


@pytest.fixture
def container(monkeypatch, tmp_path):
    """A computer with 1000 bytes left; returns what sets its container's files."""
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=1e3)
    )
    monkeypatch.setattr(memory, "CGROUP", tmp_path)

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"memory.{name}").write_text(text)

    return write


def test_a_computer_without_containers_has_what_it_has_left(container):
    assert available_memory() == 1000


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"max": "900\n", "current": "250\n"}, 650),
        ({"max": "5000\n", "current": "250\n"}, 1000),
        ({"max": "max\n", "current": "250\n"}, 1000),
        ({"max": "900\n", "current": "900\n"}, 0),
        # Half of the files is no limit: the use is not known.
        ({"max": "900\n"}, 1000),
        ({"current": "250\n"}, 1000),
    ],
)
def test_the_tighter_of_computer_and_container_counts(container, files, expected):
    container(**files)
    assert available_memory() == expected


def test_this_computer_has_some_memory_but_not_more_than_it_holds():
    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_what_fits_is_let_pass(container):
    container(max="900", current="250")
    require_memory(650, "it")
    require_memory(2e9, "it", allowed=2e9)


def test_what_does_not_fit_is_refused_with_both_numbers(container):
    container(max="900", current="250")
    with pytest.raises(
        MemoryError, match=r"^it needs about 6.51e-07 GB, available are 6.5e-07$"
    ):
        require_memory(651, "it")
    # What is allowed replaces what is available, also if it is more.
    message = r"^a kernel needs about 3.5 GB, available are 1.25$"
    with pytest.raises(MemoryError, match=message):
        require_memory(3.5e9, "a kernel", allowed=1.25e9)


@given(st.floats(0, 1e15), st.floats(0, 1e15))
def test_an_estimate_passes_if_and_only_if_it_fits(needed, allowed):
    if needed <= allowed:
        require_memory(needed, "it", allowed)
    else:
        with pytest.raises(MemoryError, match=r"^it needs about"):
            require_memory(needed, "it", allowed)


def test_cached_files_count_as_free(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000")
    (tmp_path / "memory.current").write_text("900")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 700\n")
    assert memory.available_memory() == 800
    (tmp_path / "memory.current").write_text("5000")
    assert memory.available_memory() == 0


def test_estimates_that_are_no_number_are_refused():
    with pytest.raises(MemoryError, match="needs about nan"):
        memory.require_memory(float("nan"), "something", 1e9)
