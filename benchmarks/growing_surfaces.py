"""Cost of surfaces that grow by chance, and of the limit laws of their heights.

Prints, in CPU time on one thread,

- last passage, 2^16 sites and 512 steps: ``fpbook.kpz.last_passage``, a plain loop of
  numpy, and a loop compiled by numba, in the same run;
- a step of ``kpz_equation``, ``directed_polymer`` and ``random_environment_walk``;
- the Tracy-Widom and Baik-Rains laws: the first call, an evaluation of 1000 points, and
  their error, next to the package TracyWidom.

Run it from the root of the repository; numba and TracyWidom are left out where they are
not installed:

    python benchmarks/growing_surfaces.py

Targets: last passage in 20 ns per site and step; the laws to 1e-12, and in a second.
The error of a law is its distance from a Fredholm determinant on other points, of the
kernel (Ai(x) Ai'(y) - Ai'(x) Ai(y)) / (x - y) for GUE and Ai((x + y) / 2) / 2 for GOE.
"""

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.special import airy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fpbook.tracy_widom as laws
from fpbook.kpz import (
    LimitLaw,
    baik_rains,
    directed_polymer,
    kpz_equation,
    last_passage,
    random_environment_walk,
    tracy_widom,
)

Array = NDArray[np.float64]
Run = Callable[[], Array]

WIDTH, STEPS = 2**16, 512
REPETITIONS = 7
POINTS = np.linspace(-8, 6, 1000)

# --- last passage -------------------------------------------------------------------


def plain(width: int, steps: int, seed: int) -> Array:
    """Loop as one would write it: new arrays in every step."""
    rng = np.random.default_rng(seed)
    h = np.zeros(width)
    for _ in range(steps):
        h = np.maximum(h, np.roll(h, 1)) + rng.exponential(size=width)
    return h


def compiled() -> Callable[[int, int, int], Array] | None:
    """Loop over sites, in place, with the same generator; None without numba."""
    if not importlib.util.find_spec("numba"):
        return None
    from numba import njit

    @njit  # type: ignore[untyped-decorator,unused-ignore]
    def grow(h: Array, steps: int, rng: np.random.Generator) -> Array:
        for _ in range(steps):
            before = h[-1]
            for x in range(len(h)):
                now = h[x]
                h[x] = max(now, before) + rng.standard_exponential()
                before = now
        return h

    def run(width: int, steps: int, seed: int) -> Array:
        grown: Array = grow(np.zeros(width), steps, np.random.default_rng(seed))
        return grown

    run(4, 1, 0)  # It compiles.
    return run


def exponentials(width: int, steps: int, seed: int) -> Array:
    """Draw the weights and do nothing else: what no loop can undercut."""
    rng, weights = np.random.default_rng(seed), np.empty(width)
    for _ in range(steps):
        rng.standard_exponential(out=weights)
    return weights


