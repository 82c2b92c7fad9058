"""The benchmarks: every kernel has a case that is right, and the page shows the run.

No time is compared with anything here: the error of each case is, at its smallest size,
and what is made of measured numbers is tried on numbers that are made up.
"""

import ast
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, SITE
from docutils import nodes
from test_export import load

from benchmarks import harness, jax_peers, remote, report
from benchmarks.cases import CASES
from benchmarks.harness import Case, Peer, Target
from benchmarks.remote import Elsewhere, Remote

speed = load("speed")

# What they are for instead of computing: their speed is nobody's concern.
WITHOUT_KERNEL = {
    "__init__": "is empty",
    "__main__": "is the command line",
    "claims": "checks a number and writes a row",
    "explore": "draws frames by a function of the page",
    "figures": "is a style",
    "memory": "asks the system how much there is",
    "progress": "shows a bar",
    "runs": "chooses between two sizes",
    "validation": "checks arguments",
}
STORED = json.loads((ROOT / "benchmarks" / "last_run.json").read_text("utf-8"))
IDS = [f"{case.module}-{case.name}" for case in CASES]


# --- the cases ----------------------------------------------------------------------


def test_every_module_has_a_case_or_a_reason_for_none():
    modules = {path.stem for path in (ROOT / "fpbook").glob("*.py")}
    measured = {case.module for case in CASES}
    assert measured | set(WITHOUT_KERNEL) == modules
    assert not measured & set(WITHOUT_KERNEL)


def test_a_case_stands_in_the_file_of_its_module_and_measures_a_function_of_it():
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert (ROOT / "benchmarks" / "cases" / f"{case.module}.py").exists()
        source = ast.parse((ROOT / "fpbook" / f"{case.module}.py").read_text("utf-8"))
        # Functions, and methods by the name of their class.
        names = {node.name for node in source.body if hasattr(node, "name")}
        for kernel in case.kernel.split(", "):
            assert kernel.split(".")[0] in names, (case.module, kernel)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_case_is_well_formed(case):
    assert len(case.sizes) >= 3
    assert list(case.sizes) == sorted(set(case.sizes))
    assert all(peer.sizes(case) for peer in case.contenders())
    assert len({peer.name for peer in case.contenders()}) == len(case.contenders())
    if case.target is not None:
        assert case.target.size in case.sizes
        if case.target.megabytes is not None:
            assert case.target.size == case.sizes[-1]
    for peer in case.peers:
        if isinstance(peer.setup, Elsewhere):
            assert peer.setup.function in jax_peers.PEERS
            assert peer.requires
    assert case.measures.endswith(".")


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.filterwarnings("ignore")
def test_a_kernel_reaches_its_error_at_the_smallest_size(case):
    size = case.sizes[0]
    error = case.error(case.setup(size)(), size)
    assert 0 <= error <= case.asked(size)


# --- measuring ----------------------------------------------------------------------


def doubling(size: int) -> Any:
    return lambda: 2 * size


def made_up(**changes: Any) -> Case:
    given = {
        "name": "twice",
        "module": "claims",
        "kernel": "check",
        "measures": "Twice a number.",
        "size_name": "numbers",
        "sizes": (10, 20, 40),
        "setup": doubling,
        "exact": "twice the size",
        "error_name": "error",
        "error": lambda result, size: abs(result - 2 * size),
        "tolerance": 0.5,
        "reference": Peer("by adding", lambda size: lambda: size + size),
    }
    return Case(**given | changes)


def fails(_: int) -> Any:
    raise OSError("no such library")


