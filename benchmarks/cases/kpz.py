"""Moments of rough surfaces, and the terms of the equation of a log-density."""

from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.harness import Case, Peer, Run
from fpbook.finite_volumes import Grid
from fpbook.kpz import height_moments, log_density_equation

Array = NDArray[np.float64]

BLOCKS, SEED = 32, 0

# --- moments ------------------------------------------------------------------------


def _heights(sites: int) -> Array:
    """A surface of whole numbers, of which all sums of powers are exact."""
    rng = np.random.default_rng(SEED)
    return np.round(rng.gamma(4.0, 40.0, sites)).astype(float)


def _moments(sites: int) -> Run:
    heights = _heights(sites)
    return lambda: np.array(height_moments(heights, BLOCKS))


def _moments_by_scipy(sites: int) -> Run:
    """Leave out one block after the other, and take all moments of the rest."""
    heights = _heights(sites)

    def all_four(h: Array) -> Array:
        return np.array([h.mean(), h.var(), stats.skew(h), stats.kurtosis(h)])

    def run() -> Array:
        value = all_four(heights)
        blocks = heights.reshape(BLOCKS, -1)
        rest = [all_four(np.delete(blocks, i, 0).ravel()) for i in range(BLOCKS)]
        unbiased = BLOCKS * value - (BLOCKS - 1) * np.mean(rest, axis=0)
        return np.stack([unbiased, np.sqrt((BLOCKS - 1) * np.var(rest, axis=0))])

    return run


def _moments_by_resampling(sites: int) -> Run:
    """Statistics of scipy on the axis of all blocks but one, at once."""
    heights = _heights(sites).reshape(BLOCKS, -1)
    others = np.array([[j for j in range(BLOCKS) if j != i] for i in range(BLOCKS)])

    def all_four(h: Array) -> Array:
        rows = (h.mean(-1), h.var(-1), stats.skew(h, -1), stats.kurtosis(h, -1))
        return np.stack(rows)

    def run() -> Array:
        value = all_four(heights.ravel())
        rest = all_four(heights[others].reshape(BLOCKS, -1))
        unbiased = BLOCKS * value - (BLOCKS - 1) * rest.mean(axis=1)
        return np.stack([unbiased, np.sqrt((BLOCKS - 1) * rest.var(axis=1))])

    return run


@cache
def _exact_moments(sites: int) -> Array:
    """The same jackknife with fractions; only roots are rounded."""
    blocks = _heights(sites).astype(np.int64).reshape(BLOCKS, -1)
    sums = [[int((block**n).sum()) for block in blocks] for n in range(1, 5)]
    size = sites // BLOCKS

    def all_four(totals: list[int], count: int) -> list[float]:
        m1, m2, m3, m4 = (Fraction(total, count) for total in totals)
        variance = m2 - m1**2
        third = m3 - 3 * m1 * m2 + 2 * m1**3
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        skewness = float(third) / float(variance) ** 1.5
        return [float(m1), float(variance), skewness, float(fourth / variance**2) - 3]

    whole = np.array(all_four([sum(s) for s in sums], sites))
    rest = np.array(
        [all_four([sum(s) - s[i] for s in sums], sites - size) for i in range(BLOCKS)]
    )
    unbiased = BLOCKS * whole - (BLOCKS - 1) * rest.mean(axis=0)
    return np.stack([unbiased, np.sqrt((BLOCKS - 1) * rest.var(axis=0))])


def _error_of_moments(moments: Array, sites: int) -> float:
    values, errors = _exact_moments(sites)
    return float((np.abs(moments[0] - values) / errors).max())


# --- the equation of a log-density --------------------------------------------------

TIMES = np.array([0.5, 0.501, 0.502])
TEMPERATURE = 0.5


def _gaussians(cells: int) -> tuple[Grid, Array]:
    """Densities of two weights in a round bowl, from a point; means are off it."""
    grid = Grid([-3, -3], [3, 3], round(cells**0.5))
    densities = []
    for time in TIMES:
        variance = TEMPERATURE * (1 - np.exp(-2 * time))
        one = [np.exp(-((w - np.exp(-time)) ** 2) / variance / 2) for w in grid.centers]
        densities.append(np.multiply.outer(*one) / (2 * np.pi * variance))
    return grid, np.stack(densities)


