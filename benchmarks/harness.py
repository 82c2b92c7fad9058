"""The language of the benchmarks: what a case is, and how it is measured.

A module of ``benchmarks.cases`` has the name of the module of ``fpbook`` whose kernels
it measures, and a tuple ``CASES``. A case says how to set up the kernel, a plain
reference and the peers at a size; what they return has the same form, so that one
function tells the error of each against an exact result.

``measure`` runs them alternately in this process, on one thread. A run is timed in CPU
seconds; the memory that one call adds is measured in a process of its own.
"""

import ctypes
import gc
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.remote import Elsewhere, Remote, jax_python

Array = NDArray[np.float64]
Run = Callable[[], Any]
"""One call of a kernel: all that is timed. It may be called again and again."""
Setup = Callable[[int], Run]
"""Makes what a call needs at a size; not timed."""

ROUNDS = 5
SHORT = 0.01
"""CPU seconds below which a round calls again until it took as long."""
LONG, VERY_LONG = 2.0, 6.0
"""CPU seconds of a call above which 3 rounds, and above which 1 round, have to do."""

STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Peer:
    """Another way to compute what the kernel does.

    Parameters
    ----------
    name
        What the table calls it, with the setting that reaches the error of the case:
        ``"FiPy, 50 steps"``.
    setup
        As that of the case; or ``Elsewhere``, for a peer that JAX runs in an
        environment of its own. Imports of the peer belong inside.
    requires
        Name of the distribution, empty if the dependencies of fpbook have it. A peer
        whose distribution is not installed is listed as such.
    largest, smallest
        Sizes above and below are left out, for a peer that takes or compiles too long.
    """

    name: str
    setup: Setup | Elsewhere
    requires: str = ""
    largest: float = math.inf
    smallest: float = 0

    def sizes(self, case: "Case") -> list[int]:
        """List the sizes of a case at which it runs."""
        return [size for size in case.sizes if self.smallest <= size <= self.largest]


@dataclass(frozen=True)
class Target:
    """What the kernel is to reach at one of the sizes; what is None is not asked for.

    Parameters
    ----------
    size
        The size.
    seconds
        CPU time of a call.
    megabytes
        Memory that a call adds; for the largest size only.
    error
        Error, as the case measures it.
    """

    size: int
    seconds: float | None = None
    megabytes: float | None = None
    error: float | None = None


@dataclass(frozen=True)
class Case:
    """One kernel, measured at several sizes.

    Parameters
    ----------
    name
        A few words, unique among all cases: ``"density of one weight"``.
    module
        Module of ``fpbook``.
    kernel
        The function measured: ``"FokkerPlanck.evolve"``.
    measures
        One sentence on the problem.
    size_name
        What a size counts, in the plural: ``"cells"``.
    sizes
        Increasing, at least three.
    setup
        Size -> what is timed. It returns what ``error`` and the other setups agree on.
    exact
        What the error is measured against, in a few words.
    error_name
        Which error: ``"L1 distance"``.
    error
        (result, size) -> error.
    tolerance
        Error that the kernel reaches at the largest size, and that the settings of the
        peers are chosen for: ratios are at equal error.
    reference
        The plain way with numpy, scipy or torch, as one would write it at first.
    peers
        Libraries that do the same.
    target
        What to reach, if there is a target.
    order
        Power of the size by which the error falls; 0 asks for ``tolerance`` at every
        size, 1 for twice as much at half the largest one.
    """

    name: str
    module: str
    kernel: str
    measures: str
    size_name: str
    sizes: tuple[int, ...]
    setup: Setup
    exact: str
    error_name: str
    error: Callable[[Any, int], float]
    tolerance: float
    reference: Peer
    peers: tuple[Peer, ...] = ()
    target: Target | None = None
    order: float = 0.0

    def asked(self, size: int) -> float:
        """Return the error that is asked for at a size."""
        return float(self.tolerance * (self.sizes[-1] / size) ** self.order)

    def contenders(self) -> tuple[Peer, ...]:
        """List the kernel, the reference and the peers, in this order."""
        return (Peer("fpbook", self.setup), self.reference, *self.peers)