def test_all_ways_are_measured_and_none_is_silently_missing(monkeypatch):
    monkeypatch.setattr(harness, "added_memory", lambda *_: 1.5)
    monkeypatch.delenv("BENCHMARK_JAX_PYTHON", raising=False)
    peers = (
        Peer("off by one", lambda size: lambda: 2 * size + 1, "numpy", largest=20),
        Peer("absent", doubling, "no-such-distribution"),
        Peer("broken", fails),
        Peer("of another environment", Elsewhere("double", dict), "diffrax"),
    )
    found = harness.measure(made_up(peers=peers))
    names = ["fpbook", "by adding", *(peer.name for peer in peers)]
    assert [series.name for series in found] == names
    kernel, _, off, absent, broken, other = found
    assert kernel.sizes == [10, 20, 40]
    assert kernel.errors == [0, 0, 0]
    assert kernel.rounds == [harness.ROUNDS] * 3
    assert min(kernel.seconds) > 0
    assert kernel.megabytes == 1.5
    assert (off.sizes, off.errors, off.asked) == ([10, 20], [1, 1], [0.5, 0.5])
    assert off.version == version("numpy")
    assert (absent.missing, absent.sizes) == ("not installed", [])
    assert broken.missing == "failed: OSError: no such library"
    assert other.missing == "not installed"


def test_a_kernel_that_fails_is_not_passed_over():
    with pytest.raises(OSError, match="no such library"):
        harness.measure(made_up(setup=fails))


def test_rounds_are_interleaved_and_short_calls_repeated(monkeypatch):
    calls = []

    def run(name: str, took: float) -> Any:
        def call() -> None:
            calls.append(name)
            call.cpu_seconds = took

        return call

    runs = {"short": run("short", 0.004), "long": run("long", 3.0)}
    timed = harness.alternately(runs)
    assert timed["short"][:2] == (pytest.approx(0.004), harness.ROUNDS)
    # The first long call counts, and takes part in three rounds.
    assert timed["long"][:2] == (3.0, 3)
    one_round = [*["short"] * 2, "long"]
    assert calls[:2] == ["short", "long"]
    assert calls[2:8] == one_round * 2
    assert calls.count("long") == 3


def test_the_error_asked_for_falls_with_the_size():
    case = made_up(tolerance=1e-3, order=2.0)
    assert case.asked(40) == pytest.approx(1e-3)
    assert case.asked(10) == pytest.approx(16e-3)


@pytest.mark.skipif(not harness.CLEAR_PEAK.exists(), reason="Linux can clear the peak")
def test_memory_is_the_peak_of_a_call_not_what_it_leaves():
    def call() -> float:
        return float(np.ones(10_000_000).sum())

    assert harness.peak_of(call) == pytest.approx(80, rel=0.15)


@pytest.mark.skipif(not harness.CLEAR_PEAK.exists(), reason="Linux can clear the peak")
def test_memory_that_was_freed_before_counts_when_it_is_used_again():
    def call() -> list[Any]:
        return [np.ones(8_000) for _ in range(400)]

    freed = call()
    # What lies above it in memory keeps it from being given back by itself.
    above = np.ones(8_000)
    del freed
    assert harness.peak_of(call) == pytest.approx(25.6, rel=0.2)
    assert above.all()


def test_exponents_of_power_laws_are_found():
    sizes = [1, 10, 100, 1000, 10_000]
    times = [1.0, 1.0, *(1e-6 * np.array(sizes[2:]) ** 1.5)]
    grown = harness.growth(sizes, times)
    assert grown.exponent == pytest.approx(1.5)
    assert grown.lowest == pytest.approx(1.5)
    assert grown.highest == pytest.approx(1.5)
    assert grown.first == 100
    # Slopes 1 and 2 one after the other.
    bent = harness.growth([1, 2, 4], [1, 2, 8])
    assert (bent.exponent, bent.lowest, bent.highest) == pytest.approx((1.5, 1, 2))
    with pytest.raises(ValueError, match="sizes must be at least 3, got 2"):
        harness.growth([1, 2], [1, 2])


SERVER = """
from benchmarks.remote import serve

def double(inputs):
    print("a library speaks")
    return lambda: 2 * inputs["x"]

serve({"double": double})
"""