def _bowl(w: Array) -> Array:
    loss: Array = (w**2).sum(axis=-1) / 2
    return loss


def _terms(cells: int) -> Run:
    grid, p = _gaussians(cells)

    def run() -> Array:
        found = log_density_equation(grid, p, TIMES, _bowl, TEMPERATURE)
        return np.stack(found[1:])[:, 0]

    return run


def _terms_by_numpy(cells: int) -> Run:
    """All derivatives by numpy.gradient, the second ones by applying it twice."""
    grid, p = _gaussians(cells)

    def run() -> Array:
        h = np.log(p)
        loss = _bowl(grid.points).reshape(grid.shape)
        rate = np.gradient(h, TIMES, axis=0)[1]
        slopes = np.gradient(h[1], *grid.spacing)
        bends = [np.gradient(s, w, axis=i) for i, (s, w) in _each(slopes, grid)]
        loss_slopes = np.gradient(loss, *grid.spacing)
        loss_bends = [
            np.gradient(s, w, axis=i) for i, (s, w) in _each(loss_slopes, grid)
        ]
        terms = [
            rate,
            TEMPERATURE * sum(bends),
            TEMPERATURE * sum(s**2 for s in slopes),
            sum(a * b for a, b in zip(loss_slopes, slopes, strict=True)),
            sum(loss_bends),
        ]
        return np.stack([term[1:-1, 1:-1] for term in terms])

    return run


def _each(slopes: list[Array], grid: Grid) -> list[tuple[int, tuple[Array, float]]]:
    return list(enumerate(zip(slopes, grid.spacing, strict=True)))


def _error_of_terms(terms: Array, cells: int) -> float:
    """Mean error of the terms over the density, in their closed form."""
    grid, p = _gaussians(cells)
    time = TIMES[1]
    mean, variance = np.exp(-time), TEMPERATURE * (1 - np.exp(-2 * time))
    drop, growth = -mean, 2 * (TEMPERATURE - variance)
    x = np.meshgrid(*(w[1:-1] for w in grid.centers), indexing="ij")
    away = [w - mean for w in x]
    size = sum(a**2 for a in away)
    rate = (
        sum(a * drop for a in away) / variance
        + size * growth / (2 * variance**2)
        - growth / variance
    )
    exact = [
        rate,
        np.full(rate.shape, -2 * TEMPERATURE / variance),
        TEMPERATURE * size / variance**2,
        -sum(w * a for w, a in zip(x, away, strict=True)) / variance,
        np.full(rate.shape, 2.0),
    ]
    weight = p[1][1:-1, 1:-1] * grid.cell_volume
    error = np.abs(terms - np.stack(exact)).sum(axis=0)
    return float((weight * error).sum() / (weight * np.abs(exact).sum(axis=0)).sum())


CASES = (
    Case(
        name="moments of heights",
        module="kpz",
        kernel="height_moments",
        measures=f"Four moments of a surface and their errors, from {BLOCKS} blocks.",
        size_name="heights",
        sizes=(2**12, 2**14, 2**16, 2**18, 2**20),
        setup=_moments,
        exact="the same jackknife with fractions",
        error_name="share of the standard error",
        error=_error_of_moments,
        tolerance=1e-6,
        reference=Peer("scipy, block by block", _moments_by_scipy, largest=2**18),
        peers=(Peer("scipy, all at once", _moments_by_resampling, largest=2**16),),
    ),
    Case(
        name="terms of a log-density",
        module="kpz",
        kernel="log_density_equation",
        measures="The five terms of the KPZ equation of two weights, at one time.",
        size_name="cells",
        sizes=(64**2, 128**2, 256**2, 512**2),
        setup=_terms,
        exact="closed form of the terms of a Gaussian",
        error_name="mean relative error",
        error=_error_of_terms,
        tolerance=1e-6,
        reference=Peer("numpy, gradient twice", _terms_by_numpy),
    ),
)
