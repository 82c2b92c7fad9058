"""Entropy production of a circulating density, and Boltzmann laws of the speed."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_continuous_lyapunov

from benchmarks.harness import Case, Peer, Run
from fpbook.finite_volumes import Grid
from fpbook.fokker_planck import FokkerPlanck
from fpbook.steady_states import entropy_production, masses_near, speed_density

Array = NDArray[np.float64]

# --- entropy production -------------------------------------------------------------

FORCE = np.array([[1.0, 0.8], [-0.5, 0.6]])
"""Minus the matrix of a linear force."""
DIFFUSION = 0.5
SPREAD = solve_continuous_lyapunov(FORCE, 2 * DIFFUSION * np.eye(2))
INVERSE = np.linalg.inv(SPREAD)


def _density(cells: int) -> tuple[Grid, Array]:
    grid = Grid([-6, -6], [6, 6], round(cells**0.5))
    w = grid.points
    p = np.exp(-np.einsum("ni,ij,nj->n", w, INVERSE, w) / 2)
    return grid, (p / p.sum() / grid.cell_volume).reshape(grid.shape)


def _drift(w: Array) -> Array:
    return np.asarray(-w @ FORCE.T)


def _production(cells: int) -> Run:
    grid, p = _density(cells)
    equation = FokkerPlanck(grid, DIFFUSION, drift=_drift)
    return lambda: entropy_production(equation, p)


def _production_by_gradients(cells: int) -> Run:
    """The integral of J D^-1 J / p, with the slopes of numpy.gradient."""
    grid, p = _density(cells)

    def run() -> float:
        force = np.moveaxis(_drift(grid.points).reshape(*grid.shape, 2), -1, 0)
        slopes = np.asarray(np.gradient(p, *grid.spacing, edge_order=2))
        current = force * p - DIFFUSION * slopes
        density = (current**2).sum(axis=0) / DIFFUSION / np.maximum(p, 1e-300)
        return float(density.sum() * grid.cell_volume)

    return run


def _error_of_production(found: float, _: int) -> float:
    """Relative, from the velocity (D S^-1 - A) w of probability."""
    velocity = DIFFUSION * INVERSE - FORCE
    exact = np.trace(velocity.T @ velocity @ SPREAD) / DIFFUSION
    return float(abs(found / exact - 1))


# --- the speed ----------------------------------------------------------------------

TEMPERATURE = 0.01
ZEROS = np.array([[x, y] for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0)])


def _cubic(x: Array) -> Array:
    return x - x**3


def _speed_grid(cells: int) -> Grid:
    return Grid([-2, -2], [2, 2], round(cells**0.5))


def _masses(cells: int) -> Run:
    grid = _speed_grid(cells)

    def run() -> Array:
        return masses_near(speed_density(grid, _cubic, TEMPERATURE), grid, ZEROS)

    return run


def _masses_by_distances(cells: int) -> Run:
    """All distances of all points from all zeros."""
    grid = _speed_grid(cells)

    def run() -> Array:
        w = grid.points
        weights = np.exp(-(_cubic(w) ** 2).sum(axis=1) / (2 * TEMPERATURE))
        weights /= weights.sum()
        away = np.linalg.norm(w[:, None] - ZEROS, axis=2)
        near = away == away.min(axis=1, keepdims=True)
        first = near & (near.cumsum(axis=1) == 1)
        return np.array([weights[chosen].sum() for chosen in first.T])

    return run


def _error_of_masses(found: Array, _: int) -> float:
    """Against products of integrals over one coordinate, by Gauss's points."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    borders = (-2.0, -0.5, 0.5, 2.0)
    parts = []
    for low, high in pairwise(borders):
        x = low + (nodes + 1) * (high - low) / 2
        law = np.exp(-((x - x**3) ** 2) / (2 * TEMPERATURE))
        parts.append(weights @ law * (high - low) / 2)
    shares = np.array(parts) / sum(parts)
    return float(np.abs(found - np.multiply.outer(shares, shares).ravel()).max())


CASES = (
    Case(
        name="entropy production",
        module="steady_states",
        kernel="entropy_production",
        measures="Of the density at rest under a linear force that turns.",
        size_name="cells",
        sizes=(64**2, 128**2, 256**2, 512**2),
        setup=_production,
        exact="closed form for a Gaussian",
        error_name="relative error",
        error=_error_of_production,
        tolerance=2e-4,
        order=1.0,
        reference=Peer("numpy, slopes of the density", _production_by_gradients),
    ),
    Case(
        name="law of the speed",
        module="steady_states",
        kernel="speed_density, masses_near",
        measures="Boltzmann law of the speed of two weights, shared among nine zeros.",
        size_name="cells",
        sizes=(64**2, 128**2, 256**2, 512**2),
        setup=_masses,
        exact="integrals over one coordinate",
        error_name="largest error",
        error=_error_of_masses,
        tolerance=1e-6,
        order=1.0,
        reference=Peer("numpy, all distances", _masses_by_distances),
    ),
)
