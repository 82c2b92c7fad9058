r"""Clouds of tiny networks, and their distance from a density.

A cloud is :math:`M` independent networks with :math:`d` weights each, the *walkers*, an
array of shape (M, d). It moves either by the Ito equation

.. math:: dx = a(x)\, dt + \sqrt{2 D(x)}\, dW

(:func:`langevin_ensemble`), whose density :math:`p` obeys the Fokker-Planck equation
:math:`\partial_t p = -\partial_i (a_i p) + \partial_i \partial_j (D_{ij} p)`, or by
true stochastic gradient descent (SGD) with a minibatch per network and step
(:func:`sgd_ensemble`). With the gradient covariance :math:`C / B` of a minibatch of
:math:`B` samples, SGD is close to the Ito equation with :math:`a = -\nabla L` and
:math:`D = \eta C / (2B)`, at training time :math:`t = \eta \cdot \text{step}`; gradient
noise of temperature :math:`T` is :math:`D = T` times the identity. The diffusion is
evaluated before the step, as a gradient is: Ito, not Stratonovich.

Walkers are computed in chunks. A chunk has its own random stream, spawned from the
seed, so that a result depends on the seed and the size of the chunks but not on the
number of jobs. ``jobs`` other than 1 gives the chunks to ``joblib``: to the processes
of this computer, or to those of a cluster whose ``dask.distributed`` client is open, ::

    with joblib.parallel_config(backend="dask"):
        walkers = langevin_ensemble(drift, 0.1, x0, 0.01, 500, seed=0, jobs=-1)

The distances compare walkers with a density given by its averages over the cells of a
grid. They do not vanish even for walkers drawn from that very density: each comes with
this statistical floor, which falls as :math:`1 / \sqrt M`.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.stats import binom

from fpbook import progress
from fpbook.finite_volumes import Grid
from fpbook.validation import (
    LARGEST,
    require_callable,
    require_density,
    require_edges,
    require_integer,
    require_jobs,
    require_positive,
    require_real,
    require_seed,
    require_snapshots,
    require_type,
    require_walkers,
)

Array = NDArray[np.float64]
Field = Callable[[Array], Array]
Draw = Callable[[np.random.Generator, int, int], Array]

# Walkers that move together: enough to hide the cost of a Python call, few enough for
# the cache of a processor and for 10^6 walkers in little more memory than their result.
CHUNK = 2**12


# --- ensembles ----------------------------------------------------------------------


def langevin_ensemble(
    drift: Field,
    diffusion: float | Array | Field,
    x0: Array,
    dt: float,
    steps: int,
    seed: int,
    *,
    snapshots: Sequence[int] | None = None,
    chunk: int = CHUNK,
    jobs: int = 1,
) -> Array:
    r"""Walkers of an Ito equation, by the Euler-Maruyama scheme.

    .. math::
        x_{k+1} = x_k + a(x_k)\, \Delta t + \sqrt{2 D(x_k)\, \Delta t}\; \xi_k,
        \qquad \xi_k \sim N(0, 1)

    independently for every walker. Averages are off by :math:`O(\Delta t)`. Source:
    derived in the chapter *From SGD to Fokker-Planck*.

    Parameters
    ----------
    drift
        :math:`a`, from walkers (n, d) to velocities (n, d).
    diffusion
        :math:`D \ge 0`, in weight squared / time: a number; an array (d,), the diagonal
        of a constant matrix; or a function of walkers (n, d) that returns the diagonals
        (n, d) or the whole symmetric matrices (n, d, d). A matrix may be singular, as
        the rank-one noise of SGD is; one whose smallest eigenvalue is zero up to a
        relative rounding of 1e-14 counts as singular.
    x0
        Starts, shape (M, d).
    dt
        :math:`\Delta t > 0`, a time.
    steps
        Number of steps, >= 0.
    seed
        Seed of all random numbers, >= 0.
    snapshots
        Step counts at which to keep the walkers, increasing, from 0 to ``steps``; the
        run ends with the last. None for ``steps`` only.
    chunk
        Walkers that move together, >= 1.
    jobs
        1 for this process, n for n processes, -1 for all there are.

    Returns
    -------
    array
        Walkers, shape (len(snapshots), M, d).

    Raises
    ------
    ValueError
        If an argument is out of range, a function returns an array of another shape, or
        a diffusion is not symmetric and positive semidefinite.
    FloatingPointError
        If walkers are not finite; names the step and how many of their chunk.
    """
    require_callable(drift=drift)
    require_positive(dt=dt)
    start = require_walkers("x0", x0)
    if not callable(diffusion):
        _check_constant_diffusion(diffusion, start.shape[1])
    move = partial(_euler_maruyama, drift, diffusion, dt)
    return move_ensemble(move, start, steps, seed, snapshots, chunk, jobs, "Langevin")


Move = Callable[[Array, np.random.Generator], Iterator[None]]

# Rounding in a matrix, relative to its entries: of the formula that computes them, and
# of a pivot that would be zero without.
SYMMETRY = 1e-12
SINGULAR = 1e-14


def _euler_maruyama(
    drift: Field,
    diffusion: float | Array | Field,
    dt: float,
    walkers: Array,
    rng: np.random.Generator,
) -> Iterator[None]:
    """Move the walkers in place, one step per item."""
    seen = _read_only(walkers)
    noise, shift = np.empty_like(walkers), np.empty_like(walkers)
    if not callable(diffusion):
        constant_scale = np.sqrt(2 * dt * np.asarray(diffusion))
    while True:
        rng.standard_normal(out=noise)
        if callable(diffusion):
            _scale_noise(noise, diffusion(seen), 2 * dt)
        else:
            noise *= constant_scale
        velocity = drift(seen)
        _require_shape("drift", velocity, walkers.shape)
        np.multiply(velocity, dt, out=shift)
        walkers += shift
        walkers += noise
        yield


def _read_only(walkers: Array) -> Array:
    """View that a caller's function cannot write to."""
    view = walkers.view()
    view.flags.writeable = False
    return view


