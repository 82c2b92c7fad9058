"""Densities of one to four weights, and what they come to rest at.

The exact results are cell averages of Gaussians where the force is linear, and a
Richardson extrapolation where it is not.
"""

import itertools
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import expm, solve_continuous_lyapunov
from scipy.sparse import linalg as sparse_linalg
from scipy.special import exprel

from benchmarks.harness import Case, Peer, Run, Target
from fpbook.finite_volumes import Grid, gaussian
from fpbook.fokker_planck import FokkerPlanck, MassAtWallWarning

Array = NDArray[np.float64]


# --- problems -----------------------------------------------------------------------


class Problem(NamedTuple):
    """Downhill force at coordinates (d, ...), its loss if it has one, start, end."""

    grid: Grid
    force: Callable[[Array], Array]
    loss: Callable[[Array], Array] | None
    diffusion: float
    start: Array
    end: float

    def equation(self) -> FokkerPlanck:
        if self.loss is None:
            return FokkerPlanck(
                self.grid, self.diffusion, drift=lambda w: self.force(w.T).T
            )
        loss = self.loss
        return FokkerPlanck(self.grid, self.diffusion, potential=lambda w: loss(w.T))


def distance(p: Array, q: Array, grid: Grid) -> float:
    """L1 distance of two densities."""
    return float(np.abs(p - q).sum() * grid.cell_volume)


def one_weight(cells: int) -> Problem:
    grid = Grid(-4, 4.5, cells)
    start = gaussian(grid, 1.5, 0.3)
    return Problem(grid, np.negative, lambda w: w[0] ** 2 / 2, 0.5, start, 1.0)


def _error_of_one(p: Array, cells: int) -> float:
    decay = np.exp(-1)
    grid = Grid(-4, 4.5, cells)
    std = (0.5 + (0.3**2 - 0.5) * decay**2) ** 0.5
    return distance(p, gaussian(grid, 1.5 * decay, std), grid)


def _product_loss(w: Array) -> Array:
    loss: Array = (1 - w[0] * w[1]) ** 2 / 2 + 0.05 * (w**2).sum(axis=0)
    return loss


def _product_force(w: Array) -> Array:
    force: Array = (1 - w[0] * w[1]) * w[::-1] - 0.1 * w
    return force


def two_weights(cells: int) -> Problem:
    side = round(cells**0.5)
    grid = Grid([-3, -3], [3, 3], side)
    start = gaussian(grid, 0.5, 0.2)
    return Problem(grid, _product_force, _product_loss, 0.05, start, 5.0)


@cache
def _extrapolated(side: int) -> Array:
    """Without the error of order h^2, from so many cells and from twice as many."""
    coarse, fine = (
        evolved(problem, 120)
        for problem in (two_weights(side**2), two_weights((2 * side) ** 2))
    )
    return np.asarray((4 * _merged(fine, side) - coarse) / 3)


def _merged(p: Array, side: int) -> Array:
    """Means over blocks of cells, so that ``side`` are left along each axis."""
    block = len(p) // side
    means: Array = p.reshape(side, block, side, block).mean(axis=(1, 3))
    return means


def _error_of_two(p: Array, cells: int) -> float:
    side = round(cells**0.5)
    return distance(
        p, _merged(_extrapolated(max(side, 100)), side), two_weights(cells).grid
    )


TILTED = {
    3: np.array([[1.0, 0.5, 0.2], [0.5, 1.2, -0.3], [0.2, -0.3, 0.9]]),
    4: np.array(
        [
            [1.0, 0.5, 0.2, 0.0],
            [0.5, 1.2, -0.3, 0.1],
            [0.2, -0.3, 0.9, 0.4],
            [0.0, 0.1, 0.4, 1.1],
        ]
    ),
}
"""Curvatures of losses that are quadratic, with axes that are not the grid's."""
TURNING = np.array([[1.0, 0.8], [-0.5, 0.6]])
"""Of two weights, the matrix of a linear force that has no potential."""
END = {3: 1.0, 4: 0.2}
STEPS = {3: 40, 4: 10}
MEAN, STD, DIFFUSION = 0.5, 0.45, 0.25


