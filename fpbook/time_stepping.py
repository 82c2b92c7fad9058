r"""Time stepping of :math:`\dot p = A p` for the rates of :mod:`fpbook.finite_volumes`.

A step of length :math:`\tau` is that of Crank and Nicolson,

.. math:: p \to (1 - \tfrac{\tau}{2} A)^{-1} (1 + \tfrac{\tau}{2} A)\, p
    = 2\, (1 - \tfrac{\tau}{2} A)^{-1} p - p ,

for the price of one implicit step. The first two steps are two implicit Euler
half-steps each, :math:`(1 - \frac{\tau}{2} A)^{-2} p` with the same matrix, which damp
what a rough start leaves in the fast modes (Rannacher). In up to two dimensions the
matrix is factorised as a whole; in three and four, Strang splitting

.. math:: e^{\tau A} \approx e^{\tau A_1 / 2} e^{\tau A_2 / 2} \cdots e^{\tau A_d}
    \cdots e^{\tau A_2 / 2} e^{\tau A_1 / 2}

leaves tridiagonal systems along the axes, solved for all lines at once. Both are of
second order. A density that is stationary along every axis stays so to rounding.

Source: Rannacher, Numer. Math. 43, 309 (1984); Strang, SIAM J. Numer. Anal. 5, 506
(1968).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack
from scipy.sparse import linalg as sparse_linalg

from fpbook import progress
from fpbook.finite_volumes import Faces
from fpbook.validation import require_non_negative, require_type

Array = NDArray[np.float64]

TIME_ERROR = 3e-6
"""Error in L1 that ``evolve`` allows a pair of steps when it chooses them."""
SMOOTHING_STEPS = 2
SHORTEST_STEP = 1e-9

# --- steps in time ------------------------------------------------------------------


class Step(Protocol):
    """One step of fixed length: Crank-Nicolson, or two implicit Euler half-steps."""

    def __call__(self, density: Array, smooth: bool) -> Array: ...


def factorised(matrix: Any) -> Any:
    """Sparse LU; order and panels are those that a five-point stencil likes best."""
    return sparse_linalg.splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        panel_size=1,
        options={"SymmetricMode": True},
    )


def lu_step(generator: sparse.csc_array, dt: float) -> Step:
    """Make the step for the whole matrix; best in up to two dimensions.

    Parameters
    ----------
    generator
        Rates, sparse, shape (N, N).
    dt
        Length of the step, a time >= 0.

    Returns
    -------
    Step
        Function of a density with N cells.

    Raises
    ------
    ValueError
        If the generator is not square or not finite, or ``dt`` out of range.
    TypeError
        If the generator is no sparse array.
    """
    require_type(sparse.sparray, generator=generator)
    require_non_negative(dt=dt)
    n = generator.shape[0]
    if generator.shape != (n, n) or not np.all(np.isfinite(generator.data)):
        raise ValueError(
            f"generator must be finite and square, got shape {generator.shape}"
        )
    solve = _implicit_solver(generator, dt / 2)

    def step(density: Array, smooth: bool) -> Array:
        flat = density.ravel()
        solved = solve(flat)
        if smooth:
            solved = solve(solved)
        else:
            solved *= 2
            solved -= flat
        result: Array = solved.reshape(density.shape)
        return result

    return step


LARGEST_LEVEL = 1000.0
"""Range of the logarithm of a scale that float64 can hold, and products with it."""


def _implicit_solver(
    generator: sparse.csc_array, time: float
) -> Callable[[Array], Array]:
    """Factorise ``1 - time * generator``; what is returned makes new arrays."""
    back, stay, ahead = (generator.diagonal(k) for k in (1, 0, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.append(0, np.cumsum(np.log(ahead / back)) / 2)
    entries = sum(np.count_nonzero(band) for band in (back, stay, ahead))
    # Not a number where there is no way back.
    if entries < generator.nnz or not np.ptp(level) < LARGEST_LEVEL:
        identity = sparse.eye_array(generator.shape[0], format="csc")
        solve: Callable[[Array], Array] = factorised(identity - time * generator).solve
        return solve
    # One dimension: symmetric in units of the root of the stationary density, where
    # a step takes 0.6 times as long.
    scale = np.exp(level - (level.max() + level.min()) / 2)
    *factors, failed = lapack.dpttrf(1 - time * stay, -time * np.sqrt(ahead * back))
    if failed:
        raise FloatingPointError(f"an implicit step of {time} has no positive matrix")
    return lambda density: lapack.dpttrs(*factors, density / scale)[0] * scale


def strang_step(faces: Sequence[Faces], dt: float) -> Step:
    """Make the step along one axis after the other.

    Parameters
    ----------
    faces
        Rates across the inner faces of each axis.
    dt
        Length of the step, a time >= 0.

    Returns
    -------
    Step
        Function of a density on the grid.

    Raises
    ------
    ValueError
        If there are no faces or ``dt`` is out of range.
    TypeError
        If the faces are no sequence of them.
    """
    require_type(Sequence, faces=faces)
    require_non_negative(dt=dt)
    if not faces:
        raise ValueError("faces must be given for one axis at least, got none")
    for of_axis in faces:
        require_type(Faces, faces=of_axis)
    last = len(faces) - 1
    sweeps = [
        _sweep(axis, dt if axis == last else dt / 2, faces[axis], axis == last)
        for axis in range(last + 1)
    ]
    order = [*sweeps, *sweeps[-2::-1]]

    def step(density: Array, smooth: bool) -> Array:
        for sweep in order:
            density = sweep(density, smooth)
        return density

    return step


def _sweep(axis: int, dt: float, faces: Faces, is_last: bool) -> Step:
    """Step along one axis: a tridiagonal system per line, all lines at once.

    The factors of the elimination are positive, so that no digit cancels.
    """
    up = np.moveaxis(faces.up, axis, 0) * (dt / 2)
    down = np.moveaxis(faces.down, axis, 0) * (dt / 2)
    cells = len(up) + 1
    inverse = np.empty((cells, *up.shape[1:]))
    back = np.empty(up.shape)
    staying = np.ones(up.shape[1:])
    for j in range(cells - 1):
        inverse[j] = 1 / (staying + up[j])
        back[j] = down[j] * inverse[j]
        staying = 1 + back[j] * staying
    inverse[-1] = 1 / staying
    forward = np.ascontiguousarray(up)

    def solve(lines: Array) -> None:
        moved = np.empty(lines.shape[1:])
        lines[0] *= inverse[0]
        for j in range(1, cells):
            np.multiply(lines[j - 1], forward[j - 1], out=moved)
            lines[j] += moved
            lines[j] *= inverse[j]
        for j in range(cells - 2, -1, -1):
            np.multiply(lines[j + 1], back[j], out=moved)
            lines[j] += moved

    def step(density: Array, smooth: bool) -> Array:
        lines = np.moveaxis(density, axis, 0)
        # Along the last axis the lines are not contiguous in memory: rotate them.
        work = np.array(lines, order="C" if is_last else "K")
        solve(work)
        if smooth:
            solve(work)
        else:
            work *= 2
            work -= lines
        return np.ascontiguousarray(np.moveaxis(work, 0, axis))

    return step


class Marching:
    """Repeat steps from time to time; keeps the two steps that were made last."""

    def __init__(
        self, make_step: Callable[[float], Step], volume: float, bar: progress.Bar
    ) -> None:
        self._make_step = make_step
        self._volume = volume
        self._bar = bar
        self._made: dict[str, Step] = {}

    def _step(self, dt: float) -> Step:
        key = f"{dt:.10e}"
        step = self._made.pop(key, None)
        if step is None:
            while len(self._made) > 1:
                del self._made[next(iter(self._made))]
            step = self._make_step(dt)
        self._made[key] = step
        return step

    def equal_steps(self, state: Array, moments: Array, dt: float) -> Iterator[Array]:
        time, taken = 0.0, 0
        for moment in moments:
            count = math.ceil((moment - time) / dt * (1 - 1e-12))
            for _ in range(count):
                length = (moment - time) / count
                state = self._step(length)(state, taken < SMOOTHING_STEPS)
                taken += 1
                self._bar.update(length)
            time = moment
            yield state

    def chosen_steps(
        self, state: Array, moments: Array, first_dt: float
    ) -> Iterator[Array]:
        time, dt, smooth = 0.0, first_dt, True
        for moment in moments:
            span = float(moment - time)
            # In units of the span steps are powers of two: their sums are exact.
            done, part = 0.0, 2.0 ** -max(1, math.ceil(math.log2(max(span, dt) / dt)))
            while span and done < 1:
                step = self._step(part * span)
                fine = step(step(state, smooth), smooth)
                coarse = self._step(2 * part * span)(state, smooth)
                error = float(np.abs(fine - coarse).sum()) * self._volume
                if not smooth:
                    error /= 3
                if error > TIME_ERROR:
                    part /= 2
                    if part * span < SHORTEST_STEP * float(moments[-1]):
                        raise FloatingPointError(
                            f"steps of {part * span:.1e} at time "
                            f"{time + done * span:g} are still too long"
                        )
                    continue
                state, smooth = fine, False
                done += 2 * part
                self._bar.update(2 * part * span)
                fits = (done / (4 * part)) % 1 == 0
                if fits and error < TIME_ERROR / 12:
                    part *= 2
            time, dt = float(moment), part * span or dt
            yield state