def _scale_noise(noise: Array, diffusion: Array, factor: float) -> None:
    """Multiply normals (n, d) by a root of ``factor * diffusion``, in place."""
    n, d = noise.shape
    _require_shape("diffusion", diffusion, (n, d), (n, d, d))
    if np.ndim(diffusion) == 2:
        if np.any(np.less(diffusion, 0)):
            raise ValueError(f"diffusion must be >= 0, got {np.min(diffusion)}")
        noise *= np.sqrt(np.multiply(factor, diffusion))
    else:
        matrices = np.array(np.moveaxis(diffusion, 0, -1), np.float64, order="C")
        matrices *= factor
        _correlate_noise(noise, matrices)


def _correlate_noise(noise: Array, rest: Array) -> None:
    """Multiply normals (n, d) by roots of matrices (d, d, n), overwriting both.

    The roots are lower triangular, ``R R^T = D``, by Cholesky's algorithm for all
    matrices at once. A pivot that is zero up to rounding leaves a column of zeros: the
    exact root of a singular matrix, so that rank-one noise stays on its line.
    """
    largest = np.abs(rest).max(axis=(0, 1))
    if np.any(np.abs(rest - rest.swapaxes(0, 1)) > SYMMETRY * largest):
        raise ValueError("diffusion must be symmetric, got a matrix that is not")
    diagonal = np.einsum("iin->in", rest).copy()
    normals = noise.T.copy()
    noise[:] = 0
    for j in range(len(rest)):
        pivot, below = rest[j, j], rest[j:, j]
        zero = np.isfinite(pivot) & (pivot <= SINGULAR * diagonal[j])
        # In a semidefinite matrix D_ij^2 <= D_ii D_jj: nothing is left below a zero.
        if np.any(zero & (below**2 > SINGULAR * diagonal[j] * diagonal[j:])):
            raise ValueError(
                "diffusion must be positive semidefinite, got a matrix that is not"
            )
        column = np.where(zero, 0.0, below / np.sqrt(pivot))
        noise[:, j:] += (column * normals[j]).T
        rest[j + 1 :, j + 1 :] -= column[1:, np.newaxis] * column[1:]


def _require_shape(name: str, values: Array, *allowed: tuple[int, ...]) -> None:
    if np.shape(values) not in allowed:
        shapes = " or ".join(map(str, allowed))
        raise ValueError(
            f"{name} must return an array of shape {shapes}, got {np.shape(values)}"
        )


