r"""The Fokker-Planck equation for the density of up to four weights.

Convention: **Ito**. Weights that obey :math:`dw = a(w)\,dt + \sqrt{2 D(w)}\,dB`, with
the noise taken before the step as in stochastic gradient descent, have the density

.. math::
    \partial_t p = -\sum_i \partial_i J_i, \qquad
    J_i = a_i\, p - \sum_j \partial_j (D_{ij}\, p),

with drift :math:`a = -\nabla L` for a potential :math:`L`. Time is training time,
learning rate times step; minibatch noise has :math:`D = \eta C / (2B)`. No flux leaves
the box.

In space the equation is a Markov chain on the cells (:mod:`fpbook.finite_volumes`):
mass is conserved, rates are :math:`\ge 0`, and :math:`e^{-L/T}` is stationary to
rounding. In time it is solved by Crank-Nicolson steps (:mod:`fpbook.time_stepping`).
Both are of second order.

Source: derived in the chapter *From SGD to Fokker-Planck*.
"""

import math
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special
from scipy.linalg import eigh_tridiagonal
from scipy.sparse import linalg as sparse_linalg

from fpbook import progress
from fpbook.finite_volumes import (
    Array,
    Diffusion,
    Faces,
    Field,
    Grid,
    Jumps,
    axis_jumps,
    diffusion_at_nodes,
    face_rates,
    gaussian,
    on_grid,
    read_diffusion,
    sides,
    tensor_jumps,
)
from fpbook.time_stepping import (
    TIME_ERROR,
    Marching,
    Step,
    factorised,
    lu_step,
    strang_step,
)
from fpbook.validation import (
    MASS_TOLERANCE,
    require_callable,
    require_integer_between,
    require_positive,
    require_real,
    require_times,
    require_type,
)

__all__ = [
    "FokkerPlanck",
    "Grid",
    "MassAtWallWarning",
    "NegativeDensityWarning",
    "gaussian",
]

WALL_MASS = 1e-6
"""Mass in the outermost cells above which ``evolve`` warns."""

MEMORY_INFORMATION = Path("/proc/meminfo")
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
CONTAINER_USE = Path("/sys/fs/cgroup/memory.current")


class MassAtWallWarning(UserWarning):
    """The density has reached a wall of the box."""


class NegativeDensityWarning(UserWarning):
    """The time step is so long that the density has become negative."""


