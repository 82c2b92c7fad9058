"""Random networks of infinite size: the chaotic orbit and its exponent."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import brentq

from benchmarks.harness import Case, Peer, Run
from fpbook.dynamic_mean_field import mean_field_dynamics

Array = NDArray[np.float64]

LONGEST = 60.0


def _dynamics(gain: int) -> Run:
    def run() -> tuple[float, float]:
        found = mean_field_dynamics(float(gain), longest=LONGEST)
        return found.variance, found.lyapunov

    return run


# --- the plain way ------------------------------------------------------------------

NODES, COVARIANCES, LAGS = 60, 300, 6_000
"""Nodes of averages, covariances of the force, lags of the eigenproblem."""
TAIL = 1e-4
"""Part of the variance below which the autocorrelation decays exponentially."""


def _plain_dynamics(gain: int) -> Run:
    return lambda: _on_lags(float(gain), NODES * gain, LAGS)


def _on_lags(g: float, nodes: int, lags: int) -> tuple[float, float]:
    """Tabulate the force, integrate in time, and diagonalise on equidistant lags."""
    z = np.linspace(-9, 9, nodes)
    weights = np.exp(-(z**2) / 2)
    weights /= weights.sum()

    def height(variance: float) -> float:
        primitive = np.log(np.cosh(variance**0.5 * z))
        spread = weights @ (primitive - weights @ primitive) ** 2
        return float(g**2 * spread - variance**2 / 2)

    variance = float(brentq(height, (g - 1) / 2, g**2, xtol=1e-14))
    c = variance * np.sin(np.linspace(0, np.pi / 2, COVARIANCES)) ** 2
    outputs, slopes = [], []
    for shared in c:
        own = (variance - shared) ** 0.5
        phi = np.tanh(np.add.outer(shared**0.5 * z, own * z))
        outputs.append(weights @ (phi @ weights) ** 2)
        slopes.append(weights @ ((1 - phi**2) @ weights) ** 2)
    force = CubicSpline(c, g**2 * np.array(outputs) - c)
    potential = CubicSpline(c, g**2 * np.array(slopes))

    def velocity(_: float, y: Array) -> list[float]:
        return [y[1], -float(force(y[0]))]

    def arrived(_: float, y: Array) -> float:
        return float(y[0] - TAIL * variance)

    arrived.terminal = True  # type: ignore[attr-defined]  # read by solve_ivp
    options = {"rtol": 1e-11, "atol": 1e-13, "dense_output": True}
    start = [variance, 0.0]
    path = solve_ivp(velocity, (0, 200), start, "DOP853", events=arrived, **options)
    end, (last, slope) = path.t[-1], path.y[:, -1]
    times, h = np.linspace(0, LONGEST, lags, retstep=True)
    delta = path.sol(np.minimum(times, end))[0]
    delta = np.where(times < end, delta, last * np.exp(slope / last * (times - end)))
    diagonal = 2 / h**2 + 1 - potential(np.minimum(delta, variance))
    # Even functions: the first of them counts once, all others twice.
    beside = np.full(lags - 1, -1 / h**2)
    beside[0] *= 2**0.5
    lowest = eigh_tridiagonal(diagonal, beside, True, "i", (0, 0))
    return variance, float((1 - lowest[0]) ** 0.5 - 1)


# --- error --------------------------------------------------------------------------


@cache
def _exact(gain: int) -> tuple[float, float]:
    """The plain way with the error of its lags, of second order, extrapolated away."""
    nodes = 2 * NODES * gain
    variance, coarse = _on_lags(float(gain), nodes, LAGS + 1)
    _, fine = _on_lags(float(gain), nodes, 2 * LAGS + 1)
    return variance, fine + (fine - coarse) / 3


def _error(found: tuple[float, float], gain: int) -> float:
    pairs = zip(found, _exact(gain), strict=True)
    return max(abs(one / other - 1) for one, other in pairs)


CASES = (
    Case(
        name="chaos of infinite networks",
        module="dynamic_mean_field",
        kernel="mean_field_dynamics",
        measures="Variance and largest Lyapunov exponent at the gain g.",
        size_name="gains",
        sizes=(2, 3, 4, 6, 8),
        setup=_dynamics,
        exact="the plain way, extrapolated in its lags",
        error_name="relative error",
        error=_error,
        tolerance=1e-5,
        reference=Peer("scipy, orbit in time and lags", _plain_dynamics),
    ),
)
