"""Annealed order parameters of random networks, for many points at once."""

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root

from benchmarks.harness import Case, Peer, Run
from fpbook.annealed import paramagnet

Array = NDArray[np.float64]

GAMMAS = np.array([0.0, 0.2, 0.5, 0.8, 1.0])
TEMPERATURES = np.array([1e-1, 1e-2, 1e-3, 1e-4])
RUNGS = 10 ** np.arange(1, -4.1, -0.25)
FIRST = np.array([np.log(0.8), 0.2, 0.0])

# --- order parameters ---------------------------------------------------------------


def averages(v: Array, g: float, gamma: float, T: float) -> Array:
    """Defects of the three equations as printed, by sums over 1201 points."""
    q, r, qhat = np.exp(v[0]), v[1], v[2]
    s, pull = T + g**2 * q, g**2 * gamma * r
    reach = 9 * s**0.5 + 1.2 * abs(pull)
    x = np.linspace(-reach, reach, 1201)
    phi = np.tanh(x)
    y = x - pull * phi
    exponent = qhat * phi**2 - y**2 / (2 * s)
    weight = np.exp(exponent - exponent.max())
    weight /= weight.sum()
    right = [
        weight @ phi**2 / q - 1,
        weight @ (y * phi) / s - r,
        g**2 / 2 * (weight @ y**2 / s**2 - 1 / s) - qhat,
    ]
    return np.array(right)


def _gains(points: int) -> Array:
    return np.linspace(0.2, 2.1, points // (len(GAMMAS) * len(TEMPERATURES)))


def _all_at_once(points: int) -> Run:
    gains = _gains(points)

    def run() -> Array:
        found = paramagnet(gains, GAMMAS[:, None, None], TEMPERATURES[:, None])
        return np.stack([found.q, found.r, found.qhat])

    return run


def _point_by_point(points: int) -> Run:
    """Powell's method, each point from the solution at the next higher temperature."""
    gains = _gains(points)

    def run() -> Array:
        found = np.empty((3, len(GAMMAS), len(TEMPERATURES), len(gains)))
        for i, gamma in enumerate(GAMMAS):
            for k, g in enumerate(gains):
                v = FIRST
                for T in RUNGS:
                    v = root(averages, v, (g, gamma, T), method="hybr", tol=1e-12).x
                    near = np.isclose(T, TEMPERATURES)
                    if near.any():
                        found[:, i, near.argmax(), k] = np.exp(v[0]), v[1], v[2]
        return found

    return run


def _defect(found: Array, points: int) -> float:
    """Largest defect of the equations of q and r, by sums over other points."""
    worst = 0.0
    at = itertools.product(GAMMAS, TEMPERATURES, _gains(points))
    for (gamma, T, g), (q, r, qhat) in zip(at, found.reshape(3, -1).T, strict=True):
        defects = averages(np.array([np.log(q), r, qhat]), g, gamma, T)
        worst = max(worst, float(np.abs(defects[:2]).max()))
    return worst


CASES = (
    Case(
        name="annealed order parameters",
        module="annealed",
        kernel="paramagnet",
        measures="Activity and responses at five symmetries >= 0, four temperatures.",
        size_name="points",
        sizes=(100, 200, 400, 800, 1_600),
        setup=_all_at_once,
        exact="the printed equations, by sums over 1201 points",
        error_name="largest defect",
        error=_defect,
        tolerance=1e-9,
        reference=Peer("scipy, point by point", _point_by_point, largest=100),
    ),
)