class FokkerPlanck:
    r"""The Fokker-Planck equation on a grid, in the Ito convention.

    .. math:: \partial_t p = -\sum_i \partial_i (a_i p)
        + \sum_{ij} \partial_i \partial_j (D_{ij}\, p), \qquad
        a = -\nabla L \text{ or given},

    with no flux through the walls of the box. Source: the module's docstring.

    Parameters
    ----------
    grid
        The box and its cells.
    diffusion
        :math:`D`, in weight squared per time, >= 0: a number; an array (d,), one per
        axis; a callable (n, d) -> (n, d), diagonal and depending on the weights; or,
        for d = 2, a callable (n, 2) -> (n, 2, 2), a symmetric tensor. Where it is
        zero the flux is that of pure transport, of first order.
    potential
        :math:`L`, callable (n, d) -> (n,). Give this or ``drift``, not both.
    drift
        :math:`a`, callable (n, d) -> (n, d), in weight per time.

    Attributes
    ----------
    grid
        The grid.
    generator
        Sparse matrix :math:`A` of :math:`\dot p = A p` on the flattened density,
        (N, N), in 1 / time; for d <= 2.

    Raises
    ------
    ValueError
        If both or neither of ``potential`` and ``drift`` are given; if one of the
        three returns the wrong shape or numbers that are not finite; if the diffusion
        is negative, zero everywhere, or not symmetric; if d >= 3 and the memory that
        ``evolve`` needs is not available (the message has the estimate).
    TypeError
        If ``grid`` is no grid, or ``potential`` or ``drift`` no function.

    Warns
    -----
    UserWarning
        If the eigenvalues of a diffusion tensor differ by more than a factor 100:
        the smaller one is then raised.

    Examples
    --------
    The mean of an Ornstein-Uhlenbeck process falls from 1.5 to 1.5 exp(-0.7) = 0.745:

    >>> grid = Grid(-6, 6, 400)
    >>> equation = FokkerPlanck(grid, 0.5, potential=lambda w: w[:, 0] ** 2 / 2)
    >>> (density,) = equation.evolve(gaussian(grid, 1.5, 0.3), [0.7])
    >>> print(f"{equation.mean(lambda w: w[:, 0], density):.3f}")
    0.745
    """

    def __init__(
        self,
        grid: Grid,
        diffusion: Diffusion,
        potential: Field | None = None,
        drift: Field | None = None,
    ) -> None:
        if (potential is None) == (drift is None):
            given = "neither" if potential is None else "both"
            raise ValueError(f"give either potential or drift, got {given}")
        require_type(Grid, grid=grid)
        if potential is not None:
            require_callable(potential=potential)
        if drift is not None:
            require_callable(drift=drift)
        self.grid = grid
        _refuse_without_memory(grid)
        d = len(grid.shape)
        constant, at_centers = read_diffusion(grid, diffusion)
        self._levels: Array | None = None
        self._temperature: float | None = None
        self._jumps: Jumps | None = None
        self._faces: list[Faces] = []
        if potential is not None:
            self._levels = on_grid("potential", potential, grid.centers, ())
            if constant is not None and np.all(constant == constant[0]):
                self._temperature = float(constant[0])
        if at_centers is not None and at_centers.ndim == d + 2:
            self._jumps = tensor_jumps(grid, at_centers, potential, drift)
            return
        known = self._levels
        if drift is not None:
            known = on_grid("drift", drift, grid.centers, (d,))
        assert known is not None
        for axis in range(d):
            if constant is not None:
                diffusions = (constant[axis],) * 3
            else:
                assert callable(diffusion)
                assert at_centers is not None
                diffusions = diffusion_at_nodes(diffusion, at_centers, grid, axis)
            self._faces.append(
                face_rates(grid, axis, diffusions, known, potential, drift)
            )

    @property
    def generator(self) -> sparse.csc_array:
        d = len(self.grid.shape)
        if d > 2:
            raise ValueError(f"generator is for d <= 2, the grid has d = {d}")
        jumps = self._jumps or axis_jumps(self.grid, self._faces)
        cells = math.prod(self.grid.shape)
        leaving = np.bincount(jumps.source, jumps.rate, cells)
        everywhere = np.arange(cells)
        return sparse.csc_array(
            (
                np.concatenate([jumps.rate, -leaving]),
                (
                    np.concatenate([jumps.target, everywhere]),
                    np.concatenate([jumps.source, everywhere]),
                ),
            ),
            shape=(cells, cells),
        )

    def evolve(
        self, density: Array, times: ArrayLike, dt: float | None = None
    ) -> Array:
        r"""Evolve a density from time 0.

        Parameters
        ----------
        density
            Cell averages at time 0, shape ``grid.shape``: >= 0 and of mass 1.
        times
            Training times to return, >= 0 and increasing, shape (m,).
        dt
            Time step, > 0; between two times it is shortened to divide their
            distance. With None the steps are chosen: each pair of steps is compared
            with one of twice the length, and halved or doubled so that the difference
            (a third of it, the error of a method of second order; all of the first
            one) is at most ``TIME_ERROR`` = 3e-6 in L1. Since the evolution contracts
            in L1, errors of the past do not grow: the error of the result is at most
            their sum, and in practice a few times the error of one pair.

        Returns
        -------
        array
            Cell averages at the times, shape (m, \*grid.shape).

        Raises
        ------
        ValueError
            If the density has the wrong shape, is negative, not finite or not of
            mass 1 within 1e-6; if the times are negative or do not increase; if
            ``dt`` is not > 0.
        FloatingPointError
            If the density is not finite after a step, or steps of a billionth of the
            run are still too long.

        Warns
        -----
        MassAtWallWarning
            If more than 1e-6 of the mass is in the cells at a wall.
        NegativeDensityWarning
            If more than 1e-6 of the mass is below zero: ``dt`` is too long.
        """
        start = self._checked(density)
        moments = require_times(times)
        if dt is not None:
            require_positive(dt=dt)
        result = np.empty((len(moments), *self.grid.shape))
        with progress.bar(float(moments[-1]), "Fokker-Planck") as bar:
            march = Marching(self._make_step, self.grid.cell_volume, bar)
            states = (
                march.chosen_steps(start, moments, self._first_dt(start))
                if dt is None
                else march.equal_steps(start, moments, dt)
            )
            for number, state in enumerate(states):
                if not np.all(np.isfinite(state)):
                    raise FloatingPointError(
                        f"density is not finite at time {moments[number]:g}"
                    )
                result[number] = state
        self._warn(result, moments)
        return result

    def _first_dt(self, density: Array) -> float:
        """Step with about the allowed error of the start, ``dt^2 |A A p| / 2``."""
        bending = self._velocity(self._velocity(density))
        size = float(np.abs(bending).sum()) * self.grid.cell_volume
        if not math.isfinite(size):
            raise FloatingPointError("density changes too fast at time 0 for any step")
        return math.sqrt(2 * TIME_ERROR / max(size, TIME_ERROR))

    def _velocity(self, density: Array) -> Array:
        """Rate of change A p."""
        if self._jumps is not None:
            changed: Array = self.generator @ density.ravel()
            return changed.reshape(density.shape)
        change = np.zeros_like(density)
        for axis, faces in enumerate(self._faces):
            left, right = sides(axis, density.ndim)
            flux = faces.up * density[left] - faces.down * density[right]
            change[left] -= flux
            change[right] += flux
        return change

    def _make_step(self, dt: float) -> "Step":
        if len(self.grid.shape) <= 2:
            return lu_step(self.generator, dt)
        return strang_step(self._faces, dt)

    def _checked(self, density: Array) -> Array:
        given = require_real("density", density)
        shape = self.grid.shape
        if given.shape != shape:
            raise ValueError(
                f"density must have the shape {shape} of the grid, got {given.shape}"
            )
        if not np.all(np.isfinite(given)):
            raise ValueError("density must be finite, got values that are not")
        below = -np.minimum(given, 0).sum() * self.grid.cell_volume
        if below > MASS_TOLERANCE:
            raise ValueError(f"density must be >= 0, got a mass of {below:.2g} below 0")
        mass = given.sum() * self.grid.cell_volume
        if abs(mass - 1) > MASS_TOLERANCE:
            raise ValueError(
                f"density must have mass 1 (within {MASS_TOLERANCE:g}), got "
                f"{mass:.8g}; a larger box loses less"
            )
        return given

    def _warn(self, result: Array, moments: Array) -> None:
        volume = self.grid.cell_volume
        worst, told = WALL_MASS, ""
        for axis, edges in enumerate(self.grid.edges):
            for cell, wall in ((0, edges[0]), (-1, edges[-1])):
                layer = np.take(result, cell, axis=axis + 1)
                mass = layer.reshape(len(moments), -1).sum(axis=1) * volume
                if mass.max() > worst:
                    worst = float(mass.max())
                    told = (
                        f"{worst:.2g} of the mass is in the cells at the wall "
                        f"w[{axis}] = {wall:g} at time {moments[mass.argmax()]:g}; "
                        "a larger box avoids it"
                    )
        if told:
            warnings.warn(told, MassAtWallWarning, stacklevel=3)
        below = -np.minimum(result, 0).reshape(len(moments), -1).sum(axis=1) * volume
        if below.max() > MASS_TOLERANCE:
            warnings.warn(
                f"a mass of {below.max():.2g} is below zero at time "
                f"{moments[below.argmax()]:g}; a shorter dt avoids it",
                NegativeDensityWarning,
                stacklevel=3,
            )

    def stationary_density(self) -> Array:
        r"""Density that no longer changes.

        With a potential and one temperature :math:`D = T` it is :math:`e^{-L/T}` at
        the centres; in one dimension :math:`e^{-\sum z}` over the faces; otherwise,
        for d = 2, the null vector of the generator. That a density can be normalised
        only because the box is finite is not noticed.

        Returns
        -------
        array
            Cell averages of mass 1, shape ``grid.shape``.

        Raises
        ------
        ValueError
            For d >= 3 without a potential and one temperature: evolve for a long
            time instead.
        FloatingPointError
            If the null vector is not found.
        """
        d = len(self.grid.shape)
        if self._temperature is not None:
            assert self._levels is not None
            return self._normalised(-self._levels / self._temperature)
        if d == 1:
            steps = np.cumsum(self._faces[0].z)
            return self._normalised(np.concatenate([[0.0], -steps]))
        if d > 2:
            raise ValueError(
                "stationary_density without a potential and one temperature is for "
                f"d <= 2, the grid has d = {d}; evolve for a long time instead"
            )
        return self._normalised(np.log(self._null_vector()))

    def _normalised(self, logarithm: Array) -> Array:
        weights: Array = np.exp(logarithm - logarithm.max())
        weights /= weights.sum() * self.grid.cell_volume
        return weights

    def _null_vector(self) -> Array:
        """Find it by inverse iteration, which keeps it positive."""
        generator = self.generator
        fastest = float(np.abs(generator.diagonal()).max())
        identity = sparse.eye_array(generator.shape[0], format="csc")
        lu = factorised(identity - generator / (1e-10 * fastest))
        # Two starts: where parts of the box hardly exchange mass they do not meet.
        vectors = np.linspace([1.0, 0.0], [1.0, 2.0], generator.shape[0])
        for _ in range(100):
            vectors = lu.solve(vectors)
            vectors /= vectors.sum(axis=0)
            change = float(np.abs(vectors[:, 0] - vectors[:, 1]).sum())
            if change < 1e-12:
                positive: Array = np.maximum(vectors[:, 0], np.finfo(float).tiny)
                return positive.reshape(self.grid.shape)
        raise FloatingPointError(
            "stationary_density is not found to 1e-12, results from two starts differ "
            f"by {change:.1e}"
        )

    def current(self, density: Array) -> Array:
        r"""Probability current :math:`J` at the cell centres.

        The mean of the fluxes through the two faces of a cell; for a diffusion tensor
        half of the flow of the jumps that leave the cell and arrive there.

        Parameters
        ----------
        density
            Cell averages, shape ``grid.shape``.

        Returns
        -------
        array
            Current in density times weight per time, shape (d, \*grid.shape).

        Raises
        ------
        ValueError
            If the density has the wrong shape or is not finite.
        """
        given = self._shaped(density, leading=False)
        flow = np.zeros((len(self.grid.shape), *self.grid.shape))
        if self._jumps is not None:
            jumps = self._jumps
            carried = jumps.rate * given.ravel()[jumps.source] / 2
            for axis in range(2):
                moved = carried * jumps.displacement[:, axis]
                both = np.bincount(jumps.source, moved, given.size)
                both += np.bincount(jumps.target, moved, given.size)
                flow[axis] = both.reshape(given.shape)
            return flow
        for axis, faces in enumerate(self._faces):
            left, right = sides(axis, given.ndim)
            h = self.grid.spacing[axis]
            flux = h * (faces.up * given[left] - faces.down * given[right])
            flow[axis][left] += flux / 2
            flow[axis][right] += flux / 2
        return flow

    def mean(self, observable: Field | Array, density: Array) -> float | Array:
        r"""Mean of an observable, :math:`\sum_i f(w_i)\, p_i h^d`.

        Parameters
        ----------
        observable
            Callable (n, d) -> (n,), or its values at the centres, ``grid.shape``.
        density
            Cell averages, shape ``grid.shape``; leading axes (times) are kept.

        Returns
        -------
        float or array
            The mean, one per leading entry of ``density``.

        Raises
        ------
        ValueError
            If a shape does not fit or a number is not finite.
        """
        given = self._shaped(density, leading=True)
        if callable(observable):
            values = on_grid("observable", observable, self.grid.centers, ())
        else:
            values = self._shaped(observable, leading=False, name="observable")
        return self._integral(given * values)

    def free_energy(self, density: Array) -> float | Array:
        r"""Free energy :math:`F = \langle L \rangle + T \langle \log p \rangle`.

        It never increases along :meth:`evolve`, and is least for the stationary
        density, where it is :math:`-T \log \sum_i e^{-L_i / T} h^d`.

        Parameters
        ----------
        density
            Cell averages, shape ``grid.shape``; leading axes (times) are kept.

        Returns
        -------
        float or array
            Free energy in the unit of :math:`L`, one per leading entry.

        Raises
        ------
        ValueError
            If there is no potential or more than one temperature, a shape does not
            fit, or more than a mass of 1e-6 is below zero.
        """
        if self._temperature is None or self._levels is None:
            raise ValueError(
                "free_energy needs a potential and a diffusion that is one number"
            )
        given = self._shaped(density, leading=True)
        below = -np.min(self._integral(np.minimum(given, 0)))
        if below > MASS_TOLERANCE:
            raise ValueError(f"density must be >= 0, got a mass of {below:.2g} below 0")
        entropy = special.xlogy(given, np.maximum(given, np.finfo(float).tiny))
        return self._integral(given * self._levels + self._temperature * entropy)

    def _shaped(self, values: ArrayLike, leading: bool, name: str = "density") -> Array:
        given = require_real(name, values)
        shape, d = self.grid.shape, len(self.grid.shape)
        if given.shape[-d:] != shape or (given.ndim > d and not leading):
            more = " (after any leading axes)" if leading else ""
            raise ValueError(
                f"{name} must have the shape {shape} of the grid{more}, "
                f"got {given.shape}"
            )
        if not given.size or not np.all(np.isfinite(given)):
            raise ValueError(f"{name} must be finite, got {values!r}")
        return given

    def _integral(self, values: Array) -> float | Array:
        d = len(self.grid.shape)
        total: Array = values.sum(axis=tuple(range(-d, 0))) * self.grid.cell_volume
        return total if total.ndim else float(total)

    def relaxation_rates(self, k: int) -> NDArray[Any]:
        r"""The slowest rates at which densities approach the stationary one.

        Eigenvalues of :math:`-A` of smallest real part, without the eigenvalue 0; for
        d <= 2. They are real with a potential and one temperature, and for d = 1;
        otherwise they are the slowest among the ``4 k + 8`` nearest to zero, so that
        modes that turn many times before they decay can be missed.

        Parameters
        ----------
        k
            How many, >= 1 and at most N - 3.

        Returns
        -------
        array
            Rates in 1 / time, increasing in their real parts, shape (k,); complex
            where probability circulates.

        Raises
        ------
        ValueError
            If d > 2 or ``k`` is out of range.
        """
        cells = math.prod(self.grid.shape)
        require_integer_between(1, cells - 3, k=k)
        generator = self.generator
        if len(self.grid.shape) == 1:
            up, down = self._faces[0].up, self._faces[0].down
            values = eigh_tridiagonal(
                generator.diagonal(),
                np.sqrt(up * down),
                eigvals_only=True,
                select="i",
                select_range=(cells - 1 - k, cells - 1),
            )
            return _slowest(-values, k)
        shift = 1e-6 * float(np.abs(generator.diagonal()).max())
        # Without it the iteration would start at random, differently in each run.
        start = np.random.default_rng(0).normal(size=cells)
        if self._temperature is not None:
            # Detailed balance: the square roots of A_ij A_ji make a symmetric matrix.
            symmetric = generator.multiply(generator.T).sqrt()
            symmetric.setdiag(generator.diagonal())
            values = sparse_linalg.eigsh(
                symmetric.tocsc(),
                k + 1,
                sigma=shift,
                v0=start,
                return_eigenvectors=False,
            )
            return _slowest(-values, k)
        # Modes that turn fast are slow but not near zero: look at more than k.
        values = sparse_linalg.eigs(
            generator,
            min(4 * k + 8, cells - 2),
            sigma=shift,
            v0=start,
            return_eigenvectors=False,
        )
        return _slowest(-values, k)


