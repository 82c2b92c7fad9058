r"""The KPZ equation of a log-density, and what a surface of the KPZ class looks like.

The logarithm :math:`h = \log p` of a density that obeys the Fokker-Planck equation
:math:`\partial_t p = \nabla\cdot(p \nabla L) + D \nabla^2 p` obeys

.. math:: \partial_t h = D \nabla^2 h + D |\nabla h|^2 + \nabla L \cdot \nabla h
    + \nabla^2 L

(:func:`log_density_equation`): the equation of Kardar, Parisi and Zhang with
:math:`\nu = D` and :math:`\lambda = 2D`, carried along by the loss, and **without
noise**. With short-range noise, it roughens: on a line its heights spread as
:math:`t^{1/3}`, and their fluctuations have the laws of :mod:`fpbook.tracy_widom`
(simulations: :mod:`fpbook.growing_surfaces`; both are importable from here). The
functions below measure this: moments with errors from blocks, growth exponents,
structure factors. What independent networks do instead is counting
(:func:`empirical_log_density`, :func:`multinomial_variance`).

Sources: Kardar, Parisi and Zhang, Phys. Rev. Lett. 56, 889 (1986); derived in the
chapter *The log-density is a growing surface: KPZ*.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpbook.finite_volumes import Diffusion, Field, Grid, on_grid, read_diffusion
from fpbook.growing_surfaces import (
    directed_polymer,
    kpz_equation,
    last_passage,
    random_environment_walk,
)
from fpbook.tracy_widom import LimitLaw, baik_rains, tracy_widom
from fpbook.validation import (
    LARGEST,
    require_all_positive,
    require_callable,
    require_edges,
    require_integer,
    require_real,
    require_times,
    require_type,
    require_walkers,
)

__all__ = [
    "Exponent",
    "LimitLaw",
    "LogDensityTerms",
    "Moments",
    "baik_rains",
    "directed_polymer",
    "empirical_log_density",
    "growth_exponent",
    "height_moments",
    "kpz_equation",
    "last_passage",
    "log_density_equation",
    "multinomial_variance",
    "random_environment_walk",
    "roughness",
    "structure_factor",
    "tracy_widom",
]

Array = NDArray[np.float64]

# --- the equation of a log-density --------------------------------------------------

SMALLEST_DENSITY = 1e-280
"""Below it a density has too few digits for a logarithm."""


class LogDensityTerms(NamedTuple):
    r"""Terms of the equation of :math:`h`; arrays (m - 2, cells - 2, ...), 1 / time.

    Attributes
    ----------
    density
        :math:`p` where the terms are taken.
    rate
        :math:`\partial_t h`.
    smoothing
        :math:`D \nabla^2 h`.
    growth
        :math:`D |\nabla h|^2`.
    advection
        :math:`(\nabla L + 2 \nabla D) \cdot \nabla h`.
    source
        :math:`\nabla^2 L + \nabla^2 D`.
    """

    density: Array
    rate: Array
    smoothing: Array
    growth: Array
    advection: Array
    source: Array

    @property
    def residual(self) -> Array:
        """Left side minus right side."""
        return self.rate - self.smoothing - self.growth - self.advection - self.source

    @property
    def relative_residual(self) -> float:
        """Mean over the density of the residual's size, over that of all terms."""
        residual = self.residual
        known = np.isfinite(residual)
        if not known.any():
            raise ValueError("densities must be above 1e-280 somewhere, got none")
        weight = self.density[known]
        terms = sum(np.abs(term[known]) for term in self[1:])
        return float(np.sum(weight * np.abs(residual[known])) / np.sum(weight * terms))


