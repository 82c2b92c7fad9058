"""Cost of densities and of clouds of walkers, next to their errors.

Prints, in CPU time on one thread,

- T1, an Ornstein-Uhlenbeck process on 400 cells, and T2, two weights with a product
  loss on 200 x 200 cells: ``fpbook.fokker_planck``, FiPy and py-pde at equal error;
- three and four weights: cost of a step, its growth with the number of cells, memory;
- the cloud of ``fpbook.langevin`` and a plain loop of numpy.

Run it from the root of the repository; ``pip install -e .[bench]`` has the peers:

    python benchmarks/fokker_planck.py

Targets: T1 in 0.005 s at an error of 2 x 10^-4; T2 in 0.6 s at an error in time of
10^-4; 60^3 and 32^4 cells to time 1 in under a minute. Errors are in L1.
"""

import importlib.util
import multiprocessing
import os
import statistics
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", FIPY_SOLVERS="scipy")

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fpbook.fokker_planck import FokkerPlanck, Grid, MassAtWallWarning, gaussian
from fpbook.langevin import langevin_ensemble

# T2 keeps the box it was defined with: 10^-6 of its mass ends at the walls.
warnings.simplefilter("ignore", MassAtWallWarning)

Array = NDArray[np.float64]
Run = Callable[[], Array]
Settings = dict[str, tuple[str, float | None, dict[str, Any]]]
"""Of py-pde: its solver, the step, further options."""

REPETITIONS = 5
SHORT = 0.05
"""Seconds below which a run is repeated ten times as often."""

# --- problems -----------------------------------------------------------------------


class Problem(NamedTuple):
    """Loss and its downhill force at coordinates (d, ...), diffusion, start, end."""

    grid: Grid
    loss: Callable[[Array], Array]
    force: Callable[[Array], Array]
    diffusion: float
    start: Array
    end: float

    def equation(self) -> FokkerPlanck:
        return FokkerPlanck(
            self.grid, self.diffusion, potential=lambda w: self.loss(w.T)
        )

    def distance(self, p: Array, q: Array) -> float:
        return float(np.abs(p - q).sum()) * self.grid.cell_volume

    def lost_mass(self, p: Array) -> float:
        return float((self.start - p).sum()) * self.grid.cell_volume


def ornstein_uhlenbeck(lower: float, upper: float) -> tuple[Problem, Array]:
    """The problem and its exact solution."""
    grid = Grid(lower, upper, 400)
    start, decay = gaussian(grid, 1.5, 0.3), np.exp(-1)
    end = gaussian(grid, 1.5 * decay, (0.5 + (0.3**2 - 0.5) * decay**2) ** 0.5)
    return Problem(grid, lambda w: w[0] ** 2 / 2, np.negative, 0.5, start, 1.0), end


def product_loss(w: Array) -> Array:
    return (1 - w.prod(axis=0)) ** 2 / 2 + 0.05 * (w**2).sum(axis=0)


def product_force(w: Array) -> Array:
    """Downhill for two weights."""
    return (1 - w[0] * w[1]) * w[::-1] - 0.1 * w


def product_problem(cells: int, d: int = 2, end: float = 5.0) -> Problem:
    grid = Grid([-3] * d, [3] * d, cells)
    return Problem(
        grid, product_loss, product_force, 0.05, gaussian(grid, 0.5, 0.2), end
    )


def tied_loss(w: Array) -> Array:
    """Two tied 2 x 2 layers, |1 - W^T W|^2 / 2."""
    a, b, c, d = w
    diagonal = (1 - a * a - c * c) ** 2 + (1 - b * b - d * d) ** 2
    return diagonal / 2 + (a * b + c * d) ** 2


def tied_problem(cells: int) -> Problem:
    grid = Grid([-2.2] * 4, [2.2] * 4, cells)
    start = gaussian(grid, [0.5, 0.0, 0.0, 0.5], 0.3)
    return Problem(grid, tied_loss, np.negative, 0.1, start, 1.0)


# --- solvers ------------------------------------------------------------------------


def fpbook_run(problem: Problem, steps: int | None) -> Array:
    dt = None if steps is None else problem.end / steps
    return problem.equation().evolve(problem.start, [problem.end], dt)[0]


