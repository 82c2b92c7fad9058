r"""One block of an autoencoder resolved by Fokker-Planck, the rest of it recorded.

The block :math:`W` of A3 (:mod:`fpbook.deep_autoencoder`), row-major
:math:`w = (W_{11}, W_{12}, W_{21}, W_{22})`, is *resolved*: its density :math:`p(w, t)`
is computed. The outer layers are *recorded* from one run of stochastic gradient descent
(SGD). Of them, and of the data, the loss of the block contains only the recorded
:math:`z_n`, :math:`b_n` and :math:`G`,

.. math::
    L(w) = \frac1N \sum_n \Bigl[ \tfrac12\, z_n'^T G z_n' - b_n \cdot z_n' \Bigr]
        + \text{const}, \qquad z_n' = \tanh W z_n .

Conventions: :math:`C(w)` is the covariance over the data of the gradient of one sample,
:math:`g_{ab} = (G z' - b)_a (1 - z_a'^2)\, z_b`. The Fokker-Planck equation is that of
the Ito equation :math:`dw = -\nabla L\, dt + \sqrt{2D}\, dB` with
:math:`D = \eta C / (2B)`; training time :math:`t` is the learning rate :math:`\eta` of
the block times the step.

Three ensembles follow each other: the density (:func:`evolve_block`); networks that
retrain the block only, with minibatches of their own, while the outer layers are
replayed (:func:`retrain_block`), whose density the equation is about; and networks
that retrain everything (:func:`~fpbook.deep_autoencoder.retrain_whole`). From the
second to the third the outer layers respond to the block: the difference is the
*closure error* of a recorded rest.

Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*. The
idea of one Fokker-Planck equation for a weight matrix in the bottleneck of an
autoencoder is that of Bu, Kol and Liu, "Fokker-Planck to Callan-Symanzik: evolution of
weight matrices under training" (arXiv 2501.09659), of which only the abstract and the
introduction were read. Network, data and recording are ours.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator

from fpbook import progress
from fpbook.deep_autoencoder import Record, Rest
from fpbook.finite_volumes import Faces, face_rates, on_grid, sides
from fpbook.fokker_planck import (
    WALL_MASS,
    FokkerPlanck,
    Grid,
    MassAtWallWarning,
)
from fpbook.langevin import CHUNK, move_ensemble
from fpbook.time_stepping import SMOOTHING_STEPS, Step, lu_step, strang_step
from fpbook.validation import (
    MASS_TOLERANCE,
    require_array,
    require_choice,
    require_density,
    require_integer,
    require_integer_between,
    require_on_grid,
    require_positive,
    require_type,
    require_walkers,
)

Array = NDArray[np.float64]
Noise = Literal["full", "diagonal"]

NUMBERS_AT_ONCE = 2**22
"""Entries of a table over points and samples that are in memory at a time."""

# --- the block at one instant -------------------------------------------------------


def block_loss(w: Array, rest: Rest) -> Array:
    r"""Loss as a function of the block, without its constant.

    .. math::
        L(w) = \frac1N \sum_n \Bigl[ \tfrac12 G_{11} z_1'^2 - b_1 z_1'
            + \tfrac12 G_{22} z_2'^2 - b_2 z_2' + G_{12} z_1' z_2' \Bigr]

    The row :math:`a` of the block enters through :math:`z_a' = \tanh(w_a \cdot z_n)`
    alone. On a tensor grid, points in C order, two tables of it and one product of
    matrices are enough; this is recognised. Source: the module's docstring.

    Parameters
    ----------
    w
        Blocks, row-major, shape (n, 4).
    rest
        What the block sees.

    Returns
    -------
    array
        Loss, shape (n,).

    Raises
    ------
    ValueError
        If ``w`` is not finite or not of shape (n, 4), or ``rest`` is not made of finite
        numbers of shapes (N, 2), (N, 2) and (2, 2).
    """

    w = _checked(w, rest)

    def loss(first: Array, second: Array, paired: Pairing) -> Array:
        (t1, t2), N = _responses(first, second, rest), len(rest.z)
        alone1 = t1 * (rest.G[0, 0] / 2 * t1 - rest.b[:, 0])
        alone2 = t2 * (rest.G[1, 1] / 2 * t2 - rest.b[:, 1])
        left = np.stack([alone1.sum(axis=1), np.ones(len(t1))], axis=1)
        right = np.stack([np.ones(len(t2)), alone2.sum(axis=1)], axis=1)
        cross = paired(rest.G[0, 1] * t1, t2)
        return np.asarray((paired(left, right) + cross) / N)

    return _over_rows(w, len(rest.z), loss)


Pairing = Callable[[Array, Array], Array]


def _checked(w: Array, rest: Rest) -> Array:
    _check_rest("rest", rest)
    return require_walkers("w", w, 4)


def _check_rest(name: str, rest: Rest) -> None:
    require_type(Rest, **{name: rest})
    z = require_array(name, rest.z, ("N", 2))
    require_array(name, rest.b, z.shape)
    require_array(name, rest.G, (2, 2))


def _responses(first: Array, second: Array, rest: Rest) -> tuple[Array, Array]:
    return np.tanh(first @ rest.z.T), np.tanh(second @ rest.z.T)


def _over_rows(
    w: Array, samples: int, function: Callable[[Array, Array, Pairing], Array]
) -> Array:
    """Apply a function of the two rows of the block, tensor products at once.

    The function gets the first and the second rows, and a product that sums over the
    last axis of a table of each: for all pairs, or for rows that belong together.
    """
    run = _run_of_second_rows(w)
    if run:
        return function(w[::run, :2], w[:run, 2:], _all_pairs)
    result = np.empty(len(w))
    size = max(1, NUMBERS_AT_ONCE // samples)
    for begin in range(0, len(w), size):
        some = w[begin : begin + size]
        result[begin : begin + size] = function(some[:, :2], some[:, 2:], _row_by_row)
    return result


def _run_of_second_rows(points: Array) -> int:
    """Number of second rows if the points are a tensor product of rows, else 0."""
    # Column by column: along an axis of two numbers NumPy is slow.
    x, y = points[:, 0], points[:, 1]
    changed = (x[1:] != x[:-1]) | (y[1:] != y[:-1])
    run = int(np.argmax(changed)) + 1 if changed.any() else len(points)
    if len(points) % run:
        return 0
    table = points.reshape(-1, run, 4)
    regular = all(np.all(table[:, :, c] == table[:, :1, c]) for c in (0, 1)) and all(
        np.all(table[:, :, c] == table[:1, :, c]) for c in (2, 3)
    )
    return run if regular else 0


def _all_pairs(first: Array, second: Array) -> Array:
    return np.asarray(first @ second.T).ravel()


def _row_by_row(first: Array, second: Array) -> Array:
    return np.asarray(np.einsum("ni,ni->n", first, second))


def block_gradient(w: Array, rest: Rest) -> Array:
    r"""Gradient of the loss of the block, the mean of :math:`g_{ab}` over the data.

    .. math::
        \frac{\partial L}{\partial W_{ab}}
            = \frac1N \sum_n (G z' - b)_a\, (1 - z_a'^2)\, z_b

    Source: the module's docstring.

    Parameters
    ----------
    w
        Blocks, row-major, shape (n, 4).
    rest
        What the block sees.

    Returns
    -------
    array
        Gradient, shape (n, 4), row-major.

    Raises
    ------
    ValueError
        If ``w`` is not finite or not of shape (n, 4), or ``rest`` is not made of finite
        numbers of shapes (N, 2), (N, 2) and (2, 2).
    """
    w = _checked(w, rest)
    return np.stack([_mean(w, rest, i) for i in range(4)], axis=-1)


ENTRIES = ((0, 0), (0, 1), (1, 0), (1, 1))


def _mean(w: Array, rest: Rest, i: int) -> Array:
    """Mean over the data of one g_ab."""
    a, b = ENTRIES[i]

    def mean(first: Array, second: Array, paired: Pairing) -> Array:
        own, other = _responses(first, second, rest)[:: 1 - 2 * a]
        factor = (1 - own**2) * rest.z[:, b] / len(rest.z)
        error = rest.G[a, a] * own - rest.b[:, a]
        # What the other row does not enter is summed first: half of the product.
        alone = (factor * error).sum(axis=1, keepdims=True)
        tables = (
            np.concatenate([alone, factor * rest.G[0, 1]], axis=1),
            np.concatenate([np.ones((len(other), 1)), other], axis=1),
        )
        return paired(*tables[:: 1 - 2 * a])

    return _over_rows(w, 2 * len(rest.z), mean)


def block_covariance(w: Array, rest: Rest) -> Array:
    r"""Covariance :math:`C(w)` of the gradient of one sample.

    .. math:: C_{ab,cd} = \langle g_{ab}\, g_{cd} \rangle
        - \langle g_{ab} \rangle \langle g_{cd} \rangle

    over the data. Each average is a sum of products of a function of one row and a
    function of the other: fast on a tensor grid, as :func:`block_loss`. Source: the
    module's docstring.

    Parameters
    ----------
    w
        Blocks, row-major, shape (n, 4).
    rest
        What the block sees.

    Returns
    -------
    array
        Covariance matrices, shape (n, 4, 4).

    Raises
    ------
    ValueError
        If ``w`` is not finite or not of shape (n, 4), or ``rest`` is not made of finite
        numbers of shapes (N, 2), (N, 2) and (2, 2).
    """
    return _covariance(_checked(w, rest), rest, range(4))


def _covariance(w: Array, rest: Rest, entries: Sequence[int]) -> Array:
    means = [_mean(w, rest, i) for i in entries]
    result = np.empty((len(w), len(entries), len(entries)))
    for m, i in enumerate(entries):
        for n, j in enumerate(entries[m:], m):
            covariance = _product(w, rest, i, j) - means[m] * means[n]
            result[:, m, n] = result[:, n, m] = covariance
    return result


def _product(w: Array, rest: Rest, i: int, j: int) -> Array:
    """Mean over the data of the product of two entries of g, i <= j."""
    (a, b), (c, d) = ENTRIES[i], ENTRIES[j]
    zz = rest.z[:, b] * rest.z[:, d] / len(rest.z)
    mixed = rest.G[0, 1]

    def same_row(first: Array, second: Array, paired: Pairing) -> Array:
        own, other = _responses(first, second, rest)[:: 1 - 2 * a]
        error, factor = rest.G[a, a] * own - rest.b[:, a], (1 - own**2) ** 2 * zz
        # (error + mixed * other)^2
        alone = (factor * error**2).sum(axis=1, keepdims=True)
        tables = (
            np.concatenate(
                [alone, 2 * mixed * factor * error, mixed**2 * factor], axis=1
            ),
            np.concatenate([np.ones((len(other), 1)), other, other**2], axis=1),
        )
        return paired(*tables[:: 1 - 2 * a])

    def two_rows(first: Array, second: Array, paired: Pairing) -> Array:
        t1, t2 = _responses(first, second, rest)
        error1, factor1 = rest.G[0, 0] * t1 - rest.b[:, 0], (1 - t1**2) * zz
        error2, factor2 = rest.G[1, 1] * t2 - rest.b[:, 1], 1 - t2**2
        # (error1 + mixed * t2) (error2 + mixed * t1)
        left = [error1, mixed * error1 * t1, np.ones_like(t1), mixed * t1]
        right = [error2, np.ones_like(t2), mixed * error2 * t2, mixed * t2]
        return paired(
            np.concatenate([factor1 * term for term in left], axis=1),
            np.concatenate([factor2 * term for term in right], axis=1),
        )

    return _over_rows(w, 4 * len(rest.z), same_row if a == c else two_rows)


# --- the density of the block -------------------------------------------------------


def evolve_block(
    density: Array,
    grid: Grid,
    history: Record,
    slices: int,
    *,
    substeps: int = 2,
    row: int | None = None,
    noise: Noise = "full",
) -> Array:
    r"""Fokker-Planck density of the block while the recorded rest changes.

    .. math::
        \partial_t p = \nabla \cdot (p\, \nabla L_t)
            + \partial_i \partial_j \Bigl( \frac{\eta}{2B} C_{t,ij}\, p \Bigr)

    The run is cut into slices. In each, :math:`z_n`, :math:`b_n` and :math:`G` are the
    means over its steps: up to second order in their changes within a slice that gives
    the mean of the loss, as SGD feels it. In four dimensions the derivatives along the
    axes are those of :class:`~fpbook.fokker_planck.FokkerPlanck`; the mixed ones, from
    correlated noise, are taken in an explicit step between two half-steps of those.
    Where the noise of several entries is strongly correlated that scheme leaves small
    negative densities, less on finer grids. One row alone, with the other row on its
    recorded path, has two dimensions and none.

    Parameters
    ----------
    density
        Cell averages at time 0, shape ``grid.shape``, of mass 1.
    grid
        Box of the four weights, row-major; with ``row``, of the two weights of the row.
    history
        The record, of K steps.
    slices
        Number of slices, a divisor of K.
    substeps
        Time steps of the solver per slice, >= 1.
    row
        None for the whole block; 0 or 1 for one row.
    noise
        "full" for all of :math:`C`; "diagonal" to treat the noise of different entries
        as independent.

    Returns
    -------
    array
        Cell averages, shape (slices + 1, \*grid.shape): at time 0 and at the end of
        each slice, training time ``j * (K / slices) * learning_rate``.

    Raises
    ------
    ValueError
        If an argument is out of range, or a shape does not fit.
    FloatingPointError
        If the mass is not 1 within 1e-6, or too much of it is below zero: 1e-6, or for
        the whole block with full noise 1e-2. More substeps or cells avoid it.

    Warns
    -----
    MassAtWallWarning
        If more than 1e-6 of the mass is in the cells at the walls.
    """
    _check_history(history)
    require_type(Grid, grid=grid)
    steps = len(history.rests) - 1
    require_integer(1, slices=slices, substeps=substeps)
    if steps % slices:
        raise ValueError(f"slices must divide the {steps} steps, got {slices}")
    _check_row(row)
    require_choice(get_args(Noise), noise=noise)
    axes = 4 if row is None else 2
    if len(grid.shape) != axes:
        raise ValueError(f"grid must have {axes} axes, got {len(grid.shape)}")
    p = require_density("density", density, grid.shape, grid.cell_volume)
    allowed = MASS_TOLERANCE if noise == "diagonal" or row is not None else BELOW_ZERO
    length = steps // slices
    dt = length * history.learning_rate / substeps
    scale = history.learning_rate / (2 * history.batch_size)
    result = np.empty((slices + 1, *grid.shape))
    result[0] = p
    times = np.arange(slices + 1) * length * history.learning_rate
    taken = 0
    with progress.bar(slices, "Fokker-Planck") as bar:
        for j in range(slices):
            during = slice(j * length, (j + 1) * length)
            rest = Rest(
                *(
                    np.mean(parts, axis=0)
                    for parts in zip(*history.rests[during], strict=True)
                )
            )
            path = history.blocks[during].mean(axis=0)
            move = (
                _block_step(grid, rest, scale, noise, dt)
                if row is None
                else _row_step(grid, rest, path, row, scale, noise, dt)
            )
            for _ in range(substeps):
                p = move(p, taken < SMOOTHING_STEPS)
                taken += 1
            _require_sound(p, grid, times[j + 1], allowed)
            result[j + 1] = p
            bar.update(1)
    _warn_at_wall(result, grid, times)
    return result


def _check_history(history: Record) -> None:
    require_type(Record, history=history)
    require_positive(history=history.learning_rate)
    require_integer(1, history=history.batch_size)
    for rest in history.rests:
        _check_rest("history", rest)
    require_array("history", history.blocks, (len(history.rests), 4))


def _check_row(row: int | None) -> None:
    if row is not None:
        require_integer_between(0, 1, row=row)


BELOW_ZERO = 1e-2
"""Mass below zero that explicit mixed derivatives may leave in four dimensions."""


def _require_sound(density: Array, grid: Grid, time: float, allowed: float) -> None:
    mass = density.sum() * grid.cell_volume
    below = -np.minimum(density, 0).sum() * grid.cell_volume
    if not (abs(mass - 1) <= MASS_TOLERANCE and below <= allowed):
        raise FloatingPointError(
            f"density must be >= 0 and have mass 1, has mass {mass:.8g} and "
            f"{below:.2g} below 0 at time {time:g}"
        )


def _warn_at_wall(densities: Array, grid: Grid, times: NDArray[Any]) -> None:
    at_wall = [p.sum() - p[(slice(1, -1),) * p.ndim].sum() for p in densities]
    worst = int(np.argmax(at_wall))
    mass = at_wall[worst] * grid.cell_volume
    if mass > WALL_MASS:
        warnings.warn(
            f"{mass:.2g} of the mass is in the cells at the walls at time "
            f"{times[worst]:g}; a larger box avoids it",
            MassAtWallWarning,
            stacklevel=3,
        )


def _block_step(grid: Grid, rest: Rest, scale: float, noise: Noise, dt: float) -> Step:
    """Step in four dimensions: along the axes implicit, mixed derivatives explicit."""

    def potential(w: Array) -> Array:
        return block_loss(w, rest)

    def variance(i: int) -> Callable[[Array], Array]:
        return lambda w: _product(w, rest, i, i) - _mean(w, rest, i) ** 2

    levels = on_grid("potential", potential, grid.centers, ())
    points = grid.points
    means = [_mean(points, rest, i) for i in range(4)]
    faces: list[Faces] = []
    for axis in range(4):
        between = list(grid.centers)
        between[axis] = grid.edges[axis][1:-1]
        square = _product(points, rest, axis, axis)
        at_centers = scale * (square - means[axis] ** 2).reshape(grid.shape)
        on_faces = scale * on_grid("noise", variance(axis), between, ())
        before, after = (at_centers[side] for side in sides(axis, 4))
        nodes = (before, on_faces, after)
        faces.append(face_rates(grid, axis, nodes, levels, potential, None))
    if noise == "diagonal":
        return strang_step(faces, dt)
    along_axes = strang_step(faces, dt / 2)
    mixed = {
        (i, j): scale
        / (grid.spacing[i] * grid.spacing[j])
        * (_product(points, rest, i, j) - means[i] * means[j]).reshape(grid.shape)
        for i in range(4)
        for j in range(i + 1, 4)
    }

    def step(density: Array, smooth: bool) -> Array:
        half = along_axes(density, smooth)
        first = _mixed_derivatives(half, mixed)
        second = _mixed_derivatives(half + dt * first, mixed)
        return along_axes(half + dt / 2 * (first + second), smooth)

    return step


def _mixed_derivatives(density: Array, mixed: dict[tuple[int, int], Array]) -> Array:
    r"""Sum of 2 d_i d_j (D_ij p), from ``mixed``, the D_ij / (h_i h_j).

    A mixed derivative is half the second difference along the diagonal on which noise
    of this sign moves the cloud, less those along the two axes: added to the diffusion
    along the axes, no hop has a negative rate unless the correlations are strong.
    """
    change = np.zeros_like(density)
    before, after, every = slice(None, -1), slice(1, None), slice(None)
    for (i, j), rate in mixed.items():
        moving = rate * density
        for sides_i, sides_j, q in (
            ((before, after), (before, after), np.maximum(moving, 0)),
            ((before, after), (after, before), np.maximum(-moving, 0)),
            ((before, after), (every, every), -np.abs(moving)),
            ((every, every), (before, after), -np.abs(moving)),
        ):
            ends = []
            for side_i, side_j in zip(sides_i, sides_j, strict=True):
                end = [every] * 4
                end[i], end[j] = side_i, side_j
                ends.append(tuple(end))
            here, there = ends
            flow = q[there] - q[here]
            change[here] += flow
            change[there] -= flow
    return change


def _row_step(
    grid: Grid,
    rest: Rest,
    block: Array,
    row: int,
    scale: float,
    noise: Noise,
    dt: float,
) -> Step:
    """Step in two dimensions, with the other row fixed."""
    own = (2 * row, 2 * row + 1)

    def whole(points: Array) -> Array:
        w = np.tile(block, (len(points), 1))
        w[:, own] = points
        return w

    def diffusion(points: Array) -> Array:
        D = scale * _covariance(whole(points), rest, own)
        return D if noise == "full" else np.diagonal(D, axis1=1, axis2=2)

    equation = FokkerPlanck(
        grid, diffusion, potential=lambda points: block_loss(whole(points), rest)
    )
    return lu_step(equation.generator, dt)


def marginal(
    density: Array, grid: Grid, axis: int, refine: int = 1
) -> tuple[Array, Array]:
    r"""Density of one weight, on finer cells if wanted.

    The distribution function :math:`F` is known at the faces; between them it is the
    monotone cubic interpolant. Linear interpolation, which is what cells stand for,
    errs by up to :math:`h^2 \max |p'| / 8`: on coarse cells more than the statistics of
    an ensemble. Small negative masses, which :func:`evolve_block` may leave, are
    set to zero and the others scaled: :math:`F` changes by no more than their sum.

    Parameters
    ----------
    density
        Cell averages, shape ``grid.shape``, of mass 1.
    grid
        The grid.
    axis
        The weight to keep.
    refine
        New cells per cell, >= 1.

    Returns
    -------
    edges, density
        Faces (refine * n + 1,) and cell averages (refine * n,), in 1 / weight.

    Raises
    ------
    ValueError
        If a shape does not fit, an argument is out of range, or more than 1e-2 of the
        mass is below zero.
    """
    require_type(Grid, grid=grid)
    require_integer_between(0, len(grid.shape) - 1, axis=axis)
    require_integer(1, refine=refine)
    masses = _kept_masses(density, grid, (axis,))
    edges = grid.edges[axis]
    F = PchipInterpolator(edges, np.concatenate([[0.0], np.cumsum(masses)]))
    fine = np.linspace(edges[0], edges[-1], refine * len(masses) + 1)
    return fine, np.diff(F(fine)) / np.diff(fine)


def _kept_masses(density: Array, grid: Grid, kept: tuple[int, ...]) -> Array:
    p = require_on_grid("density", density, grid.shape)
    others = tuple(axis for axis in range(p.ndim) if axis not in kept)
    masses = p.sum(axis=others) * grid.cell_volume
    below = -np.minimum(masses, 0).sum()
    if below > BELOW_ZERO:
        raise ValueError(f"density must be >= 0, got a mass of {below:.2g} below 0")
    masses = np.maximum(masses, 0)
    return np.asarray(masses / masses.sum())


def row_marginal(density: Array, grid: Grid, row: int) -> tuple[Grid, Array]:
    """Density of one row of the block, two weights.

    Small negative masses are treated as in :func:`marginal`.

    Parameters
    ----------
    density
        Cell averages on the grid of the block, shape ``grid.shape``, of mass 1.
    grid
        Grid of the four weights.
    row
        0 or 1.

    Returns
    -------
    grid, density
        Grid of the two weights, and cell averages on it, in 1 / weight squared.

    Raises
    ------
    ValueError
        If a shape does not fit, ``row`` is not allowed, or more than 1e-2 of the mass
        is below zero.
    """
    require_type(Grid, grid=grid)
    require_integer_between(0, 1, row=row)
    if len(grid.shape) != 4:
        raise ValueError(f"grid must have 4 axes, got {len(grid.shape)}")
    kept = (2 * row, 2 * row + 1)
    lower, upper = ([grid.edges[axis][end] for axis in kept] for end in (0, -1))
    plane = Grid(lower, upper, [grid.shape[axis] for axis in kept])
    return plane, _kept_masses(density, grid, kept) / plane.cell_volume


# --- ensembles of networks ----------------------------------------------------------


def retrain_block(
    history: Record,
    start: ArrayLike,
    seed: int,
    *,
    snapshots: Sequence[int] | None = None,
    row: int | None = None,
    chunk: int = CHUNK,
) -> Array:
    r"""Networks that retrain their block only, while the outer layers are replayed.

    .. math:: w_{k+1} = w_k - \frac{\eta}{B} \sum_{n \in B_k} g(w_k;\, z_n, b_n, G)
        \quad\text{with the rest of step } k

    True SGD, with minibatches of its own for every network. It is the *fair* ensemble:
    :func:`evolve_block` is about its density, up to a finite learning rate. Source: the
    module's docstring.

    Parameters
    ----------
    history
        The record, of K steps.
    start
        Blocks at step 0, row-major, shape (M, 4); with ``row``, its weights (M, 2).
    seed
        Seed of the minibatches, >= 0. Results also depend on ``chunk``.
    snapshots
        Steps at which to keep the blocks, increasing, from 0 to K; None for K only.
    row
        None for the whole block; 0 or 1 for one row, the other one being replayed.
    chunk
        Networks that move together, >= 1.

    Returns
    -------
    array
        Blocks, shape (len(snapshots), M, 4), or with ``row`` (len(snapshots), M, 2).

    Raises
    ------
    ValueError
        If an argument is out of range, or a shape does not fit.
    FloatingPointError
        If blocks are not finite; names the step.
    """
    _check_row(row)
    _check_history(history)
    own = slice(0, 4) if row is None else slice(2 * row, 2 * row + 2)
    walkers = require_walkers("start", start, 4 if row is None else 2)
    rate = history.learning_rate / history.batch_size

    def move(w: Array, rng: np.random.Generator) -> Iterator[None]:
        for rest, recorded in zip(history.rests, history.blocks, strict=True):
            blocks = np.tile(recorded, (len(w), 1))
            blocks[:, own] = w
            chosen = rng.integers(len(rest.z), size=(len(w), history.batch_size))
            w -= rate * _summed_gradient(blocks, rest, chosen)[:, own]
            yield

    K = len(history.rests) - 1
    return move_ensemble(move, walkers, K, seed, snapshots, chunk, description="SGD")


def _summed_gradient(w: Array, rest: Rest, chosen: NDArray[np.int64]) -> Array:
    """Sum of the gradients g of the chosen samples (M, B), one minibatch per block."""
    z = rest.z[chosen]
    response = np.tanh(z @ w.reshape(-1, 2, 2).swapaxes(1, 2))
    push = (response @ rest.G - rest.b[chosen]) * (1 - response**2)
    return np.asarray(push.swapaxes(1, 2) @ z).reshape(-1, 4)