def log_density_equation(
    grid: Grid,
    densities: ArrayLike,
    times: ArrayLike,
    potential: Field,
    diffusion: Diffusion,
) -> LogDensityTerms:
    r"""Terms of the KPZ equation that the logarithm of a density obeys.

    .. math:: \partial_t h = \sum_i \bigl[ D_i\, \partial_i^2 h + D_i (\partial_i h)^2
        + (\partial_i L + 2 \partial_i D_i)\, \partial_i h
        + \partial_i^2 L + \partial_i^2 D_i \bigr]

    All derivatives are differences of second order between neighbouring cells and
    times, taken from the arguments and from nothing else: the terms add up only if the
    densities solve the Fokker-Planck equation. Source: derived in the chapter *The
    log-density is a growing surface: KPZ*.

    Parameters
    ----------
    grid
        The box and its cells, at least 3 along each axis.
    densities
        Cell averages at the times, such as ``FokkerPlanck.evolve`` returns, shape
        (m, \*grid.shape).
    times
        Times, >= 0 and increasing, shape (m,) with m >= 3.
    potential
        :math:`L`, callable (n, d) -> (n,).
    diffusion
        :math:`D`, in weight squared per time: a number; an array (d,), one per axis; or
        a callable (n, d) -> (n, d), diagonal and depending on the weights.

    Returns
    -------
    LogDensityTerms
        The terms at the inner times and cells, NaN where a density below 1e-280 would
        be needed.

    Raises
    ------
    ValueError
        If a shape does not fit, fewer than three times or cells are given, or the
        diffusion is a full tensor.
    """
    require_type(Grid, grid=grid)
    require_callable(potential=potential)
    moments, p = require_times(times), require_real("densities", densities)
    if len(moments) < 3 or p.shape != (len(moments), *grid.shape):
        raise ValueError(
            f"densities must have shape (m, {', '.join(map(str, grid.shape))}) with "
            f"m >= 3 times, got {p.shape} for {len(moments)} times"
        )
    if not np.all(np.abs(p) <= LARGEST):
        raise ValueError(f"densities must be finite, got {densities!r}")
    if min(grid.shape) < 3:
        raise ValueError(f"grid must have >= 3 cells along each axis, has {grid.shape}")
    d = len(grid.shape)
    constant, at_centers = read_diffusion(grid, diffusion)
    if at_centers is not None and at_centers.ndim == d + 2:
        raise ValueError("diffusion must be diagonal, got a full tensor")
    h = np.log(np.where(p > SMALLEST_DENSITY, p, np.nan))
    inner = (slice(1, -1),) * d
    level = on_grid("potential", potential, grid.centers, ())
    now = h[1:-1]
    shape = now[(slice(None), *inner)].shape
    smoothing, growth, advection, source = (np.zeros(shape) for _ in range(4))
    for axis in range(d):
        spread = (
            np.full(grid.shape, constant[axis])
            if constant is not None
            else np.asarray(at_centers)[..., axis]
        )
        width = grid.spacing[axis]
        slope, bend = _differences(now, axis + 1, width)
        loss_slope, loss_bend = _differences(level[None], axis + 1, width)
        spread_slope, spread_bend = _differences(spread[None], axis + 1, width)
        smoothing += spread[inner] * bend
        growth += spread[inner] * slope**2
        advection += (loss_slope + 2 * spread_slope) * slope
        source += loss_bend + spread_bend
    # Of second order also where the times are not equally spaced.
    before, after = np.diff(moments)[:-1], np.diff(moments)[1:]
    backward, forward = (
        np.diff(h, axis=0)[part] / step.reshape(-1, *(1,) * d)
        for part, step in ((slice(None, -1), before), (slice(1, None), after))
    )
    share = (before / (before + after)).reshape(-1, *(1,) * d)
    rate = share * forward + (1 - share) * backward
    cut = (slice(None), *inner)
    return LogDensityTerms(
        p[1:-1][cut], rate[cut], smoothing, growth, advection, source
    )


def _differences(field: Array, axis: int, width: float) -> tuple[Array, Array]:
    """First and second derivative along one axis, at the inner cells of all axes."""
    left, middle, right = (
        field[
            (
                slice(None),
                *(
                    slice(1 + shift, field.shape[i] - 1 + shift)
                    if i == axis
                    else slice(1, -1)
                    for i in range(1, field.ndim)
                ),
            )
        ]
        for shift in (-1, 0, 1)
    )
    return (right - left) / (2 * width), (right - 2 * middle + left) / width**2


# --- measuring a surface ------------------------------------------------------------


class Moments(NamedTuple):
    """Mean, variance, skewness and excess kurtosis of heights."""

    mean: float
    variance: float
    skewness: float
    kurtosis: float