def _check_constant_diffusion(diffusion: float | Array, d: int) -> None:
    values = require_real("diffusion", diffusion)
    if (
        values.shape not in ((), (d,))
        or not np.all(np.abs(values) <= LARGEST)
        or np.any(values < 0)
    ):
        raise ValueError(
            f"diffusion must be a number or an array ({d},), finite and >= 0, "
            f"or a function, got {diffusion}"
        )


def sgd_ensemble(
    gradient: Callable[[Array, Array], Array],
    data: Array | Draw,
    x0: Array,
    learning_rate: float,
    batch_size: int,
    steps: int,
    seed: int,
    *,
    snapshots: Sequence[int] | None = None,
    chunk: int = CHUNK,
    jobs: int = 1,
) -> Array:
    r"""Independent networks under SGD, each with minibatches of its own.

    .. math:: w_{k+1} = w_k - \eta\, g_B(w_k), \qquad
        g_B(w) = \frac1B \sum_{b=1}^{B} \nabla \ell(w, z_b)

    Samples :math:`z_b` are drawn with replacement: the covariance of :math:`g_B` is
    exactly :math:`C / B`, with the covariance :math:`C` of the gradient of one sample.
    Minibatches shared by the networks would move the cloud as a whole, and its density
    would not obey a Fokker-Planck equation. Source: derived in the chapter *From SGD to
    Fokker-Planck*.

    Parameters
    ----------
    gradient
        :math:`g_B`, from networks (n, d) and one minibatch each, (n, B, ...), to their
        mean gradients (n, d). Weight decay belongs inside.
    data
        All samples of a training set, shape (N, ...); or, for a population, a function
        ``draw(rng, n, batch_size)`` that returns fresh samples, shape (n, batch_size,
        ...), from the random generator it is given.
    x0
        Starts, shape (M, d).
    learning_rate
        :math:`\eta > 0`. Step k is training time ``k * learning_rate``.
    batch_size
        :math:`B \ge 1`.
    steps
        Number of steps, >= 0.
    seed
        Seed of all random numbers, >= 0.
    snapshots
        Step counts at which to keep the networks, increasing, from 0 to ``steps``; the
        run ends with the last. None for ``steps`` only.
    chunk
        Networks that move together, >= 1; so many minibatches are in memory at a time.
    jobs
        1 for this process, n for n processes, -1 for all there are.

    Returns
    -------
    array
        Networks, shape (len(snapshots), M, d).

    Raises
    ------
    ValueError
        If an argument is out of range, or a function returns an array of another shape.
    FloatingPointError
        If networks are not finite; names the step and how many of their chunk.
    """
    require_callable(gradient=gradient)
    require_positive(learning_rate=learning_rate)
    require_integer(1, batch_size=batch_size)
    start = require_walkers("x0", x0)
    if not callable(data):
        samples = require_real("data", data)
        if (
            not samples.shape
            or not samples.size
            or not np.all(np.abs(samples) <= LARGEST)
        ):
            raise ValueError(
                "data must be a function or a finite array (N, ...) of at least one "
                f"sample, got shape {samples.shape} with {data!r}"
            )
    draw = data if callable(data) else partial(_resample, np.asarray(data))
    move = partial(_minibatch_descent, gradient, draw, learning_rate, batch_size)
    return move_ensemble(move, start, steps, seed, snapshots, chunk, jobs, "SGD")


def _resample(
    samples: Array, rng: np.random.Generator, n: int, batch_size: int
) -> Array:
    # np.take: a tenth of the time of samples[...] for samples of two numbers.
    return np.take(samples, rng.integers(len(samples), size=(n, batch_size)), axis=0)


def _minibatch_descent(
    gradient: Callable[[Array, Array], Array],
    draw: Draw,
    learning_rate: float,
    batch_size: int,
    walkers: Array,
    rng: np.random.Generator,
) -> Iterator[None]:
    """Move the walkers in place, one step per item."""
    seen, shift = _read_only(walkers), np.empty_like(walkers)
    while True:
        batch = draw(rng, len(walkers), batch_size)
        if np.shape(batch)[:2] != (len(walkers), batch_size):
            raise ValueError(
                f"data must return samples of shape ({len(walkers)}, {batch_size}, "
                f"...), got {np.shape(batch)}"
            )
        mean_gradient = gradient(seen, batch)
        _require_shape("gradient", mean_gradient, walkers.shape)
        np.multiply(mean_gradient, learning_rate, out=shift)
        walkers -= shift
        yield