def _slowest(rates: NDArray[Any], k: int) -> NDArray[Any]:
    """Leave out the rate 0 and sort by the real part; make rates real if they are."""
    ordered = rates[np.lexsort((rates.imag, rates.real))]
    if np.abs(ordered.imag).max() <= 1e-9 * np.abs(ordered).max():
        # Rates far below the fastest one are zero but for rounding, of either sign.
        ordered = np.maximum(ordered.real, 0.0)
    return ordered[1 : k + 1]


def _refuse_without_memory(grid: Grid) -> None:
    """Ask for what a run with chosen steps takes, before anything is computed."""
    d = len(grid.shape)
    if d < 3:
        return
    # Doubles a cell: two rates and two times three factors an axis, ten for the rest.
    needed = 8 * (8 * d + 10) * math.prod(grid.shape)
    available = _available_memory()
    if needed > available:
        raise ValueError(
            f"grid of {' x '.join(map(str, grid.shape))} cells needs about "
            f"{needed / 1e9:.3g} GB of memory, available are {available / 1e9:.3g} GB; "
            "use fewer cells"
        )


def _available_memory() -> float:
    """Bytes that this process may still use, in a container or not."""
    available = math.inf
    if MEMORY_INFORMATION.exists():
        lines = dict(
            line.split(":", 1) for line in MEMORY_INFORMATION.read_text().splitlines()
        )
        available = 1024 * float(lines["MemAvailable"].split()[0])
    elif "SC_PHYS_PAGES" in os.sysconf_names:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if CONTAINER_LIMIT.exists() and CONTAINER_USE.exists():
        limit = CONTAINER_LIMIT.read_text().strip()
        if limit != "max":
            available = min(available, int(limit) - int(CONTAINER_USE.read_text()))
    return available