def tilted(cells: int, d: int) -> Problem:
    side = round(cells ** (1 / d))
    grid = Grid([-3] * d, [3] * d, side)
    curvature = TILTED[d]

    def force(w: Array) -> Array:
        return np.tensordot(-curvature, w, axes=1)

    def loss(w: Array) -> Array:
        result: Array = -(w * force(w)).sum(axis=0) / 2
        return result

    start = gaussian(grid, [MEAN] * d, STD)
    return Problem(grid, force, loss, DIFFUSION, start, END[d])


def cell_averages(grid: Grid, mean: Array, covariance: Array) -> Array:
    """Average a Gaussian over the cells, by two Gauss points along each axis."""
    precision = np.linalg.inv(covariance)
    total = np.zeros(grid.shape)
    for signs in itertools.product((-1, 1), repeat=len(grid.shape)):
        axes = [
            centers + sign * h / 12**0.5 - m
            for centers, sign, h, m in zip(
                grid.centers, signs, grid.spacing, mean, strict=True
            )
        ]
        open_axes = np.ix_(*axes)
        power = np.zeros(grid.shape)
        for i, x in enumerate(open_axes):
            power += precision[i, i] * x * x / 2
            for j, y in enumerate(open_axes[:i]):
                power += precision[i, j] * x * y
        total += np.exp(-power)
    norm = (2 * np.pi) ** (len(mean) / 2) * np.linalg.det(covariance) ** 0.5
    return np.asarray(total / (norm * 2 ** len(mean)))


def _error_of_tilted(d: int) -> Callable[[Array, int], float]:
    @cache
    def exact(cells: int) -> Array:
        curvature, eye = TILTED[d], np.eye(d)
        decay = expm(-END[d] * curvature)
        rest = DIFFUSION * np.linalg.inv(curvature)
        covariance = rest + decay @ (STD**2 * eye - rest) @ decay.T
        return cell_averages(
            tilted(cells, d).grid, decay @ np.full(d, MEAN), covariance
        )

    return lambda p, cells: distance(p, exact(cells), tilted(cells, d).grid)


def turning(cells: int) -> Problem:
    side = round(cells**0.5)
    grid = Grid([-4, -4], [4, 4], side)

    def force(w: Array) -> Array:
        return np.tensordot(-TURNING, w, axes=1)

    return Problem(grid, force, None, 0.5, gaussian(grid, [0.0, 0.0], 0.5), 1.0)


def _error_of_rest(p: Array, cells: int) -> float:
    covariance = solve_continuous_lyapunov(TURNING, np.eye(2))
    grid = turning(cells).grid
    return distance(p, cell_averages(grid, np.zeros(2), covariance), grid)


# --- fpbook -------------------------------------------------------------------------


def evolving(make: Callable[[int], Problem], steps: int) -> Callable[[int], Run]:
    def setup(cells: int) -> Run:
        problem = make(cells)

        return lambda: evolved(problem, steps)

    return setup


def evolved(problem: Problem, steps: int) -> Array:
    """Density at the end, after so many steps."""
    times, dt = [problem.end], problem.end / steps
    with warnings.catch_warnings():
        # The box of the two weights is the one they were defined with, which every
        # peer has, too: 10^-6 of the mass ends at its walls.
        warnings.simplefilter("ignore", MassAtWallWarning)
        (p,) = problem.equation().evolve(problem.start, times, dt)
    return np.asarray(p)


def _resting(cells: int) -> Run:
    problem = turning(cells)
    return lambda: problem.equation().stationary_density()


def _relaxing(cells: int) -> Run:
    problem = turning(cells)
    return lambda: problem.equation().relaxation_rates(2)


def _error_of_rates(rates: Array, _: int) -> float:
    exact = np.linalg.eigvals(TURNING)
    found = np.asarray(rates)
    return float(
        max(np.abs(found - rate).min() / abs(rate) for rate in exact),
    )


# --- plain references ---------------------------------------------------------------