def move_ensemble(
    move: Move,
    start: Array,
    steps: int,
    seed: int,
    snapshots: Sequence[int] | None = None,
    chunk: int = CHUNK,
    jobs: int = 1,
    description: str = "",
) -> Array:
    """Move walkers chunk by chunk, each chunk with its own random stream.

    What the ensembles have in common, for further kinds of walkers.

    Parameters
    ----------
    move
        Function of the walkers of a chunk, shape (n, d), and of a random generator. It
        returns an iterator that moves the walkers in place, one step per item.
    start, steps, seed, snapshots, chunk, jobs
        As in :func:`langevin_ensemble`, with ``start`` for ``x0``.
    description
        Words in front of the progress bar.

    Returns
    -------
    array
        Walkers, shape (len(snapshots), M, d).

    Raises
    ------
    ValueError
        If an argument is out of range, or the iterator ends before the last snapshot.
    FloatingPointError
        If walkers are not finite; names the step and how many of their chunk.
    """
    require_callable(move=move)
    start = require_walkers("start", start)
    require_integer(0, steps=steps)
    require_integer(1, chunk=chunk)
    require_seed(seed)
    require_jobs(jobs)
    require_type(str, description=description)
    kept = require_snapshots(snapshots, steps)
    pieces = [slice(i, i + chunk) for i in range(0, len(start), chunk)]
    streams = np.random.SeedSequence(seed).spawn(len(pieces))
    tasks = [
        (move, start[piece], stream, kept)
        for piece, stream in zip(pieces, streams, strict=True)
    ]
    result = np.empty((len(kept), *start.shape))
    with progress.bar(kept[-1] * len(pieces), description) as bar:
        if jobs == 1:
            for piece, task in zip(pieces, tasks, strict=True):
                result[:, piece] = _walk(*task, bar.update)
        else:
            workers = Parallel(n_jobs=jobs, return_as="generator")
            finished = workers(delayed(_walk)(*task) for task in tasks)
            for piece, walkers in zip(pieces, finished, strict=True):
                result[:, piece] = walkers
                bar.update(kept[-1])
    return result


ENDED = object()
"""What the next item of an iterator is when there is none."""


def _walk(
    move: Move,
    start: Array,
    stream: np.random.SeedSequence,
    kept: list[int],
    report: Callable[[float], object] | None = None,
) -> Array:
    """Move one chunk of walkers and keep those of the given steps."""
    walkers = start.copy()
    result = np.empty((len(kept), *start.shape))
    rows = {step: row for row, step in enumerate(kept)}
    if 0 in rows:
        result[0] = walkers
    moves = move(walkers, np.random.default_rng(stream))
    if not isinstance(moves, Iterator):
        raise TypeError(f"move must return an iterator, got {moves!r}")
    with np.errstate(all="ignore"):
        for step in range(1, kept[-1] + 1):
            if next(moves, ENDED) is ENDED:
                raise ValueError(
                    f"move must give an item per step, up to {kept[-1]} of them, got "
                    f"{step - 1}"
                )
            # One number tells whether all are finite, unless the sum itself overflows.
            if not np.isfinite(walkers.sum()):
                _require_finite_walkers(walkers, step)
            if step in rows:
                result[rows[step]] = walkers
            if report:
                report(1)
    return result


def _require_finite_walkers(walkers: Array, step: int) -> None:
    lost = np.sum(~np.isfinite(walkers).all(axis=1))
    if lost:
        raise FloatingPointError(
            f"step {step}: {lost} of the {len(walkers)} walkers of a chunk are not "
            "finite; a smaller step may help"
        )


# --- distances ----------------------------------------------------------------------


class Distance(NamedTuple):
    """Distance of walkers from a density, and its statistical floor.

    Attributes
    ----------
    value
        The distance.
    floor
        Its expectation if the walkers were drawn from the density itself. A value near
        its floor is explained by the finite number of walkers alone.
    """

    value: float
    floor: float


def histogram(walkers: Array, grid: Grid) -> Array:
    """Density of walkers as averages over the cells of a grid.

    Walkers outside the grid count in the normalisation: with them the mass of the
    histogram, its sum times ``grid.cell_volume``, is less than one.

    Parameters
    ----------
    walkers
        Shape (M, d).
    grid
        Grid in d dimensions.

    Returns
    -------
    array
        Density, shape ``grid.shape``, in 1 / weight^d.

    Raises
    ------
    ValueError
        If the walkers are not finite or not of shape (M, d).
    """
    return _counts(walkers, grid) / (len(walkers) * grid.cell_volume)


