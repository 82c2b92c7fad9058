r"""Mean field of a linear autoencoder: one density for each of its two matrices.

**One matrix at a time** is the approximation :math:`p(W_1, W_2, t) \approx
p_1(W_1, t)\, p_2(W_2, t)`: each density obeys a Fokker-Planck equation of its own,

.. math::
    \partial_t p_i = \nabla \cdot (p_i \nabla L_i) + T \nabla^2 p_i, \qquad
    L_1(W_1) = \int L(W_1, W_2)\, p_2(W_2)\, dW_2, \qquad
    L_2(W_2) = \int L(W_1, W_2)\, p_1(W_1)\, dW_1,

in the loss :math:`L` (:func:`~fpbook.autoencoder.matrix_loss`) of
:math:`\hat x = W_2 W_1 x` averaged over the other matrix. What the two matrices know of
each other is lost, and the marginals suffer from it. Normal densities have a closed
system of moments (:func:`mean_field_moments`); others live on two grids
(:func:`mean_field`).

Conventions: Ito, with training time :math:`t` = learning rate × step; temperature
:math:`T` is :math:`D = T` times the identity; :math:`\lambda` is ``weight_decay``;
vectors of weights are row-major. A1, with two weights, is that of
:mod:`fpbook.autoencoder`.

Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*. That
each weight matrix of an autoencoder has a Fokker-Planck equation of its own is the idea
of Bu, Kol and Liu, "Fokker-Planck to Callan-Symanzik: evolution of weight matrices
under training" (arXiv 2501.09659), of which only the abstract and the introduction were
read; the networks are ours.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.integrate import solve_ivp

from fpbook import progress
from fpbook.fokker_planck import (
    WALL_MASS,
    FokkerPlanck,
    Grid,
    MassAtWallWarning,
    NegativeDensityWarning,
)
from fpbook.time_stepping import SMOOTHING_STEPS, Step, lu_step
from fpbook.validation import (
    MASS_TOLERANCE,
    ROUNDING,
    require_choice,
    require_covariance,
    require_density,
    require_edges,
    require_factors,
    require_matrix,
    require_non_negative,
    require_on_grid,
    require_positive,
    require_times,
    require_type,
)

Array = NDArray[np.float64]
Field = Callable[[Array], Array]
Variant = Literal["coupled", "frozen"]


# --- normal densities ---------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Means and covariances of both matrices of a linear autoencoder in time.

    Attributes
    ----------
    mean1
        Mean of the first matrix at n times, shape (n, k, d).
    covariance1
        Covariance of its row-major entries, shape (n, kd, kd).
    mean2
        Mean of the second matrix, shape (n, d, k).
    covariance2
        Covariance of its row-major entries, shape (n, kd, kd).
    """

    mean1: Array
    covariance1: Array
    mean2: Array
    covariance2: Array


# Accuracy of the integration of the moments, relative and absolute.
MOMENT_TOLERANCE = 1e-10
# Moments of 1e8 take 500; where they are so large that no step helps there is no end.
MOST_EVALUATIONS = 20_000