def fipy_run(
    problem: Problem, steps: int, order: int, tolerance: float = 1e-7
) -> Array:
    """Exponential scheme in space; in time implicit Euler, or Crank-Nicolson by hand.

    FiPy has no implicit convection of second order in time, but an implicit half-step
    extrapolated is a step of Crank and Nicolson. The first two are not extrapolated.
    """
    import fipy
    from fipy.solvers.scipy import LinearBicgstabSolver, LinearLUSolver

    grid = problem.grid
    counts = {f"n{x}": n for x, n in zip("xy", grid.shape, strict=False)}
    widths = {f"d{x}": h for x, h in zip("xy", grid.spacing, strict=False)}
    make = fipy.Grid1D if len(counts) == 1 else fipy.Grid2D
    mesh = make(**counts, **widths) + [[edge[0]] for edge in grid.edges]
    force = problem.force(mesh.faceCenters.value)
    convection = fipy.ExponentialConvectionTerm(fipy.FaceVariable(mesh, "", force, 1))
    diffusion = fipy.DiffusionTerm(problem.diffusion)
    equation = fipy.TransientTerm() == diffusion - convection
    # The quicker one each: FiPy does not keep a factorisation from step to step.
    iterative = LinearBicgstabSolver(tolerance=tolerance, precon=None)
    solver = LinearLUSolver() if len(counts) == 1 else iterative
    density = fipy.CellVariable(mesh, value=problem.start.T.ravel())
    dt = problem.end / steps / order
    for step in range(steps):
        before = density.value.copy()
        equation.solve(density, dt=dt, solver=solver)
        if order == 2 and step < 2:
            equation.solve(density, dt=dt, solver=solver)
        elif order == 2:
            density.setValue(2 * density.value - before)
    return density.value.reshape(grid.shape[::-1]).T


def pypde_run(problem: Problem, solver: str, dt: float | None, **options: Any) -> Run:
    """Compile the divergence form with no flux at the walls, and return the run."""
    import pde

    edges = problem.grid.edges
    box = pde.CartesianGrid([(e[0], e[-1]) for e in edges], problem.grid.shape)
    force = problem.force(np.moveaxis(box.cell_coords, -1, 0))
    equation = pde.PDE(
        {"p": f"{problem.diffusion} * laplace(p) - divergence(a * p)"},
        consts={"a": pde.VectorField(box, force)},
        bc_ops={"p:laplace": {"derivative": 0}, "p:divergence": {"value": 0}},
    )
    start = pde.ScalarField(box, problem.start)
    method = getattr(pde.solvers, solver)(equation, backend="numba", **options)
    advance = method.make_stepper(start, dt)
    advance(start.copy(), 0, 1e-3 * problem.end)

    def run() -> Array:
        state = start.copy()
        advance(state, 0, problem.end)
        return state.data

    return run


# --- equal errors -------------------------------------------------------------------


class Method(NamedTuple):
    """A library at one setting, its run, and the seconds of compiling before it."""

    library: str
    setting: str
    run: Run
    compiling: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.library}, {self.setting}"


def row(*cells: str | float) -> None:
    """Print a line of a table; text of the first column is longest."""
    texts = [c if isinstance(c, str) else f"{c:.3g}" for c in cells]
    print(f"  {texts[0]:28}" + "".join(f"{text:>10}" for text in texts[1:]), flush=True)


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def medians(runs: list[Run]) -> list[float]:
    """Median CPU seconds of each; the repetitions are interleaved."""
    counts = [10 if cpu_seconds(run) < SHORT else 1 for run in runs]
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(REPETITIONS):
        for run, count, values in zip(runs, counts, times, strict=True):
            values += [cpu_seconds(run) for _ in range(count)]
    return [statistics.median(values) for values in times]