# --- measurements -------------------------------------------------------------------


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def medians(runs: dict[str, Run]) -> dict[str, float]:
    """Median CPU seconds of each; the repetitions are interleaved."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPETITIONS):
        for name, run in runs.items():
            times[name].append(cpu_seconds(run))
    return {name: statistics.median(values) for name, values in times.items()}


def row(*cells: str | float) -> None:
    """Print a line of a table; text of the first column is longest."""
    texts = [c if isinstance(c, str) else f"{c:.3g}" for c in cells]
    print(f"  {texts[0]:34}" + "".join(f"{text:>13}" for text in texts[1:]), flush=True)


def target(what: str, value: float, bound: float) -> None:
    verdict = "met" if value <= bound else "MISSED"
    print(f"  {what}: {value:.3g}, target <= {bound:g}: {verdict}", flush=True)


# --- reports ------------------------------------------------------------------------


def growth() -> None:
    print(f"\nlast passage, {WIDTH} sites, {STEPS} steps")
    runs: dict[str, Run] = {
        "fpbook, flat": lambda: last_passage(WIDTH, STEPS, 1),
        "plain numpy": lambda: plain(WIDTH, STEPS, 1),
    }
    loop = compiled()
    if loop is None:
        print("  numba is not installed: skipped")
    else:
        runs["numba"] = lambda: loop(WIDTH, STEPS, 1)
    runs["weights alone"] = lambda: exponentials(WIDTH, STEPS, 1)
    # All draw the same weights, and so end in the same surface.
    surface = np.roll(runs["plain numpy"](), -(STEPS // 2))
    assert np.allclose(runs["fpbook, flat"]()[0], surface, rtol=1e-12)
    if loop is not None:
        moved = np.roll(runs["numba"](), -(STEPS // 2))
        assert np.allclose(moved, surface, rtol=1e-12)
    found = medians(runs)
    row("", "ns per site", "sites / s", "ratio")
    for name, seconds in found.items():
        ns = seconds / (WIDTH * STEPS) * 1e9
        row(name, ns, 1e9 / ns, seconds / found["fpbook, flat"])
    target("ns per site", found["fpbook, flat"] / (WIDTH * STEPS) * 1e9, 20)


def others() -> None:
    print("\nper site and step, those that the paths reach")
    steps, walk, samples = 128, 512, 128
    # Equations are four times as dear: a quarter of the steps.
    few, dt = steps // 4, 0.1
    sizes: dict[str, tuple[int, Run]] = {
        "last_passage, stationary": (
            WIDTH * steps,
            lambda: last_passage(WIDTH, steps, 1, "stationary"),
        ),
        "last_passage, 128 x 128 to a point": (
            128**2 * samples,
            lambda: last_passage(1, 255, 1, "point", samples=samples),
        ),
        "last_passage, 128 rings of 512": (
            WIDTH * steps,
            lambda: last_passage(WIDTH // 128, steps, 1, samples=128),
        ),
        "directed_polymer": (
            WIDTH * steps,
            lambda: directed_polymer(WIDTH, steps, 1, 0.5),
        ),
        "kpz_equation": (
            WIDTH * few,
            lambda: kpz_equation(WIDTH, [few * dt], 1, dt=dt),
        ),
        "kpz_equation, linear": (
            WIDTH * few,
            lambda: kpz_equation(WIDTH, [few * dt], 1, dt=dt, nonlinearity=0.0),
        ),
        "random_environment_walk": (
            walk * (walk + 1) // 2 * samples,
            lambda: random_environment_walk(walk, 1, [0.0], samples=samples),
        ),
    }
    found = medians({name: run for name, (_, run) in sizes.items()})
    row("", "ns", "sites / s")
    for name, seconds in found.items():
        ns = seconds / sizes[name][0] * 1e9
        row(name, ns, 1e9 / ns)


def determinant(name: str, s: float) -> float:
    """Evaluate the law on 100 points of (s, infinity), mapped by a tangent."""
    nodes, weights = leggauss(100)
    angle = np.pi / 4 * (nodes + 1)
    x = s + 10 * np.tan(angle)
    root = np.sqrt(weights * 10 * np.pi / 4) / np.cos(angle)
    # Beyond 40 the Airy function is 1e-75.
    x, root = x[x < 40], root[x < 40]
    if name == "GOE":
        kernel = airy(np.add.outer(x, x) / 2)[0] / 2
    else:
        value, slope = airy(x)[:2]
        product = np.multiply.outer(value, slope)
        distance = np.subtract.outer(x, x) + np.eye(len(x))
        kernel = (product - product.T) / distance
        np.fill_diagonal(kernel, slope**2 - x * value**2)
    return float(np.linalg.det(np.eye(len(x)) - root[:, None] * kernel * root))


def first_call(make: Callable[[], LimitLaw]) -> float:
    laws._law.cache_clear()
    laws._airy_quantities.cache_clear()
    return cpu_seconds(make)


def limit_laws() -> None:
    print("\nlimit laws: CPU s of the first call, and of the CDF at 1000 points")
    makers: dict[str, Callable[[], LimitLaw]] = {
        "GUE": lambda: tracy_widom("GUE"),
        "GOE": lambda: tracy_widom("GOE"),
        "Baik-Rains": baik_rains,
    }
    row("", "first call", "1000 points", "error")
    found = {}
    for name, make in makers.items():
        first = statistics.median(first_call(make) for _ in range(3))
        law = make()
        again = medians({name: lambda law=law: law.cdf(POINTS)})[name]
        if name == "Baik-Rains":
            row(f"fpbook, {name}", first, again, f"{abs(law.mean):.0e} (mean)")
            continue
        exact = np.array([determinant(name, s) for s in POINTS])
        found[name] = first, float(np.abs(law.cdf(POINTS) - exact).max())
        row(f"fpbook, {name}", first, again, f"{found[name][1]:.0e}")
        peer(name, exact)
    for name, (first, error) in found.items():
        target(f"error of {name}", error, 1e-12)
        target(f"seconds of the first call, {name}", first, 1)


def peer(name: str, exact: Array) -> None:
    """Print the line of the package TracyWidom, if it is there."""
    if not importlib.util.find_spec("TracyWidom"):
        print("  TracyWidom is not installed: skipped")
        return
    from TracyWidom import TracyWidom

    beta = {"GOE": 1, "GUE": 2}[name]
    first = cpu_seconds(lambda: TracyWidom(beta=beta).cdf(0.0))
    law = TracyWidom(beta=beta)
    again = medians({name: lambda: np.asarray(law.cdf(POINTS))})[name]
    error = np.abs(law.cdf(POINTS) - exact).max()
    row(f"TracyWidom, {name}", first, again, f"{error:.0e}")


if __name__ == "__main__":
    print(f"numpy {np.__version__}, medians of {REPETITIONS} runs")
    growth()
    others()
    limit_laws()