def mean_field_moments(
    mean1: ArrayLike,
    covariance1: ArrayLike,
    mean2: ArrayLike,
    covariance2: ArrayLike,
    times: ArrayLike,
    temperature: float,
    data_covariance: ArrayLike = 1.0,
    weight_decay: float = 0.0,
    variant: Variant = "coupled",
) -> Moments:
    r"""Mean field of a linear autoencoder from normal densities: a closed system.

    The loss averaged over one matrix is quadratic in the other, so normal densities
    stay normal. With the means :math:`M_i` and the covariances :math:`V_i` of the
    row-major entries,

    .. math::
        \dot M_1 &= M_2^T S - \langle W_2^T W_2 \rangle M_1 S - \lambda M_1, \\
        \dot M_2 &= S M_1^T - M_2 \langle W_1 S W_1^T \rangle - \lambda M_2, \\
        \dot V_i &= -H_i V_i - V_i H_i + 2T, \\
        H_1 &= \langle W_2^T W_2 \rangle \otimes S + \lambda, \qquad
        H_2 = 1 \otimes \langle W_1 S W_1^T \rangle + \lambda .

    "coupled" averages over the density of the other matrix, :math:`\langle W_2^T W_2
    \rangle_{ab} = (M_2^T M_2)_{ab} + \sum_i \operatorname{Cov}(W_{2,ia}, W_{2,ib})`;
    "frozen" puts the other matrix on its noiseless path, gradient flow from the initial
    means, :math:`\langle W_2^T W_2 \rangle = M_2^T M_2`.

    Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    mean1, mean2
        Initial means, shapes (k, d) and (d, k); numbers for A1.
    covariance1, covariance2
        Initial covariances of the row-major entries, (kd, kd); a number stands for that
        number times the identity.
    times
        Times >= 0, increasing, shape (n,).
    temperature
        :math:`T \ge 0`.
    data_covariance
        :math:`S`, shape (d, d); a number for A1.
    weight_decay
        :math:`\lambda \ge 0`.
    variant
        "coupled" or "frozen".

    Returns
    -------
    Moments
        Means and covariances at all times, to a relative accuracy of about 1e-9.

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    FloatingPointError
        If the integration fails.
    """
    S = require_covariance("data_covariance", data_covariance)
    first, second = require_factors(
        len(S),
        mean1=require_matrix("mean1", mean1),
        mean2=require_matrix("mean2", mean2),
    )
    size = first.size
    spreads = [
        require_covariance("covariance1", covariance1, size),
        require_covariance("covariance2", covariance2, size),
    ]
    t = require_times(times)
    require_non_negative(temperature=temperature, weight_decay=weight_decay)
    require_choice(get_args(Variant), variant=variant)
    k, d = first.shape
    felt = 1.0 if variant == "coupled" else 0.0

    def unpack(y: Array) -> tuple[Array, Array, Array, Array]:
        M1, M2, V1, V2 = np.split(y, [size, 2 * size, 2 * size + size**2])
        return (
            M1.reshape(k, d),
            M2.reshape(d, k),
            V1.reshape(size, size),
            V2.reshape(size, size),
        )

    evaluations = count(1)

    def velocity(time: float, y: Array) -> Array:
        if next(evaluations) > MOST_EVALUATIONS:
            raise FloatingPointError(
                f"the moments are too large to be integrated at time {time:g}"
            )
        M1, M2, V1, V2 = unpack(y)
        decoder = _decoder_moment(M2, felt * V2)
        encoder = _encoder_moment(M1, felt * V1, S)
        H1 = np.kron(decoder, S) + weight_decay * np.eye(size)
        H2 = np.kron(np.eye(d), encoder) + weight_decay * np.eye(size)
        drift1 = M2.T @ S - decoder @ M1 @ S - weight_decay * M1
        drift2 = S @ M1.T - M2 @ encoder - weight_decay * M2
        spreading = [
            2 * temperature * np.eye(size) - H @ V - V @ H
            for H, V in ((H1, V1), (H2, V2))
        ]
        change = np.concatenate([x.ravel() for x in (drift1, drift2, *spreading)])
        # The integrator would look for a step that helps, for ever.
        if not np.all(np.isfinite(change)):
            raise FloatingPointError(f"the moments are too large at time {time:g}")
        return change

    start = np.concatenate([x.ravel() for x in (first, second, *spreads)])
    with np.errstate(all="ignore"):
        solution = solve_ivp(
            velocity,
            (0.0, t[-1] or 1.0),  # an empty span would return nothing
            start,
            method="LSODA",
            t_eval=t,
            rtol=MOMENT_TOLERANCE,
            atol=MOMENT_TOLERANCE,
        )
    if not solution.success or not np.all(np.isfinite(solution.y)):
        raise FloatingPointError(
            f"the moments could not be integrated to time {t[-1]:g}"
        )
    M1, M2, V1, V2 = zip(*map(unpack, solution.y.T), strict=True)
    return Moments(np.array(M1), np.array(V1), np.array(M2), np.array(V2))