def height_moments(heights: ArrayLike, blocks: int = 32) -> tuple[Moments, Moments]:
    r"""Moments of the heights of a surface, with errors from blocks.

    Neighbouring heights are correlated over :math:`t^{2/3}` sites, so that a surface
    has far fewer independent heights than sites. Errors come from the jackknife over
    blocks of sites, which is right if blocks are much longer than that; the jackknife
    also removes the bias of order 1 / blocks. Source: Efron and Stein, Ann. Stat. 9,
    586 (1981).

    Parameters
    ----------
    heights
        Heights, shape (n,), or (samples, n); then no block holds heights of two samples
        if ``blocks`` is a multiple of their number, and whole samples make up a block
        if it divides their number.
    blocks
        Number of blocks, from 2 to the number of heights; it has to divide that.

    Returns
    -------
    values, errors
        The moments and their standard errors.

    Raises
    ------
    ValueError
        If heights are not finite, those without one of the blocks are all equal, or the
        number of blocks does not divide that of heights.
    """
    h = require_real("heights", heights)
    if h.ndim not in (1, 2) or not h.size or not np.all(np.abs(h) <= LARGEST):
        raise ValueError(
            f"heights must be finite and of shape (n,) or (samples, n), got {h.shape}"
        )
    require_integer(2, blocks=blocks)
    if h.size % blocks:
        raise ValueError(
            f"blocks must divide the number of heights, {h.size}, got {blocks}"
        )
    # About a common origin: powers of heights that have grown far would lose digits.
    origin = h.mean()
    centred = (h - origin).reshape(blocks, -1)
    powers = np.stack([(centred**n).mean(axis=1) for n in range(1, 5)])
    total = powers.mean(axis=1)
    without_one = (total[:, None] * blocks - powers) / (blocks - 1)
    spread = without_one[1] - without_one[0] ** 2
    if np.any(spread <= 1e-14 * total[1]):
        raise ValueError("heights must not all be equal, nor those without one block")
    value = _standardised(total)
    left_out = _standardised(without_one)
    unbiased = blocks * value - (blocks - 1) * left_out.mean(axis=1)
    error = np.sqrt((blocks - 1) * left_out.var(axis=1))
    unbiased[0] += origin
    return Moments(*unbiased.tolist()), Moments(*error.tolist())


def _standardised(powers: Array) -> Array:
    """Mean, variance, skewness and excess kurtosis from means of powers 1 to 4."""
    m1, m2, m3, m4 = powers
    variance = m2 - m1**2
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return np.array([m1, variance, third / variance**1.5, fourth / variance**2 - 3])


class Exponent(NamedTuple):
    """A measured exponent and its standard error."""

    value: float
    error: float


def growth_exponent(times: ArrayLike, variances: ArrayLike) -> Exponent:
    r"""Exponent with which the width of a surface grows.

    .. math:: \mathrm{Var}\, h \sim t^{2\beta}

    by least squares on logarithmic axes. It serves as well for the exponent
    :math:`\alpha` of the squared height differences over a length.

    Parameters
    ----------
    times
        Times, > 0, shape (m,), m >= 2 of them different.
    variances
        Variances, > 0, shape (m,), m >= 3: the error is then that of the fit and takes
        the variances as independent. Or (blocks, m), from at least two independent
        samples or parts of a surface: then they are averaged, and the error, by the
        jackknife over them, also holds for variances that are correlated in time.

    Returns
    -------
    Exponent
        :math:`\beta` and its standard error.

    Raises
    ------
    ValueError
        If a shape does not fit or a number is not finite and > 0.
    """
    require_all_positive(times=times, variances=variances)
    t, v = np.asarray(times, dtype=float), np.asarray(variances, dtype=float)
    if t.ndim != 1 or len(np.unique(t)) < 2:
        raise ValueError(
            f"times must have shape (m,) and two different values, got {times!r}"
        )
    if v.ndim not in (1, 2) or v.shape[-1] != len(t):
        raise ValueError(
            f"variances must have shape ({len(t)},) or (blocks, {len(t)}) for "
            f"{len(t)} times, got {v.shape}"
        )
    if (v.ndim == 1 and len(t) < 3) or (v.ndim == 2 and len(v) < 2):
        raise ValueError(
            f"variances must be at least 3, or 2 blocks of them, for an error, got "
            f"shape {v.shape}"
        )
    position = np.log(t) - np.log(t).mean()

    def fitted(of: Array) -> Array:
        return np.asarray(np.log(of) @ position / (2 * position @ position))

    if v.ndim == 1:
        beta = float(fitted(v))
        residual = np.log(v) - np.log(v).mean() - 2 * beta * position
        spread = residual @ residual / (len(t) - 2)
        return Exponent(beta, float(np.sqrt(spread / (position @ position)) / 2))
    mean = v.mean(axis=0)
    left_out = fitted((mean * len(v) - v) / (len(v) - 1))
    error = np.sqrt((len(v) - 1) * left_out.var())
    return Exponent(float(fitted(mean)), float(error))