@dataclass
class Series:
    """What is measured of one contender, size by size; all of it goes to the file.

    Parameters
    ----------
    name, requires
        Those of the contender.
    version
        Of the distribution required, if it is installed.
    missing
        Why there are no numbers; empty if there are.
    first_seconds
        Seconds of the clock for setting up and calling once at the smallest of its
        sizes, which imports and compiles what is needed.
    sizes, seconds, rounds, errors, asked
        Size, median CPU time of a call, number of rounds, error, error asked for.
    megabytes
        Memory that one call adds at the last of the sizes, in 10^6 bytes; None where
        it cannot be measured.
    """

    name: str
    requires: str
    version: str = ""
    missing: str = ""
    first_seconds: float = math.nan
    sizes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    megabytes: float | None = None


def measure(case: Case) -> list[Series]:
    """Measure the kernel of a case, its reference and its peers.

    Parameters
    ----------
    case
        The case.

    Returns
    -------
    list of Series
        In the order of ``case.contenders()``.
    """
    peers = case.contenders()
    found = [Series(peer.name, peer.requires) for peer in peers]
    with ExitStack() as stack:
        setups: dict[str, Setup] = {}
        for peer, series in zip(peers, found, strict=True):
            series.version, series.missing = _availability(peer)
            if not series.missing:
                setups[peer.name] = _opened(peer, stack)
        _first_calls(case, setups, found)
        for size in case.sizes:
            running = {
                series.name: setups[series.name](size)
                for peer, series in zip(peers, found, strict=True)
                if not series.missing and size in peer.sizes(case)
            }
            timed = alternately(running)
            for series in found:
                if series.name in timed:
                    seconds, rounds, result = timed[series.name]
                    series.sizes.append(size)
                    series.seconds.append(seconds)
                    series.rounds.append(rounds)
                    series.errors.append(float(case.error(result, size)))
                    series.asked.append(case.asked(size))
    for series in found:
        if series.sizes:
            series.megabytes = added_memory(case, series.name, series.sizes[-1])
    return found


def _availability(peer: Peer) -> tuple[str, str]:
    """Version of what a contender requires, and why it cannot run."""
    if isinstance(peer.setup, Elsewhere):
        if not jax_python():
            return "", "not installed"
        with Remote() as remote:
            found = remote.version(peer.requires)
        return (found, "") if found else ("", "not installed")
    if not peer.requires:
        return "", ""
    try:
        return version(peer.requires), ""
    except PackageNotFoundError:
        return "", "not installed"


def _opened(peer: Peer, stack: ExitStack) -> Setup:
    if isinstance(peer.setup, Elsewhere):
        return peer.setup.opened(stack.enter_context(Remote()))
    return peer.setup


def _first_calls(case: Case, setups: dict[str, Setup], found: list[Series]) -> None:
    """Call each once, to import and compile; a peer that cannot run says why."""
    for peer, series in zip(case.contenders(), found, strict=True):
        if series.missing:
            continue
        start = time.perf_counter()
        try:
            setups[series.name](peer.sizes(case)[0])()
        except Exception as error:
            if series is found[0]:
                raise
            series.missing = f"failed: {type(error).__name__}: {error}"[:200]
        series.first_seconds = time.perf_counter() - start


class Timed(NamedTuple):
    """Median CPU seconds of a call, the number of rounds, what the first returned."""

    seconds: float
    rounds: int
    result: Any


def alternately(runs: dict[str, Run]) -> dict[str, Timed]:
    """Time each; the rounds are interleaved, so that all see the same computer.

    Parameters
    ----------
    runs
        Name -> what is timed.

    Returns
    -------
    dict
        Name -> its times.
    """
    results, calls, rounds = {}, {}, {}
    times: dict[str, list[float]] = {}
    for name, run in runs.items():
        first, results[name] = cpu_seconds(run)
        calls[name] = max(1, min(1000, round(SHORT / max(first, 1e-9))))
        rounds[name] = 1 if first > VERY_LONG else 3 if first > LONG else ROUNDS
        # Of a long call, the first counts: nothing is compiled any more.
        times[name] = [first] if first > LONG else []
    gc.collect()
    for number in range(ROUNDS):
        for name, run in runs.items():
            if number < rounds[name] and len(times[name]) < rounds[name]:
                total = sum(cpu_seconds(run)[0] for _ in range(calls[name]))
                times[name].append(total / calls[name])
    return {
        name: Timed(statistics.median(values), len(values), results[name])
        for name, values in times.items()
    }