def plain_generator(problem: Problem) -> Any:
    """Rates of Scharfetter and Gummel with the force on the faces, axis by axis."""
    grid = problem.grid
    index = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    rows, columns, values = [], [], []
    for axis, h in enumerate(grid.spacing):
        axes = list(grid.centers)
        axes[axis] = grid.edges[axis][1:-1]
        faces = np.array(np.meshgrid(*axes, indexing="ij"))
        z = -h * problem.force(faces)[axis] / problem.diffusion
        before = np.delete(index, -1, axis).ravel()
        after = np.delete(index, 0, axis).ravel()
        for source, target, sign in ((before, after, 1), (after, before, -1)):
            rate = (problem.diffusion / h**2 / exprel(sign * z)).ravel()
            rows += [target, source]
            columns += [source, source]
            values += [rate, -rate]
    entries = (
        np.concatenate(values),
        (np.concatenate(rows), np.concatenate(columns)),
    )
    return sparse.coo_array(entries, shape=(index.size, index.size)).tocsc()


def crank_nicolson(make: Callable[[int], Problem], steps: int) -> Callable[[int], Run]:
    """Factorise once as scipy does by itself; two first steps are implicit."""

    def setup(cells: int) -> Run:
        problem = make(cells)

        def run() -> Array:
            A, dt = plain_generator(problem), problem.end / steps
            identity = sparse.eye_array(A.shape[0], format="csc")
            lu = sparse_linalg.splu(identity - dt / 2 * A)
            forward = identity + dt / 2 * A
            p = problem.start.ravel()
            for step in range(steps):
                p = lu.solve(lu.solve(p) if step < 2 else forward @ p)
            return p.reshape(problem.grid.shape)

        return run

    return setup


def exponential(make: Callable[[int], Problem]) -> Callable[[int], Run]:
    def setup(cells: int) -> Run:
        problem = make(cells)

        def run() -> Array:
            A = plain_generator(problem) * problem.end
            p: Array = sparse_linalg.expm_multiply(A, problem.start.ravel())
            return p.reshape(problem.grid.shape)

        return run

    return setup


def _null_vector_by_eigs(cells: int) -> Run:
    problem = turning(cells)

    def run() -> Array:
        A = plain_generator(problem)
        _, vectors = sparse_linalg.eigs(A, 1, sigma=1e-3, v0=np.ones(A.shape[0]))
        p = np.abs(vectors[:, 0].real)
        p = p / p.sum() / problem.grid.cell_volume
        return np.asarray(p).reshape(problem.grid.shape)

    return run


def _rates_by_eigs(cells: int) -> Run:
    problem = turning(cells)

    def run() -> Array:
        A = plain_generator(problem)
        values = sparse_linalg.eigs(
            A, 6, sigma=1e-3, v0=np.ones(A.shape[0]), return_eigenvectors=False
        )
        rates: Array = -values
        return rates[np.argsort(rates.real)[1:3]]

    return run


# --- peers --------------------------------------------------------------------------


def fipy(
    make: Callable[[int], Problem], steps: int, order: int
) -> Callable[[int], Run]:
    """Exponential scheme in space; in time implicit Euler, or Crank-Nicolson by hand.

    FiPy has no implicit convection of second order in time, but an implicit half-step
    extrapolated is a step of Crank and Nicolson. The first two are not extrapolated.
    """

    def setup(cells: int) -> Run:
        import fipy
        from fipy.solvers.scipy import LinearBicgstabSolver, LinearLUSolver

        problem = make(cells)
        grid = problem.grid
        counts = {f"n{x}": n for x, n in zip("xyz", grid.shape, strict=False)}
        widths = {f"d{x}": h for x, h in zip("xyz", grid.spacing, strict=False)}
        meshes = (fipy.Grid1D, fipy.Grid2D, fipy.Grid3D)
        mesh = meshes[len(counts) - 1](**counts, **widths)
        mesh = mesh + [[edge[0]] for edge in grid.edges]
        # The quicker one each: FiPy does not keep a factorisation from step to step.
        solver = (
            LinearLUSolver()
            if len(counts) == 1
            else LinearBicgstabSolver(tolerance=1e-7, precon=None)
        )

        def run() -> Array:
            force = problem.force(mesh.faceCenters.value)
            velocity = fipy.FaceVariable(mesh, "", force, 1)
            convection = fipy.ExponentialConvectionTerm(velocity)
            diffusion = fipy.DiffusionTerm(problem.diffusion)
            equation = fipy.TransientTerm() == diffusion - convection
            density = fipy.CellVariable(mesh, value=problem.start.T.ravel())
            dt = problem.end / steps / order
            for step in range(steps):
                before = density.value.copy()
                equation.solve(density, dt=dt, solver=solver)
                if order == 2 and step < 2:
                    equation.solve(density, dt=dt, solver=solver)
                elif order == 2:
                    density.setValue(2 * density.value - before)
            p: Array = density.value.reshape(grid.shape[::-1]).T
            return p

        return run

    return setup