def _counts(walkers: Array, grid: Grid) -> Array:
    require_type(Grid, grid=grid)
    points = require_walkers("walkers", walkers, len(grid.shape))
    return np.histogramdd(points, bins=grid.edges)[0]


def l1_distance(
    walkers: Array,
    grid: Grid,
    density: Array,
    bins: int | Sequence[int] | None = None,
) -> Distance:
    r"""Total difference of the bin masses of walkers and of a density.

    .. math:: L_1 = \sum_b \left| \frac{X_b}{M} - P_b \right| + \frac{X_{out}}{M}

    with the number :math:`X_b` of walkers in the bin :math:`b`, their number
    :math:`X_{out}` outside the grid, and the mass :math:`P_b` of the density; from 0 to
    2. For walkers of that density :math:`X_b` is binomial, and its mean absolute
    deviation is known exactly (de Moivre 1730):

    .. math::
        \text{floor} = \frac1M \sum_b 2 (k+1) \binom{M}{k+1}
            P_b^{k+1} (1 - P_b)^{M-k}, \qquad k = \lfloor M P_b \rfloor,

    close to :math:`\sqrt{2 / (\pi M)} \sum_b \sqrt{P_b (1 - P_b)}` where bins hold many
    walkers. There, and with many bins, :math:`L_1` scatters about the floor with
    standard deviation :math:`\sqrt{(1 - 2/\pi) / M}`.

    Parameters
    ----------
    walkers
        Shape (M, d).
    grid
        Grid in d dimensions.
    density
        Cell averages, shape ``grid.shape``, in 1 / weight^d, of mass 1 within 1e-6.
    bins
        Cells that are merged to one bin along each axis, a number or one per axis, by
        which the number of cells is divisible; None for bins that are cells. Coarser
        bins have a lower floor.

    Returns
    -------
    Distance
        Value and floor.

    Raises
    ------
    ValueError
        If an argument is out of range or of another shape than the grid.
    """
    counts = _counts(walkers, grid)
    density = require_density("density", density, grid.shape, grid.cell_volume)
    masses = density * grid.cell_volume
    merged = _cells_per_bin(1 if bins is None else bins, grid.shape)
    inside, P = _merge_cells(counts, merged), _merge_cells(masses, merged)
    M = len(walkers)
    value = np.abs(inside / M - P).sum() + (M - inside.sum()) / M
    return Distance(float(value), float(_mean_deviation(M, P).sum()))


def _cells_per_bin(bins: int | Sequence[int], shape: tuple[int, ...]) -> list[int]:
    per_axis = list(bins) if isinstance(bins, Sequence) else [bins] * len(shape)
    if len(per_axis) != len(shape) or not all(
        isinstance(cells, int | np.integer)
        and not isinstance(cells, bool)
        and cells >= 1
        and n % cells == 0
        for cells, n in zip(per_axis, shape, strict=True)
    ):
        raise ValueError(
            f"bins must be cells per bin, integers that divide {shape}, got {bins}"
        )
    return per_axis