def cpu_seconds(run: Run) -> tuple[float, Any]:
    """Call once; return the CPU seconds, where it ran, and what it returned."""
    start = time.process_time()
    result = run()
    here = time.process_time() - start
    there = getattr(run, "cpu_seconds", None)
    return (here if there is None else there), result


# --- memory -------------------------------------------------------------------------


def added_memory(case: Case, name: str, size: int) -> float | None:
    """Measure what one call adds to the memory, in a process of its own.

    Parameters
    ----------
    case
        The case; the other process finds it by its name.
    name
        The contender.
    size
        The size.

    Returns
    -------
    float
        10^6 bytes; None where the peak cannot be cleared: Linux can.
    """
    if not CLEAR_PEAK.exists():
        return None
    (peer,) = [p for p in case.contenders() if p.name == name]
    if isinstance(peer.setup, Elsewhere):
        with Remote() as remote:
            setup = peer.setup.opened(remote)
            setup(case.sizes[0])()
            # The first call compiles, which is not what is asked for.
            setup(size)()
            return remote.added_memory()
    # Forks of one process that has imported all cases, and has done nothing else.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["benchmarks.cases"])
    with ProcessPoolExecutor(1, mp_context=server) as pool:
        return pool.submit(_added_memory, case.name, name, size).result()


def _added_memory(case_name: str, name: str, size: int) -> float:
    from benchmarks.cases import CASES

    (case,) = [c for c in CASES if c.name == case_name]
    (peer,) = [p for p in case.contenders() if p.name == name]
    assert not isinstance(peer.setup, Elsewhere)
    one_thread()
    peer.setup(case.sizes[0])()
    run = peer.setup(size)
    return peak_of(run)


def peak_of(run: Run) -> float:
    """Call once; return how much the peak of memory rises, in 10^6 bytes."""
    gc.collect()
    _give_back()
    CLEAR_PEAK.write_text("5")
    before = _peak_resident_size()
    result = run()
    del result
    return _peak_resident_size() - before


def _give_back() -> None:
    """Return what was freed to the system: a call would use it without a rise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _peak_resident_size() -> float:
    # getrusage would inherit the peak of the parent.
    (line,) = [s for s in STATUS.read_text().splitlines() if s.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def one_thread() -> None:
    """Keep torch from using a second thread; the others read the environment."""
    import torch

    torch.set_num_threads(1)


# --- growth -------------------------------------------------------------------------


class Growth(NamedTuple):
    """Exponent of cost against size, and the range of slopes from size to size."""

    exponent: float
    lowest: float
    highest: float
    first: float


def growth(sizes: Sequence[float], seconds: Sequence[float]) -> Growth:
    """Fit a power law to the larger sizes, where overheads no longer count.

    Parameters
    ----------
    sizes
        Increasing, at least 3.
    seconds
        Cost at each.

    Returns
    -------
    Growth
        Least-squares slope of log cost against log size over the upper half of the
        sizes, at least three; the smallest and the largest slope between neighbours
        among them; and the first size of the fit.

    Raises
    ------
    ValueError
        If there are fewer than three sizes.
    """
    if len(sizes) < 3:
        raise ValueError(f"sizes must be at least 3, got {len(sizes)}")
    used = max(3, math.ceil(len(sizes) / 2))
    x, y = np.log(sizes[-used:]), np.log(seconds[-used:])
    slopes = np.diff(y) / np.diff(x)
    return Growth(
        float(np.polyfit(x, y, 1)[0]),
        float(slopes.min()),
        float(slopes.max()),
        sizes[-used],
    )


def chosen(cases: Sequence[Case], word: str) -> Iterator[Case]:
    """Go through the cases that have a word in their name or that of their module."""
    return (case for case in cases if word in f"{case.module} {case.name}")