def test_another_interpreter_answers(tmp_path, monkeypatch):
    script = tmp_path / "peers.py"
    script.write_text(SERVER)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    peer = Elsewhere("double", lambda size: {"x": np.arange(size)})
    with Remote([sys.executable, str(script)]) as process:
        assert process.version("numpy") == version("numpy")
        assert process.version("no-such-distribution") == ""
        run = peer.opened(process)(4)
        assert run().tolist() == [0, 2, 4, 6]
        assert run.cpu_seconds >= 0
        with pytest.raises(RuntimeError, match="KeyError: 'triple'"):
            process.setup("triple", {})
        assert harness.cpu_seconds(run)[0] == run.cpu_seconds
    assert remote.jax_python() == remote.os.environ.get("BENCHMARK_JAX_PYTHON", "")


# --- the file and the tables --------------------------------------------------------


def series(name: str, seconds: list[float], **changes: Any) -> dict[str, Any]:
    given = {
        "name": name,
        "requires": "",
        "version": "",
        "missing": "",
        "first_seconds": 0.25,
        "sizes": [10, 100, 1000][: len(seconds)],
        "seconds": seconds,
        "rounds": [5] * len(seconds),
        "errors": [2e-4] * len(seconds),
        "asked": [1e-3] * len(seconds),
        "megabytes": 12.34,
    }
    return given | changes


def entry(**changes: Any) -> dict[str, Any]:
    nothing = float("nan")
    rows = [
        series("fpbook", [1e-5, 1e-3, 1e-1]),
        series("plain", [5e-5, 5e-3]),
        series("library", [1e-6, 1e-4, 4e-2], version="1.2", errors=[2e-4] * 3),
        series("rough", [1e-5, 1e-4, 1e-2], errors=[0.5] * 3),
        series("absent", [], missing="not installed", first_seconds=nothing),
    ]
    target = Target(size=1000, seconds=0.05, error=1e-3)
    case = made_up(sizes=(10, 100, 1000), target=target, **changes)
    return report.described(case, rows)


def test_the_file_has_plain_values_ratios_and_targets():
    found = json.loads(json.dumps(entry(), allow_nan=False))
    assert [one["ratio"] for one in found["series"]] == [
        1,
        pytest.approx(5),
        pytest.approx(0.4),
        pytest.approx(0.1),
        None,
    ]
    assert found["growth"]["exponent"] == pytest.approx(2)
    time, error = found["targets"]
    assert (time["what"], time["reached"], time["asked"]) == ("seconds", 0.1, 0.05)
    assert (error["what"], error["reached"], error["asked"]) == ("error", 2e-4, 1e-3)


def test_the_table_marks_errors_and_says_what_is_not_there():
    lines = report.table(entry()).splitlines()
    assert lines[1] == "claims: twice (check)"
    assert "numbers^2.00 (2.00 to 2.00)" in lines[2]
    cells = {line[2:42].strip(): line[42:].split() for line in lines[3:]}
    assert cells["plain"] == ["100", "0.005", "5", "2.0e-04", "12.3", "0.25"]
    assert cells["rough"][3:5] == ["5.0e-01", "!"]
    assert cells["absent"] == ["not", "installed"]
    assert lines[-2].endswith("0.1, target at most 0.05: missed")
    assert lines[-1].endswith("0.0002, target at most 0.001: met")


def test_the_stored_run_has_all_cases_and_no_others():
    stored = {(case["module"], case["name"]) for case in STORED["cases"]}
    assert stored == {(case.module, case.name) for case in CASES}
    for case in CASES:
        (found,) = (one for one in STORED["cases"] if one["name"] == case.name)
        names = [peer.name for peer in case.contenders()]
        assert [one["name"] for one in found["series"]] == names
        kernel = found["series"][0]
        assert kernel["sizes"] == list(case.sizes)
        assert np.all(np.array(kernel["errors"]) <= kernel["asked"])
        # Releases of numpy fit lines with other rounding.
        growth = harness.growth(kernel["sizes"], kernel["seconds"])._asdict()
        assert found["growth"] == pytest.approx(growth, rel=1e-12)
        for one in found["series"]:
            assert bool(one["sizes"]) != bool(one["missing"])
    assert set(STORED["machine"]["versions"]) == {
        "Python",
        "numpy",
        "scipy",
        "torch",
        "fpbook",
    }