def pypde(
    make: Callable[[int], Problem],
    solver: str,
    **options: Any,
) -> Callable[[int], Run]:
    """Divergence form with no flux at the walls; compiled before the clock starts."""

    def setup(cells: int) -> Run:
        import pde

        problem = make(cells)
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
        advance = method.make_stepper(start)
        advance(start.copy(), 0, 1e-3 * problem.end)

        def run() -> Array:
            state = start.copy()
            advance(state, 0, problem.end)
            p: Array = state.data
            return p

        return run

    return setup


def squares(sides: Sequence[int], d: int) -> tuple[int, ...]:
    return tuple(side**d for side in sides)


def changcooper(make: Callable[[int], Problem], steps: int) -> Callable[[int], Run]:
    """Chang and Cooper's weights and implicit Euler, on an even grid of our own."""

    def setup(cells: int) -> Run:
        from pychangcooper import ChangCooper

        problem = make(cells)
        (centers,), (edges,) = problem.grid.centers, problem.grid.edges
        (h,) = problem.grid.spacing

        # mypy sees Any where the peer is missing, and a class where it is installed.
        class Even(ChangCooper):  # type: ignore[misc,unused-ignore]
            def _build_grid(self) -> None:
                self._grid, self._half_grid = centers, edges[1:-1]
                # Only terms that are multiplied by zero read it.
                self._step = 1.0
                self._grid2, self._half_grid2 = centers**2, edges[1:-1] ** 2
                self._delta_grid = np.full(cells + 1, h)
                self._delta_grid_bar = np.full(cells, h)

            def _define_terms(self) -> None:
                self._heating_term[:-1] = -problem.force(edges[None, 1:-1])[0]
                self._dispersion_term[:-1] = problem.diffusion

        def run() -> Array:
            solver = Even(cells, centers[-1], problem.end / steps, problem.start)
            for _ in range(steps):
                solver.solve_time_step()
            return np.array(solver.n)

        return run

    return setup


