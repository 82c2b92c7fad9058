"""Mean field of a linear autoencoder: moments of normal densities, and densities."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.linalg import solve_banded

from benchmarks.harness import Case, Peer, Run
from benchmarks.remote import Elsewhere
from fpbook.finite_volumes import Grid, gaussian
from fpbook.mean_field import mean_field, mean_field_moments

Array = NDArray[np.float64]

TEMPERATURE, DECAY, END = 0.05, 0.1, 2.0
SPREAD = 0.01
"""Variance of every entry at the start."""

# --- normal densities ---------------------------------------------------------------


def _problem(inputs: int) -> tuple[Array, Array]:
    """Means of both matrices, with one hidden neuron, and the data's covariance."""
    rng = np.random.default_rng(6)
    data = rng.standard_normal((inputs, 2 * inputs))
    return rng.standard_normal(inputs) / inputs**0.5, data @ data.T / (2 * inputs)


def _moments(inputs: int) -> Run:
    mean, S = _problem(inputs)
    means = (mean[None], SPREAD, mean[:, None], SPREAD)

    def run() -> Array:
        found = mean_field_moments(*means, [END], TEMPERATURE, S, DECAY)
        parts = (found.mean1, found.mean2, found.covariance1, found.covariance2)
        return np.concatenate([part.ravel() for part in parts])

    return run


def _velocity(state: Any, S: Any, eye: Any) -> tuple[Any, ...]:
    """Velocity of both means and covariances, for arrays of any kind."""
    m1, m2, V1, V2 = state
    decoder = m2 @ m2 + (V2 * eye).sum()
    encoder = m1 @ S @ m1 + (V1 * S).sum()
    H = decoder * S + DECAY * eye
    return (
        S @ m2 - H @ m1,
        S @ m1 - (encoder + DECAY) * m2,
        2 * TEMPERATURE * eye - H @ V1 - V1 @ H,
        2 * TEMPERATURE * eye - 2 * (encoder + DECAY) * V2,
    )


def _integrated(inputs: int, method: str, tolerance: float) -> Array:
    mean, S = _problem(inputs)
    eye, size = np.eye(inputs), inputs**2

    def velocity(_: float, y: Array) -> Array:
        m1, m2, V1, V2 = np.split(y, [inputs, 2 * inputs, 2 * inputs + size])
        state = m1, m2, V1.reshape(S.shape), V2.reshape(S.shape)
        return np.concatenate([part.ravel() for part in _velocity(state, S, eye)])

    covariance = (SPREAD * eye).ravel()
    start = np.concatenate([mean, mean, covariance, covariance])
    options = {"rtol": tolerance, "atol": tolerance}
    return np.asarray(solve_ivp(velocity, (0, END), start, method, **options).y[:, -1])


def _plain_moments(inputs: int) -> Run:
    return lambda: _integrated(inputs, "RK45", 1e-10)


def _torch_moments(inputs: int) -> Run:
    import torch
    from torchdiffeq import odeint

    mean, S = (torch.from_numpy(part) for part in _problem(inputs))
    eye = torch.eye(inputs, dtype=torch.float64)
    start = (mean, mean, SPREAD * eye, SPREAD * eye)
    times = torch.tensor([0.0, END], dtype=torch.float64)

    def run() -> Array:
        with torch.no_grad():
            path = odeint(
                lambda _, state: _velocity(state, S, eye),
                start,
                times,
                rtol=1e-10,
                atol=1e-10,
                method="dopri5",
            )
        return np.concatenate([np.asarray(part[-1]).ravel() for part in path])

    return run


def _moment_inputs(inputs: int) -> dict[str, Any]:
    mean, S = _problem(inputs)
    constants = {"temperature": TEMPERATURE, "decay": DECAY, "end": END}
    return {**constants, "mean": mean, "S": S, "spread": SPREAD}


@cache
def _exact_moments(inputs: int) -> Array:
    return _integrated(inputs, "DOP853", 1e-13)


def _error_of_moments(found: Any, inputs: int) -> float:
    exact = _exact_moments(inputs)
    return float(np.abs(np.asarray(found) - exact).max() / np.abs(exact).max())


# --- densities of two weights -------------------------------------------------------

EDGE, MEAN, STD, COUPLING = 3.0, 0.6, 0.3, 0.02


def _grid(cells: int) -> Grid:
    return Grid(-EDGE, EDGE, cells)


def _densities(cells: int) -> Run:
    grid = _grid(cells)
    start = gaussian(grid, MEAN, STD)
    args = (start, grid, start, grid, [END], TEMPERATURE, 1.0, DECAY, COUPLING)
    return lambda: np.concatenate(mean_field(*args))


STEP = 0.0004
"""Of the plain way, whose steps are of first order."""


def _plain_densities(cells: int) -> Run:
    """Implicit steps with central differences, of one weight after the other."""
    grid = _grid(cells)
    h, w = grid.spacing[0], grid.centers[0]
    faces = (w[1:] + w[:-1]) / 2

    def moved(p: Array, other: Array, dt: float) -> Array:
        first, second = (other @ w) * h, (other @ w**2) * h
        drift = (first - (second + DECAY) * faces) / (2 * h)
        right, left = TEMPERATURE / h**2 + drift, TEMPERATURE / h**2 - drift
        bands = np.zeros((3, cells))
        bands[0, 1:], bands[2, :-1] = -dt * left, -dt * right
        bands[1] = 1 + dt * (np.append(right, 0) + np.append(0, left))
        return np.asarray(solve_banded((1, 1), bands, p))

    def run() -> Array:
        p1 = p2 = gaussian(grid, MEAN, STD)
        for _ in range(round(END / STEP)):
            p1 = moved(p1, p2, STEP)
            p2 = moved(p2, p1, STEP)
        return np.stack([p1, p2])

    return run


def _error_of_densities(found: Array, cells: int) -> float:
    """Normal densities stay normal, with moments that are integrated."""
    grid = _grid(cells)
    start = (MEAN, STD**2, MEAN, STD**2)
    moments = mean_field_moments(*start, [END], TEMPERATURE, 1.0, DECAY)
    mean, variance = moments.mean1[0, 0, 0], moments.covariance1[0, 0, 0]
    exact = gaussian(grid, mean, variance**0.5)
    return float(np.abs(found - exact).sum(axis=1).max() * grid.cell_volume)


CASES = (
    Case(
        name="moments of the mean field",
        module="mean_field",
        kernel="mean_field_moments",
        measures="Means and covariances of both matrices of a network with one neuron.",
        size_name="inputs",
        sizes=(2, 4, 8, 16, 32),
        setup=_moments,
        exact="DOP853 to 1e-13",
        error_name="relative error",
        error=_error_of_moments,
        tolerance=1e-8,
        reference=Peer("scipy, RK45 by hand", _plain_moments),
        peers=(
            Peer("torchdiffeq, dopri5", _torch_moments, "torchdiffeq"),
            Peer(
                "diffrax, Dopri8",
                Elsewhere("mean_field_moments", _moment_inputs),
                "diffrax",
            ),
        ),
    ),
    Case(
        name="densities of the mean field",
        module="mean_field",
        kernel="mean_field",
        measures="Densities of both weights, each in the mean field of the other.",
        size_name="cells",
        sizes=(100, 200, 400, 800),
        setup=_densities,
        exact="normal densities with integrated moments",
        error_name="L1 distance",
        error=_error_of_densities,
        tolerance=1.2e-4,
        order=2.0,
        reference=Peer("scipy, banded implicit steps", _plain_densities),
    ),
)