# --- the page -----------------------------------------------------------------------


def test_numbers_are_written_for_readers():
    assert speed.number(1234567) == "1\u202f234\u202f567"
    assert [speed.digits(x) for x in (0.0123, 1.26, 12.6, 1234.0)] == [
        "0.012",
        "1.3",
        "13",
        "1\u202f234",
    ]
    assert [speed.seconds(x) for x in (2.0, 3.4e-3, 5.6e-6)] == [
        "2.0\u00a0s",
        "3.4\u00a0ms",
        "5.6\u00a0µs",
    ]
    assert [speed.megabytes(x) for x in (None, 0.0, 12.34)] == [
        "not measured",
        "<\u00a00.1\u00a0MB",
        "12\u00a0MB",
    ]
    assert [speed.power(x) for x in (0.0, 1.24e-13)] == ["0", "1.2 × 10⁻¹³"]
    assert speed.share(0.998) == "99 %"


def test_the_summary_names_what_is_faster_short_or_missing():
    text = speed.summary([entry()])
    assert "1 cases of 1 modules, 3 comparisons" in text
    assert "In 2 of them the other way reaches the error asked for" in text
    assert "in 1 of these fpbook is at least as fast, in 1 it is slower" in text
    assert "- twice: library, in 40 % of the time" in text
    assert "- twice: rough, 5.0 × 10⁻¹ instead of 1.0 × 10⁻³" in text
    assert "- twice: absent, not installed" in text


def rows(table: nodes.Node) -> list[list[str]]:
    (body,) = table.findall(nodes.tbody)
    return [[cell.astext() for cell in row.children] for row in body.children]


def test_the_tables_of_a_part_show_every_way():
    ((case, size, time, exponent, memory, error),) = rows(speed.growth_table([entry()]))
    assert case == "twice: Twice a number. claims: check"
    assert (size, time, memory) == ("1\u202f000 numbers", "100\u00a0ms", "12\u00a0MB")
    assert exponent == "2.00 (2.00 to 2.00)"
    assert error == "2.0 × 10⁻⁴ (error; twice the size)"
    plain, library, rough, absent = rows(speed.comparison_table([entry()]))
    assert plain[1:4] == ["plain", "100 numbers", "× 5.0"]
    assert library[1] == "library (1.2)"
    assert rough[4] == "5.0 × 10⁻¹ (more than asked for)"
    assert absent[1:3] == ["absent", "not installed"]


def test_the_figure_is_drawn_for_site_and_paper(tmp_path):
    speed.draw([entry()] * 3, tmp_path / "fig")
    assert {path.suffix for path in tmp_path.iterdir()} == {".svg", ".png", ".pdf"}
    first = (tmp_path / "fig.svg").read_bytes()
    speed.draw([entry()] * 3, tmp_path / "fig")
    assert (tmp_path / "fig.svg").read_bytes() == first
    told = speed.told([entry()])
    assert (
        "twice: 10\u00a0µs at 10 numbers, 100\u00a0ms at 1\u202f000, exponent 2.00"
        in told
    )


@pytest.mark.usefixtures("site")
def test_the_page_shows_every_case_once():
    page = (SITE / "book" / "benchmarks.html").read_text("utf-8")
    tree = BeautifulSoup(page, "html.parser").select_one("article.bd-article")
    names = [tag.get_text() for tag in tree.select("td p strong")]
    assert sorted(names) == sorted(case["name"] for case in STORED["cases"])
    assert STORED["machine"]["processor"] in tree.get_text()
    images = tree.select("figure img")
    assert images
    assert all("exponent" in image["alt"] for image in images)
    assert {Path(image["src"]).suffix for image in images} == {".svg"}