def _merge_cells(cells: Array, cells_per_bin: list[int]) -> Array:
    split = [
        length
        for n, merged in zip(cells.shape, cells_per_bin, strict=True)
        for length in (n // merged, merged)
    ]
    bins: Array = cells.reshape(split).sum(axis=tuple(range(1, 2 * cells.ndim, 2)))
    return bins


NO_MASS = 1e-100


def _mean_deviation(M: int, P: Array) -> Array:
    """Mean absolute deviation of the relative frequency of M trials, by de Moivre."""
    # Far tails count for nothing, but scipy's pmf overflows at 1e-308.
    p = np.where(P < NO_MASS, 0.0, np.minimum(P, 1.0))
    above = np.floor(M * p) + 1
    deviation: Array = 2 * above * (1 - p) * binom.pmf(above, M, p) / M
    return deviation


def wasserstein(walkers: Array, edges: Array, density: Array) -> Distance:
    r"""Wasserstein distance of walkers from a density in one dimension.

    .. math:: W_1 = \int |F_M(x) - F(x)|\, dx, \qquad
        \text{floor} = \int \mathrm{E}\, |F_M(x) - F(x)|\, dx
            \approx \sqrt{\frac{2}{\pi M}} \int \sqrt{F (1 - F)}\, dx

    with the distribution function :math:`F_M` of the walkers, a staircase, and
    :math:`F` of the density, linear in each cell. The integral is exact; so is the
    integrand of the floor, as in :func:`l1_distance`, integrated to about 1e-3.

    Parameters
    ----------
    walkers
        Positions, shape (M,), inside or outside the cells.
    edges
        Cell faces, shape (N + 1,), increasing.
    density
        Cell averages, shape (N,), in 1 / weight, of mass 1 within 1e-6.

    Returns
    -------
    Distance
        Value and floor, in the unit of the walkers.

    Raises
    ------
    ValueError
        If an argument is out of range or of the wrong shape.
    """
    positions = _sorted_positions(walkers)
    faces, F = _distribution(edges, density)
    M = len(positions)
    knots = np.sort(np.concatenate([positions, faces]))
    gap = np.interp(knots, faces, F)
    staircase = np.searchsorted(positions, knots[:-1], side="right") / M
    left, right = gap[:-1] - staircase, gap[1:] - staircase
    # Mean of |line| between two knots; a line that changes sign makes two triangles.
    crossing = left * right < 0
    mean = np.abs(left + right) / 2
    triangles = left[crossing] ** 2 + right[crossing] ** 2
    mean[crossing] = triangles / (2 * np.abs(right - left)[crossing])
    nodes, weights = np.polynomial.legendre.leggauss(8)
    inner = F[:-1] + np.outer((nodes + 1) / 2, np.diff(F))
    floor = weights / 2 @ _mean_deviation(M, inner) @ np.diff(faces)
    return Distance(float(mean @ np.diff(knots)), float(floor))


def _sorted_positions(walkers: Array) -> Array:
    positions = require_real("walkers", walkers)
    if (
        positions.ndim != 1
        or len(positions) == 0
        or not np.all(np.abs(positions) <= LARGEST)
    ):
        raise ValueError(
            f"walkers must be finite positions of shape (M,) with M >= 1, got shape "
            f"{positions.shape} with {np.sum(~np.isfinite(positions))} not finite"
        )
    return np.sort(positions)


def _distribution(edges: Array, density: Array) -> tuple[Array, Array]:
    """Cell faces and the distribution function there, from 0 to exactly 1."""
    faces = require_edges(edges)
    widths = np.diff(faces)
    if require_real("density", density).shape != widths.shape:
        raise ValueError(
            f"density must be of shape {widths.shape}, one less than edges, got "
            f"{np.shape(density)}"
        )
    masses = require_density("density", density, widths.shape, widths) * widths
    F = np.concatenate([[0.0], np.cumsum(masses)])
    return faces, F / F[-1]


def kolmogorov_smirnov(walkers: Array, edges: Array, density: Array) -> Distance:
    r"""Largest difference of the distribution functions of walkers and of a density.

    .. math:: D_M = \sup_x |F_M(x) - F(x)|, \qquad
        \text{floor} = \sqrt{\frac{\pi}{2 M}} \ln 2 - \frac{1}{6 M}

    with :math:`F` linear in each cell. The floor, :math:`0.8687 / \sqrt M` for many
    walkers, is the mean of the Kolmogorov distribution with its first correction
    (Vrbik 2018); it does not depend on the density.

    Parameters
    ----------
    walkers
        Positions, shape (M,), inside or outside the cells.
    edges
        Cell faces, shape (N + 1,), increasing.
    density
        Cell averages, shape (N,), in 1 / weight, of mass 1 within 1e-6.

    Returns
    -------
    Distance
        Value and floor, from 0 to 1.

    Raises
    ------
    ValueError
        If an argument is out of range or of the wrong shape.
    """
    positions = _sorted_positions(walkers)
    F = np.interp(positions, *_distribution(edges, density))
    M = len(positions)
    steps = np.arange(M + 1) / M
    value = max(np.max(steps[1:] - F), np.max(F - steps[:-1]))
    floor = np.sqrt(np.pi / (2 * M)) * np.log(2) - 1 / (6 * M)
    return Distance(float(value), float(floor))