def roughness(heights: ArrayLike) -> Array:
    r"""Squared width of each surface, the variance over its sites.

    .. math:: w^2 = \frac1L \sum_x (h_x - \bar h)^2

    On a ring of :math:`L` sites it saturates at a value :math:`\sim L^{2\alpha}`, after
    a time :math:`\sim L^z`. Source: Family and Vicsek, J. Phys. A 18, L75 (1985).

    Parameters
    ----------
    heights
        Heights, finite, shape (..., L).

    Returns
    -------
    array
        Squared widths, shape (...).

    Raises
    ------
    ValueError
        If there are no sites, or heights are not finite.
    """
    return np.asarray(_surface(heights).var(axis=-1))


def structure_factor(heights: ArrayLike) -> tuple[Array, Array]:
    r"""Mean square of the Fourier modes of a ring.

    .. math:: S(k) = \frac1L \Bigl\langle \Bigl| \sum_x h_x e^{-ikx} \Bigr|^2
        \Bigr\rangle \sim k^{-1-2\alpha}, \qquad
        k = \frac{2\pi}{L}, \frac{4\pi}{L}, \ldots, \pi

    for wavelengths below the correlation length :math:`t^{1/z}`. The sum of S over
    positive and negative k, divided by L, is the squared width (:func:`roughness`).
    Source: the definition.

    Parameters
    ----------
    heights
        Heights of rings, finite, shape (..., L), L >= 2; averaged over all but the
        last axis.

    Returns
    -------
    wave_numbers, factor
        :math:`k`, in 1 / site, and :math:`S`, in height squared, shape (L // 2,).

    Raises
    ------
    ValueError
        If there are fewer than two sites or no ring, or heights are not finite.
    """
    h = _surface(heights, 2)
    width = h.shape[-1]
    modes = np.fft.rfft(h)[..., 1:]
    factor = (np.abs(modes) ** 2).reshape(-1, width // 2).mean(axis=0) / width
    return 2 * np.pi * np.arange(1, width // 2 + 1) / width, factor


def _surface(heights: ArrayLike, fewest: int = 1) -> Array:
    h = require_real("heights", heights)
    if h.ndim == 0 or h.shape[-1] < fewest or not np.all(np.abs(h) <= LARGEST):
        raise ValueError(
            f"heights must be finite, shape (..., L) with L >= {fewest}, got {h.shape}"
        )
    if not h.size:
        raise ValueError(f"heights must hold at least one ring, got {h.shape}")
    return h


# --- independent networks -----------------------------------------------------------


def empirical_log_density(walkers: ArrayLike, edges: ArrayLike) -> Array:
    r"""Logarithm of the histogram of a cloud of networks with one weight each.

    .. math:: h_b = \log \frac{n_b}{N\, \Delta_b}

    with :math:`n_b` of :math:`N` walkers in bin :math:`b` of width :math:`\Delta_b`.
    Source: the definition.

    Parameters
    ----------
    walkers
        Weights of N networks in each of M clouds, shape (M, N). Those outside of all
        bins count in N.
    edges
        Bin edges, increasing, shape (bins + 1,).

    Returns
    -------
    array
        Heights, (M, bins); minus infinity for an empty bin.

    Raises
    ------
    ValueError
        If walkers are not finite or the edges do not increase.
    """
    clouds = require_walkers("walkers", walkers)
    faces = require_edges(edges)
    counts = np.stack([np.histogram(cloud, faces)[0] for cloud in clouds])
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(counts / (clouds.shape[1] * np.diff(faces))))


def multinomial_variance(probability: ArrayLike, networks: int) -> Array:
    r"""Variance of an empirical log-density, if networks are independent.

    .. math:: \mathrm{Var}\, h = \frac{1 - P}{N P}

    to leading order in :math:`1 / (N P)`, with :math:`P` the probability of the bin:
    counts are multinomial whatever the dynamics was. Source: derived in the chapter
    *The log-density is a growing surface: KPZ*.

    Parameters
    ----------
    probability
        :math:`P` from 0, excluded, to 1, any shape.
    networks
        :math:`N \ge 1`.

    Returns
    -------
    array
        Variances, the shape of ``probability``.

    Raises
    ------
    ValueError
        If a probability is not in (0, 1], or N is not an integer >= 1.
    """
    p = require_real("probability", probability)
    if not p.size or not np.all((p > 0) & (p <= 1)):
        raise ValueError(f"probability must be in (0, 1], got {probability!r}")
    require_integer(1, networks=networks)
    return np.asarray((1 - p) / (networks * p))
