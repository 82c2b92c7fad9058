"""Order parameters of random networks where replicas overlap, and on a whole grid."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root

from benchmarks.cases.annealed import averages
from benchmarks.harness import Case, Peer, Run, Target
from fpbook.replicas import OrderParameters, order_parameters

Array = NDArray[np.float64]

# --- equations as printed -----------------------------------------------------------


@cache
def _fields(size: int) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(size)
    return nodes, weights / weights.sum()


def right_sides(p: Array, g: float, gamma: float, T: float, size: int) -> Array:
    """Averages that the six parameters have to equal, by sums over x, u and v.

    The law of x given u and v is that of the docstring of ``fpbook.replicas``.
    """
    q, Q, r, R, qhat, Qhat = p
    a, pull = T + g**2 * (q - Q), g**2 * gamma * (r - R)
    c, spread = g**2 * gamma * R, g * Q**0.5
    nodes, mass = _fields(size)
    u, v = (axis.reshape(-1, 1) for axis in np.meshgrid(nodes, nodes, indexing="ij"))
    weights = np.multiply.outer(mass, mass).ravel()
    reach = 8.5 * (T + g**2 * q) ** 0.5 + 1.2 * abs(pull)
    x = np.linspace(-reach, reach, 401)
    phi = np.tanh(x)
    y = x - pull * phi
    field = c / spread * v + (Qhat - (c / spread) ** 2) ** 0.5 * u
    law = -(y**2) / (2 * a) + spread / a * v * y + field * phi
    law = law + (qhat - Qhat / 2) * phi**2
    law = np.exp(law - law.max(axis=1, keepdims=True))
    law /= law.sum(axis=1, keepdims=True)
    mean_y, mean_phi = law @ y, law @ phi
    same = weights @ (law @ (y * phi))
    other = weights @ (mean_y * mean_phi)
    less = 2 * c * (same - other)
    within = weights @ (law @ y**2) - less
    across = weights @ mean_y**2 - less
    push = g**2 * Q / a**2
    common = c / a * (q - Q) + push * (same - other)
    both = push * (1 - 2 * (within - across) / a)
    return np.array(
        [
            weights @ (law @ phi**2),
            weights @ mean_phi**2,
            same / a - common,
            other / a - common,
            g**2 / 2 * (within / a**2 - 1 / a + both),
            g**2 * (across / a**2 + both),
        ]
    )


def _stacked(found: OrderParameters) -> Array:
    return np.stack([found.q, found.Q, found.r, found.R, found.qhat, found.Qhat])


# --- a line of temperatures ---------------------------------------------------------

GAIN, GAMMA = 2.0, -0.2
GUESS = np.array([0.48, 0.15, 0.5, 0.1, 0.5, 0.5])


def _temperatures(points: int) -> Array:
    return np.geomspace(0.1, 0.03, points)


def _along_a_line(points: int) -> Run:
    T = _temperatures(points)
    return lambda: _stacked(order_parameters(GAIN, GAMMA, T))


def _line_by_powell(points: int) -> Run:
    """Each point from the one before, the first from a guess."""

    def defect(p: Array, T: float) -> Array:
        with np.errstate(all="ignore"):
            return right_sides(p, GAIN, GAMMA, T, 24) - p

    def run() -> Array:
        p, found = GUESS, []
        for T in _temperatures(points):
            p = root(defect, p, (T,), method="hybr", tol=1e-10).x
            found.append(p)
        return np.stack(found, axis=1)

    return run


def _defect_on_the_line(found: Array, points: int) -> float:
    T = _temperatures(points)
    return max(
        float(np.abs(right_sides(p, GAIN, GAMMA, t, 48) - p).max())
        for p, t in list(zip(found.T, T, strict=True))[:: max(1, points // 4)]
    )


# --- the grid -----------------------------------------------------------------------

GAMMAS = np.array([-0.5, -0.35, -0.2, -0.1, 0.0, 0.2, 0.5, 0.8, 1.0])
COLD = np.array([1e-1, 1e-2, 1e-3, 1e-4])


def _grid(points: int) -> tuple[Array, Array, Array]:
    gains = np.linspace(0.2, 2.1, points // (len(GAMMAS) * len(COLD)))
    return gains, GAMMAS[:, None, None], COLD[:, None]


def _on_the_grid(points: int) -> Run:
    grid = _grid(points)
    return lambda: _stacked(order_parameters(*grid))


def _point_by_point(points: int) -> Run:
    """Every point alone, without the solutions next to it."""
    grid = [axis.ravel() for axis in np.broadcast_arrays(*_grid(points))]
    shape = np.broadcast_shapes(*(axis.shape for axis in _grid(points)))

    def run() -> Array:
        found = [
            _stacked(order_parameters(*point)) for point in zip(*grid, strict=True)
        ]
        return np.stack(found, axis=-1).reshape(6, *shape)

    return run


def _defect_on_the_grid(found: Array, points: int) -> float:
    """Of the three equations where the overlap is 0; the case above has the others."""
    g, gamma, T = np.broadcast_arrays(*_grid(points))
    worst = 0.0
    for place in zip(*np.nonzero(found[1] == 0), strict=True):
        q, _, r, _, qhat, _ = found[(slice(None), *place)]
        v = np.array([np.log(q), r, qhat])
        defects = averages(v, g[place], gamma[place], T[place])
        worst = max(worst, float(np.abs(defects[:2]).max()))
    return worst


CASES = (
    Case(
        name="overlapping replicas",
        module="replicas",
        kernel="order_parameters",
        measures=f"Six parameters at g = {GAIN:g}, gamma = {GAMMA:g}, falling T.",
        size_name="points",
        sizes=(4, 8, 16, 32, 64),
        setup=_along_a_line,
        exact="the printed equations, by sums over other points",
        error_name="largest defect",
        error=_defect_on_the_line,
        tolerance=1e-6,
        reference=Peer("scipy, Powell from point to point", _line_by_powell, largest=4),
    ),
    Case(
        name="grid of order parameters",
        module="replicas",
        kernel="order_parameters",
        measures="Gains, nine symmetries and four temperatures, overlapping or not.",
        size_name="points",
        sizes=(72, 180, 360, 720),
        setup=_on_the_grid,
        exact="the printed equations without overlap, by sums over 1201 points",
        error_name="largest defect",
        error=_defect_on_the_grid,
        tolerance=1e-8,
        reference=Peer("fpbook, point by point", _point_by_point, largest=72),
        target=Target(size=720, seconds=5.0),
    ),
)