def _decoder_moment(mean: Array, covariance: Array) -> Array:
    """Mean of ``W2^T W2``, (k, k), for the row-major covariance of ``W2``."""
    d, k = mean.shape
    blocks = covariance.reshape(d, k, d, k)
    return np.asarray(mean.T @ mean + np.einsum("iaib->ab", blocks))


def _encoder_moment(mean: Array, covariance: Array, S: Array) -> Array:
    """Mean of ``W1 S W1^T``, (k, k), for the row-major covariance of ``W1``."""
    k, d = mean.shape
    blocks = covariance.reshape(k, d, k, d)
    return np.asarray(mean @ S @ mean.T + np.einsum("aibj,ij->ab", blocks, S))


# --- densities of any shape ---------------------------------------------------------


def mean_field(
    density1: ArrayLike,
    grid1: Grid,
    density2: ArrayLike,
    grid2: Grid,
    times: ArrayLike,
    temperature: float,
    data_covariance: ArrayLike = 1.0,
    weight_decay: float = 0.0,
    coupling_step: float = 0.02,
) -> tuple[Array, Array]:
    r"""Mean field of a linear autoencoder from densities of any shape.

    .. math:: \partial_t p_i = \nabla \cdot (p_i \nabla L_i) + T \nabla^2 p_i

    on two grids that feel each other through :math:`\langle W_2 \rangle`,
    :math:`\langle W_2^T W_2 \rangle`, :math:`\langle W_1 \rangle` and
    :math:`\langle W_1 S W_1^T \rangle` alone. In one coupling step :math:`p_2` moves
    half a step in the field of the old :math:`p_1`, :math:`p_1` a step in the field of
    the new :math:`p_2`, and :math:`p_2` the second half in the field of the new
    :math:`p_1`: symmetric, so that errors are of second order in ``coupling_step``.
    Each move is one step of Crank-Nicolson, in the first two coupling steps two half
    steps of implicit Euler. Source: derived in the chapter *Weight densities of a
    two-bottleneck autoencoder*.

    Parameters
    ----------
    density1, density2
        Start: densities of the row-major entries of :math:`W_1` and :math:`W_2`, cell
        averages on their grids, of mass 1 to within 1e-6.
    grid1, grid2
        Grids with an axis per entry of a matrix: one for A1, two for A2. More are too
        many for a sparse factorisation at every step.
    times
        Times >= 0, increasing, shape (n,).
    temperature
        :math:`T > 0`.
    data_covariance
        :math:`S`, shape (d, d); a number for A1.
    weight_decay
        :math:`\lambda \ge 0`.
    coupling_step
        Longest step in time, > 0; shortened to meet ``times``.

    Returns
    -------
    tuple
        Densities of both matrices, shapes (n, \*grid1.shape) and (n, \*grid2.shape).

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.

    Warns
    -----
    NegativeDensityWarning
        If more than 1e-6 of the mass is below zero: ``coupling_step`` is too long.
    MassAtWallWarning
        If more than 1e-6 of the mass of a matrix is in the cells at its walls.
    """
    require_type(Grid, grid1=grid1, grid2=grid2)
    S = require_covariance("data_covariance", data_covariance)
    d, axes = len(S), len(grid1.shape)
    if axes > 2 or axes % d:
        raise ValueError(
            f"grid1 must have 1 or 2 axes, a multiple of the size {d} of the "
            f"data_covariance, got {axes}"
        )
    if len(grid2.shape) != axes:
        raise ValueError(
            f"grid2 must have as many axes as grid1 ({axes}), got {len(grid2.shape)}"
        )
    p1 = require_density("density1", density1, grid1.shape, grid1.cell_volume)
    p2 = require_density("density2", density2, grid2.shape, grid2.cell_volume)
    t = require_times(times)
    require_positive(temperature=temperature, coupling_step=coupling_step)
    require_non_negative(weight_decay=weight_decay)
    shape1, shape2 = (axes // d, d), (d, axes // d)

    def loss_of_first(p2: Array) -> Field:
        mean, covariance = _matrix_moments(p2, grid2, shape2)
        decoder = _decoder_moment(mean, covariance)

        def average(points: Array) -> Array:
            W1 = points.reshape(-1, *shape1)
            loss = np.sum(((decoder @ W1 / 2 - mean.T) @ S) * W1, axis=(1, 2))
            return np.asarray(loss + weight_decay * np.sum(points**2, axis=1) / 2)

        return average

    def loss_of_second(p1: Array) -> Field:
        mean, covariance = _matrix_moments(p1, grid1, shape1)
        encoder = _encoder_moment(mean, covariance, S)

        def average(points: Array) -> Array:
            W2 = points.reshape(-1, *shape2)
            loss = np.sum((W2 @ encoder / 2 - S @ mean.T) * W2, axis=(1, 2))
            return np.asarray(loss + weight_decay * np.sum(points**2, axis=1) / 2)

        return average

    def step(grid: Grid, loss: Field, dt: float) -> Step:
        return lu_step(FokkerPlanck(grid, temperature, potential=loss).generator, dt)

    densities1, densities2 = [], []
    steps_done = 0
    with progress.bar(float(t[-1]), "mean field") as bar:
        for begin, end in pairwise([0.0, *t]):
            steps = int(np.ceil((end - begin) / coupling_step * (1 - ROUNDING)))
            dt = (end - begin) / max(steps, 1)
            move2 = step(grid2, loss_of_second(p1), dt / 2)
            for _ in range(steps):
                smooth = steps_done < SMOOTHING_STEPS
                p2 = move2(p2, smooth)
                move1 = step(grid1, loss_of_first(p2), dt)
                p1 = move1(p1, smooth)
                move2 = step(grid2, loss_of_second(p1), dt / 2)
                p2 = move2(p2, smooth)
                steps_done += 1
                bar.update(dt)
            for name, density, grid in (("first", p1, grid1), ("second", p2, grid2)):
                _warn(name, density, grid, end)
            densities1.append(p1)
            densities2.append(p2)
    return np.array(densities1), np.array(densities2)


def _matrix_moments(
    density: Array, grid: Grid, shape: tuple[int, int]
) -> tuple[Array, Array]:
    """Mean, of the given shape, and covariance of row-major entries."""
    points, mass = grid.points, density.ravel() * grid.cell_volume
    mean = mass @ points
    centered = points - mean
    return mean.reshape(shape), np.asarray((mass[:, None] * centered).T @ centered)


def _warn(name: str, density: Array, grid: Grid, time: float) -> None:
    below = -np.minimum(density, 0).sum() * grid.cell_volume
    if below > MASS_TOLERANCE:
        warnings.warn(
            f"a mass of {below:.2g} of the {name} matrix is below zero at time "
            f"{time:g}; a shorter coupling_step avoids it",
            NegativeDensityWarning,
            stacklevel=3,
        )
    inside = density[(slice(1, -1),) * density.ndim]
    at_wall = (density.sum() - inside.sum()) * grid.cell_volume
    if at_wall > WALL_MASS:
        warnings.warn(
            f"{at_wall:.2g} of the mass of the {name} matrix is in the cells at the "
            f"walls at time {time:g}; a larger box avoids it",
            MassAtWallWarning,
            stacklevel=3,
        )


# --- comparing densities ------------------------------------------------------------


def total_variation(p: ArrayLike, q: ArrayLike, grid: Grid) -> float:
    r"""Total variation distance of two densities on the same grid.

    .. math:: \mathrm{TV} = \tfrac12 \int |p - q|\, dw

    Largest difference of the probabilities that the two give to an event. Source:
    derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    p, q
        Densities, cell averages, shape ``grid.shape``.
    grid
        The cells.

    Returns
    -------
    float
        Distance, from 0 to 1 for densities of mass 1.

    Raises
    ------
    ValueError
        If a density is not finite or does not fit the grid.
    """
    require_type(Grid, grid=grid)
    first = require_on_grid("p", p, grid.shape)
    second = require_on_grid("q", q, grid.shape)
    return float(np.abs(first - second).sum() * grid.cell_volume / 2)


def mutual_information(joint: ArrayLike, grid: Grid) -> float:
    r"""Mutual information of the two weights of a joint density.

    .. math::
        I = \int p(w_1, w_2) \log \frac{p(w_1, w_2)}{p_1(w_1)\, p_2(w_2)}\, dw

    This is the Kullback-Leibler distance to the product of the marginals, the closest
    of all products, and hence the least that any mean field must lose. A normal density
    with correlation :math:`\rho` has :math:`-\tfrac12 \log(1 - \rho^2)`; for A1 at
    low temperature, :math:`\rho` is that of the inverse Hessian at the minimum. Cells
    where rounding made the density negative are left out of the sums of logarithms.
    Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    joint
        Density, cell averages, of mass 1 to within 1e-6, shape ``grid.shape``.
    grid
        Grid of two dimensions.

    Returns
    -------
    float
        Mutual information in nats, >= 0.

    Raises
    ------
    ValueError
        If the grid is not two-dimensional or the density does not fit it.
    """
    density = _joint_density(joint, grid)
    h1, h2 = (edges[1] - edges[0] for edges in grid.edges)
    p1, p2 = density.sum(axis=1) * h2, density.sum(axis=0) * h1
    entropies = [
        special.entr(np.maximum(p, 0)).sum() * volume
        for p, volume in ((p1, h1), (p2, h2), (density, h1 * h2))
    ]
    return float(entropies[0] + entropies[1] - entropies[2])


def _joint_density(joint: ArrayLike, grid: Grid) -> Array:
    require_type(Grid, grid=grid)
    if len(grid.shape) != 2:
        raise ValueError(f"grid must have 2 dimensions, got {len(grid.shape)}")
    return require_density("joint", joint, grid.shape, grid.cell_volume)


def output_density(
    joint: ArrayLike, grid: Grid, edges: ArrayLike, data_scale: float = 1.0
) -> Array:
    r"""Density of the output of linear A1 networks with random weights and data.

    The output is :math:`z = u x` with :math:`u = w_1 w_2` and :math:`x \sim N(0, s^2)`
    drawn afresh for each network, so that

    .. math::
        P(z \le a) = \int p(w_1, w_2)\, \Phi\Bigl(\frac{a}{|w_1 w_2|\, s}\Bigr)\, dw

    with the normal distribution function :math:`\Phi`. Its differences over the bins
    are smooth in the weights, unlike the density, which is infinite at :math:`z = 0`
    where networks of output zero are. The weights are those of the cell centres.
    Source: derived in the chapter *Weight densities of a two-bottleneck autoencoder*.

    Parameters
    ----------
    joint
        Density of :math:`(w_1, w_2)`, cell averages, of mass 1 to within 1e-6, shape
        ``grid.shape``.
    grid
        Grid of two dimensions.
    edges
        Edges of the bins of :math:`z`, increasing, shape (n + 1,).
    data_scale
        Standard deviation :math:`s > 0` of the data.

    Returns
    -------
    array
        Bin averages of the density of :math:`z`, shape (n,); times the widths of the
        bins they are the probabilities, which miss what lies beyond the edges.

    Raises
    ------
    ValueError
        If an argument is out of range or has the wrong shape.
    """
    density = _joint_density(joint, grid)
    require_positive(data_scale=data_scale)
    z = require_edges(edges)
    w1, w2 = grid.centers
    distribution = np.zeros(z.size)
    for first, row in zip(w1, density, strict=True):
        scale = np.maximum(np.abs(first * w2) * data_scale, SMALLEST_OUTPUT)
        distribution += row @ special.ndtr(z / scale[:, None])
    return np.asarray(np.diff(distribution) * grid.cell_volume / np.diff(z))


# Scale of an output that stands for zero: any edge but 0 itself is far beyond it.
SMALLEST_OUTPUT = 1e-150