def all_methods(
    problem: Problem, pypde: Settings
) -> tuple[list[Method], dict[str, Array]]:
    """Methods to compare, and what each library's short steps lead to."""
    methods = []
    for n in (25, 40, 50, 75, 100, None):
        setting = "dt=None" if n is None else f"{n} steps"
        methods.append(Method("fpbook", setting, partial(fpbook_run, problem, n)))
    finest = {"fpbook": fpbook_run(problem, 2000)}
    if importlib.util.find_spec("fipy"):
        for n, p in ((200, 1), (25, 2), (40, 2), (50, 2), (75, 2)):
            run = partial(fipy_run, problem, n, p)
            methods.append(Method("FiPy", f"{n} steps of order {p}", run))
        finest["FiPy"] = fipy_run(problem, 400, 2, 1e-10)
    else:
        print("  FiPy is not installed: skipped")
    if importlib.util.find_spec("pde"):
        exact = {"method": "DOP853", "rtol": 1e-8, "atol": 1e-10}
        finest["py-pde"] = pypde_run(problem, "ScipySolver", None, **exact)()
        for setting, (solver, dt, options) in pypde.items():
            start = time.process_time()
            run = pypde_run(problem, solver, dt, **options)
            compiling = time.process_time() - start
            methods.append(Method("py-pde", setting, run, compiling))
    else:
        print("  py-pde is not installed: skipped")
    return methods, finest


def compare(
    problem: Problem, exact: Array, target: tuple[str, float], pypde: Settings
) -> None:
    """Try every setting; time the cheapest of each library that meets the target."""
    methods, finest = all_methods(problem, pypde)
    quickest: dict[str, tuple[float, Method, float]] = {}
    row("", "CPU s", "error", "in time", "mass lost", "min p")
    for method in methods:
        start = time.process_time()
        p = method.run()
        seconds = time.process_time() - start
        errors = {
            "error": problem.distance(p, exact),
            "error in time": problem.distance(p, finest[method.library]),
        }
        row(method.name, seconds, *errors.values(), problem.lost_mass(p), p.min())
        best = quickest.get(method.library, (np.inf,))[0]
        if errors[target[0]] <= target[1] and seconds < best:
            quickest[method.library] = seconds, method, errors[target[0]]
    times = medians([method.run for _, method, _ in quickest.values()])
    row(f"{target[0]} <= {target[1]:g}", "CPU s", "ratio", "reached", "compiling")
    for (_, method, error), seconds in zip(quickest.values(), times, strict=True):
        row(method.name, seconds, seconds / times[0], error, method.compiling)


def one_weight() -> None:
    print("\nT1: Ornstein-Uhlenbeck, 400 cells, to t = 1")
    row("error of the cells", "error", "at a wall")
    for box in ((-6, 6), (-4, 4.5)):
        problem, exact = ornstein_uhlenbeck(*box)
        p = fpbook_run(problem, 2000)
        wall = max(p[0], p[-1]) * problem.grid.cell_volume
        row(f"in the box {box}", problem.distance(p, exact), wall)
    settings: Settings = {}
    for tol in (1e-2, 3e-3, 1e-3, 3e-4, 1e-4):
        lsoda = {"method": "LSODA", "lband": 1, "uband": 1}
        lsoda |= {"rtol": tol, "atol": tol / 1e3}
        settings[f"LSODA, band, {tol:g}"] = "ScipySolver", None, lsoda
    adaptive = {"adaptive": True}
    settings["RK4, adaptive"] = "RungeKuttaSolver", 1e-4, adaptive
    compare(problem, exact, ("error", 2e-4), settings)


def two_weights() -> None:
    print("\nT2: L = (1 - w1 w2)^2 / 2 + |w|^2 / 20, 200 x 200 cells, to t = 5")
    problem = product_problem(200)
    # Without its error of order h^2; with 600 x 600 cells it would change by 1e-6.
    half = fpbook_run(product_problem(400), 400)
    half = half.reshape(200, 2, 200, 2).mean(axis=(1, 3))
    exact = (4 * half - fpbook_run(problem, 2000)) / 3
    settings: Settings = {}
    for dt in (1.5625e-3, 1.25e-3):
        settings[f"RK4, dt = {dt:g}"] = "RungeKuttaSolver", dt, {}
    for tol in (1e-2, 3e-3, 1e-3, 3e-4):
        rk23 = {"method": "RK23", "rtol": tol, "atol": tol / 100}
        settings[f"RK23, {tol:g}"] = "ScipySolver", None, rk23
    compare(problem, exact, ("error in time", 1e-4), settings)

    equation = problem.equation()
    stationary = equation.stationary_density()
    later = equation.evolve(stationary, [problem.end], problem.end / 100)[0]
    change = problem.distance(later, stationary)
    print(f"  stationary density: changed by {change:.0e} in 100 steps")


