"""Moments of one weight during training."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from benchmarks.harness import Case, Peer, Run
from fpbook.correlators import correlators

Array = NDArray[np.float64]

STIFFNESS, TEMPERATURE, ORDERS = 1.0, 0.5, (2, 4, 6)


def _times(count: int) -> Array:
    return np.geomspace(0.1, 4.0, count)


def _moments(count: int) -> Run:
    times = _times(count)
    return lambda: correlators({2: STIFFNESS}, TEMPERATURE, times, ORDERS)


CELLS, STEP = 6000, 0.002
"""Cells and longest time step of the plain way, for errors of 1e-5."""
REACH = 7.0
"""Half the box, in standard deviations at the end."""


def _edge() -> float:
    return float(REACH * (TEMPERATURE / STIFFNESS) ** 0.5)


def _plain_moments(count: int) -> Run:
    """Steps of Crank and Nicolson with central differences, from the first time on."""
    times, h = _times(count), 2 * _edge() / CELLS
    w = -_edge() + h * (np.arange(CELLS) + 0.5)

    def run() -> Array:
        faces = (w[1:] + w[:-1]) / 2
        drift, noise = -STIFFNESS * faces / (2 * h), TEMPERATURE / h**2
        right, left = noise + drift, noise - drift
        bands = np.zeros((3, CELLS))
        bands[0, 1:], bands[2, :-1] = left, right
        bands[1] = -np.append(right, 0) - np.append(0, left)
        # From a point, which a grid does not have: the first time is Gaussian.
        mass = np.exp(-(w**2) / (2 * _variance(times[0])))
        mass /= mass.sum()
        rows, before = [], times[0]
        for time in times:
            steps = math.ceil((time - before) / STEP)
            implicit = -(time - before) / max(steps, 1) / 2 * bands
            implicit[1] += 1
            for _ in range(steps):
                mass = 2 * solve_banded((1, 1), implicit, mass) - mass
            rows.append([mass @ w**n for n in ORDERS])
            before = time
        return np.array(rows)

    return run


FEW_CELLS, FEW_STEPS = 400, 100
"""Cells and steps from time to time where a step takes milliseconds."""


def _finite_volumes(count: int) -> Run:
    """Exponential fluxes and implicit steps of first order."""
    import fipy

    times = _times(count)

    def run() -> Array:
        mesh = fipy.Grid1D(nx=FEW_CELLS, dx=2 * _edge() / FEW_CELLS)
        mesh = mesh + [[-_edge()]]  # noqa: RUF005  (moves it)
        w = np.asarray(mesh.cellCenters.value[0])
        variance = _variance(times[0])
        density = fipy.CellVariable(mesh=mesh, value=np.exp(-(w**2) / (2 * variance)))
        density.setValue(density.value / density.value.sum())
        drift = fipy.FaceVariable(mesh=mesh, rank=1)
        drift.setValue(STIFFNESS * mesh.faceCenters)
        force = fipy.ExponentialConvectionTerm(coeff=drift)
        equation = fipy.TransientTerm() == fipy.DiffusionTerm(coeff=TEMPERATURE) + force
        rows, before = [], times[0]
        for time in times:
            steps = FEW_STEPS if time > before else 0
            for _ in range(steps):
                equation.solve(var=density, dt=(time - before) / steps)
            mass = np.asarray(density.value)
            rows.append([mass @ w**n for n in ORDERS])
            before = time
        return np.array(rows)

    return run


def _variance(time: float) -> float:
    decay = math.exp(-2 * STIFFNESS * time)
    return TEMPERATURE / STIFFNESS * (1 - decay)


def _error(found: Any, count: int) -> float:
    """Moments of a Gaussian: 1, 3 and 15 times powers of its variance."""
    variance = np.array([_variance(time) for time in _times(count)])
    exact = np.stack([variance, 3 * variance**2, 15 * variance**3], axis=1)
    return float(np.abs(np.asarray(found) / exact - 1).max())


CASES = (
    Case(
        name="correlators",
        module="correlators",
        kernel="correlators",
        measures="Moments 2, 4 and 6 of a weight in a quadratic loss, from a point.",
        size_name="times",
        sizes=(4, 8, 16, 32, 64),
        setup=_moments,
        exact="moments of the Ornstein-Uhlenbeck process",
        error_name="relative error",
        error=_error,
        tolerance=1e-5,
        reference=Peer("scipy, banded Crank-Nicolson", _plain_moments),
        peers=(Peer(f"FiPy, {FEW_STEPS} steps a time", _finite_volumes, "fipy", 4),),
    ),
)
