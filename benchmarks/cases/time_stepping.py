"""Steps in time: tridiagonal systems along the axes, and one sparse factorisation."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from benchmarks.harness import Case, Peer, Run
from fpbook.finite_volumes import Faces, Grid, face_rates
from fpbook.fokker_planck import FokkerPlanck
from fpbook.time_stepping import lu_step, strang_step

Array = NDArray[np.float64]

DIFFUSION, DT = 0.05, 0.02
WAVES = (3, 2, 1)
"""Half waves in the box along each axis, of the cosine that is damped."""
SOLVES = 10


def _flat(w: Array) -> Array:
    return np.zeros(len(w))


def _box(cells: int, d: int) -> Grid:
    return Grid([-2] * d, [2] * d, round(cells ** (1 / d)))


def _cosine(grid: Grid) -> Array:
    """A constant and a product of cosines, which diffusion only makes smaller."""
    return 1 + _wave(grid)


def _wave(grid: Grid) -> Array:
    angles = [
        np.pi * n * (w + 2) / 4 for n, w in zip(WAVES, grid.centers, strict=False)
    ]
    wave: Array = np.prod(np.meshgrid(*map(np.cos, angles), indexing="ij"), axis=0)
    return wave


def _decay(grid: Grid) -> Array:
    """Rates of the cosine along each axis, of differences between cells."""
    h = np.array(grid.spacing)
    waves = np.array(WAVES[: len(h)])
    rates: Array = DIFFUSION * (2 - 2 * np.cos(np.pi * waves * h / 4)) / h**2
    return rates


def _largest(state: Array, exact: Array) -> float:
    return float(np.abs(state - exact).max())


# --- lines along three axes ---------------------------------------------------------


def _faces(cells: int) -> list[Faces]:
    grid = _box(cells, 3)
    level, spread = np.zeros(grid.shape), (DIFFUSION,) * 3
    return [face_rates(grid, axis, spread, level, _flat, None) for axis in range(3)]


def _error_of_split(state: Array, cells: int) -> float:
    grid = _box(cells, 3)
    half = _decay(grid) * DT / 2 * np.array([0.5, 0.5, 1.0])
    factors = ((1 - half) / (1 + half)) ** [2, 2, 1]
    return _largest(state, 1 + factors.prod() * _wave(grid))


def _split_step(cells: int) -> Run:
    step, p = strang_step(_faces(cells), DT), _cosine(_box(cells, 3))
    return lambda: step(p, False)


def _split_step_by_lu(cells: int) -> Run:
    """One sparse matrix for each axis, factorised before; the lines are its blocks."""
    grid = _box(cells, 3)
    p = _cosine(grid).ravel()
    sweeps = []
    for axis, faces in enumerate(_faces(cells)):
        index = np.arange(p.size).reshape(grid.shape)
        before = np.delete(index, -1, axis).ravel()
        after = np.delete(index, 0, axis).ravel()
        up, down = faces.up.ravel(), faces.down.ravel()
        entries = np.concatenate([up, -up, down, -down])
        rows = np.concatenate([after, before, before, after])
        columns = np.concatenate([before, before, after, after])
        A = sparse.coo_array((entries, (rows, columns)), shape=(p.size,) * 2).tocsc()
        length = DT if axis == 2 else DT / 2
        matrix = sparse.eye_array(p.size, format="csc") - length / 2 * A
        sweeps.append(sparse_linalg.splu(matrix, permc_spec="MMD_AT_PLUS_A"))

    def run() -> Array:
        state = p
        for axis in (0, 1, 2, 1, 0):
            state = 2 * sweeps[axis].solve(state) - state
        return state.reshape(grid.shape)

    return run


def _split_step_by_numba(cells: int) -> Run:
    """A loop over lines, each solved by elimination; faces are turned to the front."""
    solve, grid = _compiled_lines(), _box(cells, 3)
    side = grid.shape[0]
    turned = []
    for axis, faces in enumerate(_faces(cells)):
        half = (DT if axis == 2 else DT / 2) / 2
        turned.append(
            [
                half * np.ascontiguousarray(np.moveaxis(rate, axis, -1))
                for rate in (faces.up, faces.down)
            ]
        )
    p = _cosine(grid)

    def run() -> Array:
        state = p
        for axis in (0, 1, 2, 1, 0):
            up, down = (rate.reshape(-1, side - 1) for rate in turned[axis])
            lines = np.ascontiguousarray(np.moveaxis(state, axis, -1))
            solved = lines.reshape(-1, side).copy()
            solve(solved, up, down)
            moved = 2 * solved.reshape(lines.shape) - lines
            state = np.moveaxis(moved, -1, axis)
        return state

    return run


@cache
def _compiled_lines() -> Any:
    from numba import njit

    @njit
    def solve(lines: Array, up: Array, down: Array) -> None:
        count, cells = lines.shape
        ratio = np.empty(cells)
        for line in range(count):
            pivot = 1 + up[line, 0]
            lines[line, 0] /= pivot
            for j in range(1, cells):
                ratio[j - 1] = -down[line, j - 1] / pivot
                leaving = up[line, j] if j < cells - 1 else 0.0
                pivot = 1 + down[line, j - 1] + leaving + up[line, j - 1] * ratio[j - 1]
                value = lines[line, j] + up[line, j - 1] * lines[line, j - 1]
                lines[line, j] = value / pivot
            for j in range(cells - 2, -1, -1):
                lines[line, j] -= ratio[j] * lines[line, j + 1]

    return solve


# --- one factorisation in two dimensions --------------------------------------------


def _plane(cells: int) -> tuple[sparse.csc_array, Array]:
    grid = _box(cells, 2)
    equation = FokkerPlanck(grid, DIFFUSION, potential=_flat)
    return equation.generator, _cosine(grid)


def _factorised_steps(cells: int) -> Run:
    generator, p = _plane(cells)

    def run() -> Array:
        step, state = lu_step(generator, DT), p
        for _ in range(SOLVES):
            state = step(state, False)
        return state

    return run


def _default_lu_steps(cells: int) -> Run:
    generator, p = _plane(cells)

    def run() -> Array:
        identity = sparse.eye_array(p.size, format="csc")
        lu, state = sparse_linalg.splu(identity - DT / 2 * generator), p.ravel()
        forward = identity + DT / 2 * generator
        for _ in range(SOLVES):
            state = lu.solve(forward @ state)
        return state.reshape(p.shape)

    return run


def _error_in_plane(state: Array, cells: int) -> float:
    grid = _box(cells, 2)
    half = _decay(grid).sum() * DT / 2
    return _largest(state, 1 + ((1 - half) / (1 + half)) ** SOLVES * _wave(grid))


CASES = (
    Case(
        name="split step",
        module="time_stepping",
        kernel="strang_step",
        measures="One step of three weights, whose factors are made before.",
        size_name="cells",
        sizes=(16**3, 24**3, 32**3, 48**3, 64**3),
        setup=_split_step,
        exact="damping of a cosine",
        error_name="largest error",
        error=_error_of_split,
        tolerance=1e-12,
        reference=Peer("scipy, splu of each axis", _split_step_by_lu, largest=48**3),
        peers=(Peer("numba, loop over lines", _split_step_by_numba, "numba"),),
    ),
    Case(
        name="factorised steps",
        module="time_stepping",
        kernel="lu_step",
        measures=f"Factorise for two weights and make {SOLVES} steps.",
        size_name="cells",
        sizes=(32**2, 64**2, 96**2, 128**2, 192**2, 256**2),
        setup=_factorised_steps,
        exact="damping of a cosine",
        error_name="largest error",
        error=_error_in_plane,
        tolerance=1e-12,
        reference=Peer("scipy, splu as it is", _default_lu_steps),
    ),
)