CASES = (
    Case(
        name="density of one weight",
        module="fokker_planck",
        kernel="FokkerPlanck.evolve",
        measures="An Ornstein-Uhlenbeck process of one weight, to time 1.",
        size_name="cells",
        sizes=(400, 800, 1600, 3200, 6400, 12800),
        setup=evolving(one_weight, 75),
        exact="cell averages of the exact Gaussian",
        error_name="L1 distance",
        error=_error_of_one,
        tolerance=2e-4,
        reference=Peer("scipy, splu as it is", crank_nicolson(one_weight, 75)),
        peers=(
            Peer("scipy, expm_multiply", exponential(one_weight), largest=400),
            Peer("FiPy, 75 steps", fipy(one_weight, 75, 2), "fipy", 800),
            Peer(
                "py-pde, LSODA",
                pypde(
                    one_weight,
                    "ScipySolver",
                    method="LSODA",
                    lband=1,
                    uband=1,
                    rtol=3e-4,
                    atol=3e-7,
                ),
                "py-pde",
                largest=400,
            ),
            Peer(
                "pychangcooper, 5000 steps",
                changcooper(one_weight, 5000),
                "pychangcooper",
                largest=400,
            ),
        ),
        target=Target(size=400, seconds=0.005, error=2e-4),
    ),
    Case(
        name="density of two weights",
        module="fokker_planck",
        kernel="FokkerPlanck.evolve",
        measures="Two weights with a product loss, to time 5.",
        size_name="cells",
        sizes=squares((50, 100, 200), 2),
        setup=evolving(two_weights, 50),
        exact="extrapolated from these cells and from halves",
        error_name="L1 distance",
        error=_error_of_two,
        tolerance=1.6e-3,
        order=1.0,
        reference=Peer("scipy, splu as it is", crank_nicolson(two_weights, 50)),
        peers=(
            Peer("scipy, expm_multiply", exponential(two_weights), largest=50**2),
            Peer("FiPy, 50 steps", fipy(two_weights, 50, 2), "fipy", 50**2),
            Peer(
                "py-pde, RK23",
                pypde(two_weights, "ScipySolver", method="RK23", rtol=3e-3, atol=3e-5),
                "py-pde",
                smallest=200**2,
            ),
        ),
        target=Target(size=200**2, seconds=0.6),
    ),
    Case(
        name="density of three weights",
        module="fokker_planck",
        kernel="FokkerPlanck.evolve",
        measures=f"A quadratic loss with tilted axes, {STEPS[3]} steps to time 1.",
        size_name="cells",
        sizes=squares((20, 30, 40, 60), 3),
        setup=evolving(lambda cells: tilted(cells, 3), STEPS[3]),
        exact="cell averages of the exact Gaussian",
        error_name="L1 distance",
        error=_error_of_tilted(3),
        tolerance=6e-3,
        order=2 / 3,
        reference=Peer(
            "scipy, expm_multiply",
            exponential(lambda cells: tilted(cells, 3)),
            largest=30**3,
        ),
        peers=(
            Peer(
                "FiPy, 40 steps",
                fipy(lambda cells: tilted(cells, 3), STEPS[3], 2),
                "fipy",
                20**3,
            ),
        ),
        target=Target(size=60**3, seconds=60.0),
    ),
    Case(
        name="density of four weights",
        module="fokker_planck",
        kernel="FokkerPlanck.evolve",
        measures=f"A quadratic loss with tilted axes, {STEPS[4]} steps to time 0.2.",
        size_name="cells",
        sizes=squares((12, 16, 24, 32), 4),
        setup=evolving(lambda cells: tilted(cells, 4), STEPS[4]),
        exact="cell averages of the exact Gaussian",
        error_name="L1 distance",
        error=_error_of_tilted(4),
        tolerance=1.2e-2,
        order=1 / 2,
        reference=Peer(
            "scipy, expm_multiply",
            exponential(lambda cells: tilted(cells, 4)),
            largest=16**4,
        ),
        # A minute for the fifty steps to time 1.
        target=Target(size=32**4, seconds=12.0),
    ),
    Case(
        name="density at rest",
        module="fokker_planck",
        kernel="FokkerPlanck.stationary_density",
        measures="Two weights under a linear force that has no potential.",
        size_name="cells",
        sizes=squares((32, 48, 64, 96, 128, 192), 2),
        setup=_resting,
        exact="cell averages of the exact Gaussian",
        error_name="L1 distance",
        error=_error_of_rest,
        tolerance=1.5e-4,
        order=1.0,
        reference=Peer("scipy, eigs", _null_vector_by_eigs),
    ),
    Case(
        name="rates of relaxation",
        module="fokker_planck",
        kernel="FokkerPlanck.relaxation_rates",
        measures="The two slowest rates under a linear force that turns.",
        size_name="cells",
        sizes=squares((32, 48, 64, 96, 128), 2),
        setup=_relaxing,
        exact="eigenvalues of the matrix of the force",
        error_name="relative error",
        error=_error_of_rates,
        tolerance=1.2e-3,
        order=1.0,
        reference=Peer("scipy, eigs", _rates_by_eigs),
    ),
)