# --- three and four weights ---------------------------------------------------------


def peak_resident_size() -> float:
    """Megabytes. Linux only: getrusage would inherit the peak of the parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = [s for s in status if s.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def four_weights(cells: int) -> tuple[float, float, tuple[float, float], float]:
    """CPU seconds to set up and of a step, mass and least density, peak of memory."""
    problem = tied_problem(cells)
    density = problem.start
    start = time.process_time()
    # evolve would not tell the set-up from the steps.
    step = problem.equation()._make_step(0.02)
    set_up = time.process_time() - start
    times = []
    for number in range(REPETITIONS + 2):
        start = time.process_time()
        density = step(density, number < 2)
        times.append(time.process_time() - start)
    kept = problem.lost_mass(density), float(density.min())
    return set_up, statistics.median(times[2:]), kept, peak_resident_size()


def many_weights() -> None:
    print("\nthree weights: L = (1 - w1 w2 w3)^2 / 2 + |w|^2 / 20, 60^3, to t = 1")
    problem = product_problem(60, d=3, end=1.0)
    finest = fpbook_run(problem, 1000)
    row("", "CPU s", "in time", "mass lost", "min p")
    for n in (25, 50, 100, None):
        name = "dt=None" if n is None else f"{n} steps"
        start = time.process_time()
        p = fpbook_run(problem, n)
        seconds = time.process_time() - start
        row(name, seconds, problem.distance(p, finest), problem.lost_mass(p), p.min())

    print("\nfour weights: L = |1 - W^T W|^2 / 2, T = 0.1, steps of 0.02")
    row("", "set-up s", "step s", "ns/cell", "to t=1, s", "mass lost", "min p", "MB")
    sizes, costs = (16, 24, 32, 48), []
    spawn = multiprocessing.get_context("spawn")
    for n in sizes:
        # In a process of its own, whose peak of memory is its own.
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            set_up, step, kept, megabytes = pool.submit(four_weights, n).result()
        costs.append(step)
        per_cell, total = 1e9 * step / n**4, set_up + 50 * step
        row(f"{n}^4", set_up, step, per_cell, total, *kept, f"{megabytes:.0f}")
    exponent = np.polyfit(4 * np.log(sizes), np.log(costs), 1)[0]
    print(f"  a step costs (number of cells)^{exponent:.2f}")
    problem = tied_problem(24)
    error = problem.distance(fpbook_run(problem, 50), fpbook_run(problem, 500))
    print(f"  to t = 1 in 50 steps on 24^4 cells: error in time {error:.1e}")


# --- walkers ------------------------------------------------------------------------

WALKERS, STEPS, DT, D = 10**5, 100, 0.01, 0.05


def downhill(w: Array) -> Array:
    return product_force(w.T).T


def cloud() -> Array:
    start = np.full((WALKERS, 2), 0.5)
    return langevin_ensemble(downhill, D, start, DT, STEPS, seed=0)[0]


def plain_cloud() -> Array:
    rng = np.random.default_rng(0)
    w = np.full((WALKERS, 2), 0.5)
    for _ in range(STEPS):
        noise = rng.standard_normal(w.shape)
        w = w + downhill(w) * DT + np.sqrt(2 * D * DT) * noise
    return w


def added_memory(run: Run) -> float:
    """Peak of what a run allocates, in megabytes."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def walkers() -> None:
    print(f"\nwalkers: {WALKERS} of two weights, {STEPS} steps")
    row("", "CPU s", "MB", "<|w|^2>")
    runs: list[Run] = [cloud, plain_cloud]
    names = ("fpbook.langevin", "plain numpy")
    for name, run, seconds in zip(names, runs, medians(runs), strict=True):
        row(name, seconds, added_memory(run), (run() ** 2).sum(axis=1).mean())


if __name__ == "__main__":
    print(f"numpy {np.__version__}, one thread, medians of {REPETITIONS}")
    with np.errstate(all="ignore"):
        one_weight()
        two_weights()
    many_weights()
    walkers()
